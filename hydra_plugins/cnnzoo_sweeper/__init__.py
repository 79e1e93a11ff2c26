"""Hydra sweeper plugins: doors to `cnnzoo.sweep`. Hydra finds sweepers in the package `hydra_plugins` alone.

Hydra imports this module at every start, so what takes time is imported when a sweep begins.
"""

from typing import Any

from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf


class CnnzooSweeper(Sweeper):
    """Run every combination of the values on the command line; `conf/hydra/sweeper/cnnzoo.yaml`."""

    def __init__(self, **settings: Any) -> None:
        """Take `hydra.sweeper`."""
        self.settings: dict[str, Any] = OmegaConf.to_container(OmegaConf.create(settings), resolve=True)  # type: ignore[assignment]

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        self.context, self.master_config = hydra_context, config

    def sweep(self, arguments: list[str]) -> None:
        from cnnzoo.sweep.grid import sweep

        sweep(self.settings, arguments, self.master_config, self.context)


class OptunaSweeper(CnnzooSweeper):
    """Run the trials of an Optuna study; `conf/hydra/sweeper/optuna.yaml`.

    Hydra's own Optuna sweeper waits for a whole batch, keeps no study between commands, and excludes Optuna 5.
    """

    def sweep(self, arguments: list[str]) -> None:
        from cnnzoo.sweep.search import search

        search(self.settings, arguments, self.master_config, self.context)
