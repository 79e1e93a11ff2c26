"""Hydra launcher plugins: doors to `cnnzoo.sweep.submission`. Hydra finds them in the package `hydra_plugins` alone.

Hydra imports this module at every start, so what takes time is imported when a sweep begins.
"""

from collections.abc import Sequence
from typing import Any, ClassVar

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.utils import JobReturn
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf


class SlurmLauncher(Launcher):
    """Do runs as jobs of SLURM; `conf/hydra/launcher/submitit_slurm.yaml`.

    Hydra's own waits for what submitit returns, one job after another: a job that is cancelled ends the sweep for all,
    or, where SLURM keeps no accounts, none.
    """

    cluster: ClassVar[str] = "slurm"

    def __init__(self, **settings: Any) -> None:
        """Take `hydra.launcher`."""
        self.settings: dict[str, Any] = OmegaConf.to_container(OmegaConf.create(settings), resolve=True)  # type: ignore[assignment]

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        self.task_function = task_function

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        """Return when every job has ended; what became of the runs is in their folders."""
        from cnnzoo.sweep.submission import launch

        parser = OverridesParser.create()
        parsed = [parser.parse_overrides(list(overrides)) for overrides in job_overrides]
        configs = [OmegaConf.create({each.key_or_group: each.value() for each in overrides}) for overrides in parsed]
        launch(self.cluster, self.settings, self.task_function, configs)
        return []


class LocalLauncher(SlurmLauncher):
    """Do runs as processes of this machine; `conf/hydra/launcher/submitit_local.yaml`."""

    cluster = "local"
