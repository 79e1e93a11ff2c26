"""A sweep over every combination of the values on a command line."""

from collections.abc import Mapping, Sequence
from itertools import product
from typing import Any

from hydra.core.config_loader import ConfigLoader
from hydra.core.object_type import ObjectType
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Glob, Override
from hydra.types import HydraContext
from omegaconf import DictConfig

from cnnzoo.config.command import Reported
from cnnzoo.console import set_up_logging
from cnnzoo.errors import UserError
from cnnzoo.sweep.job import compose_job, configured_overrides
from cnnzoo.sweep.loop import report_failures, run_jobs, suggest_comparison


def sweep(settings: Mapping[str, Any], arguments: Sequence[str], config: DictConfig, context: HydraContext) -> None:
    """Do the runs of a grid: compose them, skip the finished, launch the rest, watch, report.

    Args:
        settings: `hydra.sweeper`.
        arguments: what was typed.
        config: composed from what was typed, sweeps left out.

    Raises:
        UserError: a run cannot be composed, or the launcher does not work here.
        Reported: runs have failed.
    """
    set_up_logging()
    loader = context.config_loader
    params = configured_overrides(settings.get("params"))
    jobs = [compose_job(overrides, config, loader) for overrides in combinations([*params, *arguments], loader)]
    if not jobs:
        raise UserError("The sweep has no jobs: glob(...) matches no choice of its group.")
    run_jobs(jobs, config, context)
    suggest_comparison(jobs)
    if report_failures(jobs):
        raise Reported


def combinations(overrides: Sequence[str], loader: ConfigLoader) -> list[tuple[str, ...]]:
    """Every combination of the values of `overrides`; of one key, the last override holds."""
    by_key: dict[str, list[str]] = {}
    for override in OverridesParser.create(config_loader=loader).parse_overrides(list(overrides)):
        key = override.get_key_element()
        if not override.is_sweep_override():
            by_key[key] = [str(override.input_line)]
        elif not override.is_discrete_sweep():
            raise UserError(f"{override.input_line}: an interval has no list of values; hydra/sweeper=optuna searches.")
        else:
            by_key[key] = [f"{key}={value}" for value in _values(override, loader)]
    return list(product(*by_key.values()))


def _values(override: Override, loader: ConfigLoader) -> list[str]:
    value = override.value()
    if isinstance(value, Glob):  # Hydra's own does not look into folders: experiment=glob(uvadlc/*)
        return value.filter(choices(override.key_or_group, loader))
    return list(override.sweep_string_iterator())


def choices(group: str, loader: ConfigLoader) -> list[str]:
    """All choices of a group, those in folders as `folder/choice`."""
    found = list(loader.get_group_options(group))
    for folder in loader.get_group_options(group, ObjectType.GROUP):
        found += [f"{folder}/{choice}" for choice in choices(f"{group}/{folder}", loader)]
    return sorted(set(found))
