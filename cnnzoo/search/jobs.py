"""From parameters to runs: what a search hands to Hydra's launcher."""

import copy
import logging
import shlex
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

from hydra.core.plugins import Plugins
from hydra.core.utils import JobReturn
from hydra.errors import HydraException
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, open_dict, read_write
from omegaconf.errors import OmegaConfBaseException

from cnnzoo.config import to_plain
from cnnzoo.errors import UserError
from cnnzoo.results.configurations import differences, flatten
from cnnzoo.results.record import identity

log = logging.getLogger(__name__)


class Jobs:
    """Ordinary runs: the sweeper and the choice of `search` have no part in their configuration.

    `fixed` are the overrides, by key, that all of them have in common.
    """

    def __init__(self, fixed: Mapping[str, str], config: DictConfig, context: HydraContext, task: TaskFunction) -> None:
        self.context, self.task = context, task
        self.fixed = [override for key, override in fixed.items() if key.lstrip("+") != "search"]
        self.fixed_and_search = [*fixed.values()]
        self.config_of_search = config
        self.config = copy.deepcopy(config)
        of_sweep = ("hydra.sweeper", "hydra/sweeper", "hydra.mode")
        kept = [text for text in config.hydra.overrides.hydra if not text.lstrip("+~").startswith(of_sweep)]
        with read_write(self.config), open_dict(self.config):
            self.config.hydra.overrides.hydra = [*kept, "hydra.mode=MULTIRUN"]

    def compose(self, parameters: Sequence[str]) -> dict[str, Any]:
        """The configuration of one run."""
        config = to_plain(self.context.config_loader.load_sweep_config(self.config, [*self.fixed, *parameters]))
        if config["dataset"]["val_size"] == 0:
            raise UserError("dataset.val_size=0: a search chooses by validation accuracy; hold some images out for it.")
        return config

    def check_search(self, parameters: Sequence[str]) -> None:
        """Raises UserError if the choice of `search` sets more than Hydra's own part: a run would not have it."""
        if self.fixed == self.fixed_and_search:
            return
        loader = self.context.config_loader
        with_search = loader.load_sweep_config(self.config_of_search, [*self.fixed_and_search, *parameters])
        one, other = (dict(flatten(identity(each))) for each in (self.compose(parameters), to_plain(with_search)))
        if keys := differences(one, other):
            raise UserError(
                f"search={self.config_of_search.hydra.runtime.choices.search} sets {', '.join(keys)}:"
                " move that into its hydra.sweeper.params, so that a trial is a run like any other."
            )

    def command_line(self, parameters: Sequence[str]) -> str:
        """What does one of the runs by itself."""
        return "python -m cnnzoo.run " + shlex.join([*self.fixed, *parameters])

    def launch(self, jobs: Mapping[int, Sequence[str]]) -> dict[int, float | None]:
        """The validation accuracies of runs with these overrides beside the fixed ones, None where a run has failed."""
        accuracies: dict[int, float | None] = dict.fromkeys(jobs)
        composed = {}
        for number, overrides in jobs.items():
            try:
                self.compose(overrides)
            except (UserError, HydraException, OmegaConfBaseException) as error:
                log.warning("trial %d: %s", number, error.__cause__ or error)
            else:
                composed[number] = [*self.fixed, *overrides]
        if composed:
            returns = self._launcher.launch([*composed.values()], initial_job_idx=min(composed))
            accuracies |= {number: _accuracy(number, job) for number, job in zip(composed, returns, strict=True)}
        return accuracies

    @cached_property
    def _launcher(self) -> Launcher:
        return Plugins.instance().instantiate_launcher(
            hydra_context=self.context, task_function=self.task, config=self.config
        )


def _accuracy(number: int, job: JobReturn) -> float | None:
    try:
        return job.return_value
    except Exception as error:  # whatever the run has died of; the others go on
        log.warning("trial %d: %s: %s", number, type(error).__name__, error)
        return None
