"""What happens around a sweep's launcher, whichever it is: every job is composed before the first begins, from the
configuration files as they are then, and what fails comes back as an account and stops nothing else."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest.mock import patch

from hydra.core.config_loader import ConfigLoader
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, OverrideType
from hydra.core.plugins import Plugins
from hydra.core.utils import JobReturn, JobStatus
from hydra.plugins.launcher import Launcher
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from cnnzoo.config.check import check
from cnnzoo.config.composition import freeze, to_plain
from cnnzoo.errors import UserError


@dataclass(frozen=True)
class Job:
    """One job of a sweep: what its command line adds, and its whole configuration in plain containers."""

    overrides: Sequence[str]
    config: Mapping[str, Any]

    @property
    def settings(self) -> tuple[str, ...]:
        """The overrides that make the run what it is; Hydra's own do not."""
        return tuple(text for text in self.overrides if not text.lstrip("+~").startswith(("hydra.", "hydra/")))


Launch = Callable[[Sequence[Job]], Sequence[JobReturn]]
"""Does jobs; returns what came of each, in their order."""

Around = Callable[[Sequence[Job], Launch, DictConfig], Sequence[JobReturn]]
"""What a command does around a launch, `hydra` being Hydra's part of the configuration; returns all jobs' returns."""


def do_all(jobs: Sequence[Job], launch: Launch, hydra: DictConfig) -> Sequence[JobReturn]:
    return launch(jobs)


@dataclass
class Account:
    """What the sweeps of one command line came to."""

    jobs: int | None = None  # None: there was no sweep
    failures: list[tuple[Sequence[str], Exception]] = field(default_factory=list)


@contextmanager
def accounted(around: Around) -> Iterator[Account]:
    """Within the block, every launcher that Hydra makes keeps this account and works within `around`."""
    account = Account()
    instantiate_launcher = Plugins.instantiate_launcher

    def wrapped(
        plugins: Plugins, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig
    ) -> Launcher:
        freeze(hydra_context.config_loader, Path(config.paths.outputs, ".sweeps"))  # type: ignore[arg-type]
        launcher = instantiate_launcher(plugins, hydra_context, task_function, config)
        return _AccountingLauncher(launcher, hydra_context, config, around, account)

    with (
        patch.object(Plugins, "instantiate_launcher", wrapped),
        # composes every job just to see whether that works; so does _AccountingLauncher, which keeps what it composed
        patch.object(Sweeper, "validate_batch_is_legal", lambda sweeper, jobs: None),
    ):
        yield account


class Composer:
    """Composes the jobs of a sweep, as its launcher will.

    Hydra takes some 60 ms each. Of jobs that differ in values alone, such as seeds, only the first is composed anew;
    the others are that with their values set, a few milliseconds each.
    """

    def __init__(self, loader: ConfigLoader, config: DictConfig) -> None:
        self.loader, self.config = loader, config
        self.parser = OverridesParser.create(config_loader=loader)
        self.parsed: dict[str, tuple[Override, bool]] = {}
        self.composed: dict[tuple[str, ...], DictConfig] = {}

    def __call__(self, overrides: Sequence[str]) -> dict[str, Any]:
        parsed = [self._parse(text) for text in overrides]
        alike = tuple(one.key_or_group if is_value else str(one.input_line) for one, is_value in parsed)
        if (cfg := self.composed.get(alike)) is not None:
            try:
                for one, is_value in parsed:
                    if is_value:
                        OmegaConf.update(cfg, one.key_or_group, one.value(), merge=True)
                plain = to_plain(cfg)
                check(plain)
                return plain
            except (OmegaConfBaseException, UserError):
                pass  # it is composed to get what is said then
        cfg = self.composed[alike] = self.loader.load_sweep_config(self.config, list(overrides))
        return to_plain(cfg)

    def _parse(self, text: str) -> tuple[Override, bool]:
        """An override, and whether it does nothing but set a value."""
        if text not in self.parsed:
            (one,) = self.parser.parse_overrides([text])
            group = self.loader.get_group_options(one.key_or_group)
            # what is composed around these depends on them
            special = one.key_or_group in ("name", "model._target_") or one.key_or_group.startswith("hydra.")
            is_value = one.type == OverrideType.CHANGE and not group and not special and _is_plain(one.value())
            self.parsed[text] = one, is_value
        return self.parsed[text]


def _is_plain(value: Any) -> bool:
    if isinstance(value, list):
        return all(map(_is_plain, value))
    return value is None or isinstance(value, int | float) or (isinstance(value, str) and "${" not in value)


class _AccountingLauncher(Launcher):
    def __init__(
        self, launcher: Launcher, hydra_context: HydraContext, config: DictConfig, around: Around, account: Account
    ) -> None:
        self.launcher, self.loader, self.config = launcher, hydra_context.config_loader, config
        self.around, self.account = around, account
        account.jobs = 0

    def setup(self, **context: Any) -> None:
        self.launcher.setup(**context)

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        """Failed jobs return None here: a sweeper would stop at the first."""
        assert self.account.jobs is not None
        self.account.jobs += len(job_overrides)
        compose = Composer(self.loader, self.config)
        jobs = [Job(tuple(overrides), compose(overrides)) for overrides in job_overrides]
        returns = self.around(jobs, lambda some: self._launch(some, initial_job_idx), self.config.hydra)
        for job, returned in zip(jobs, returns, strict=True):
            if returned.status != JobStatus.COMPLETED:
                self.account.failures.append((job.settings, returned._return_value))
                returned.status, returned._return_value = JobStatus.COMPLETED, None
        return returns

    def _launch(self, jobs: Sequence[Job], initial_job_idx: int) -> Sequence[JobReturn]:
        return self.launcher.launch([job.overrides for job in jobs], initial_job_idx) if jobs else []
