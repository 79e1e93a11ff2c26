"""The Optuna study of a search: one for each thing that is searched."""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, distribution_to_json

from cnnzoo.config import Config, identity, instantiate
from cnnzoo.errors import UserError
from cnnzoo.results.settings import differences, flatten

_ATTRIBUTE = "cnnzoo"  # of the study: what it searches


class _Study(optuna.Study):
    def stop(self) -> None:
        """Do nothing: a sampler calls this when it has tried everything, but n_trials decides."""


def search_definition(space: Mapping[str, BaseDistribution], config: Config) -> dict[str, Any]:
    """What makes a search this one: the values to try, and every other setting that changes a run's result."""
    settings = {key: value for key, value in flatten(identity(config)).items() if key not in space}
    return settings | {key: json.loads(distribution_to_json(space[key])) for key in space}


def default_name(config: Config, definition: Mapping[str, Any]) -> str:
    """`<data set>-<network>-<hash>`, the hash of the search's definition."""
    digest = hashlib.sha256(json.dumps(definition, sort_keys=True).encode()).hexdigest()[:10]
    return f"{config.dataset.name}-{config.name}-{digest}"


def open_study(name: str, storage: str, definition: Mapping[str, Any]) -> optuna.Study:
    """The study of that name, a new one where there is none.

    Raises:
        UserError: it searches something else, or the storage cannot be reached.
    """
    try:
        optuna.create_study(study_name=name, storage=storage, direction="maximize", load_if_exists=True)
        study = _Study(name, storage)
    except Exception as error:  # SQLAlchemy's and the database drivers' own
        reason = str(error).split("\n")[0]
        raise UserError(f"hydra.sweeper.storage={storage}: {type(error).__name__}: {reason}") from error
    known = study.user_attrs.get(_ATTRIBUTE, {})
    if not known and not study.get_trials(deepcopy=False):
        study.set_user_attr(_ATTRIBUTE, definition)
    elif keys := differences(known, definition):
        raise UserError(
            f"The study '{name}' in {storage} searches something else; these settings differ: {', '.join(keys)}."
            " Give this search a name of its own: hydra.sweeper.study_name=NAME."
        )
    return study


def make_sampler(node: Mapping[str, Any] | None, number: int) -> optuna.samplers.BaseSampler | None:
    """The sampler of a search's configuration for trial `number`; None is Optuna's own choice.

    A study keeps its trials but not its sampler's random state. With a seed of its own for each trial, a search that
    was interrupted continues with the parameters that it would have drawn anyway, instead of its first ones.

    Raises:
        UserError: there is no such sampler, or it refuses its arguments.
    """
    if node is None:
        return None
    # the order of a grid and a quasi-random sequence depend on one seed throughout
    if isinstance(node.get("seed"), int) and not node["_target_"].endswith(("GridSampler", "QMCSampler")):
        node = {**node, "seed": node["seed"] + number}
    return instantiate(optuna.samplers.BaseSampler, "hydra.sweeper.sampler", node)
