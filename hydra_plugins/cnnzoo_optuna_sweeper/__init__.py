"""Hydra's door to `cnnzoo.search`: Hydra loads sweepers from the package `hydra_plugins` alone.

Hydra imports this module at every start, so what costs time is imported when a search begins.
"""

import importlib.util
from typing import Any

from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf

from cnnzoo.errors import UserError


class OptunaSweeper(Sweeper):
    """Launches the trials of an Optuna study; `conf/hydra/sweeper/optuna.yaml` has the settings."""

    def __init__(self, **settings: Any) -> None:
        self.settings = OmegaConf.to_container(OmegaConf.create(settings), resolve=True)

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        self.hydra_context, self.task_function, self.config = hydra_context, task_function, config

    def sweep(self, arguments: list[str]) -> None:
        if importlib.util.find_spec("optuna") is None:
            raise UserError('hydra/sweeper=optuna needs Optuna: pip install "cnnzoo[optuna]"')
        from cnnzoo.search.sweep import search

        search(self.settings, arguments, self.config, self.hydra_context, self.task_function)
