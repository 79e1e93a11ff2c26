"""The trial that a run is: how its process, on whatever machine, comes to know it, and what it tells the study."""

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from hydra.core.override_parser.types import Quote, QuotedString

from cnnzoo.config.targets import call_target

if TYPE_CHECKING:
    import optuna

_VARIABLE = "CNNZOO_TRIAL"


@dataclass(frozen=True)
class Trial:
    """One trial of a study, in words that travel to other processes; `pruner` is its configuration or None."""

    storage: str
    study: str
    number: int
    pruner: dict[str, Any] | None

    @classmethod
    def of_this_process(cls) -> "Trial | None":
        """The trial that a sweeper has handed to this job; None for a run that belongs to no search."""
        text = os.environ.get(_VARIABLE)
        return cls(**json.loads(text)) if text else None

    def override(self) -> str:
        """What hands the trial to a job: Hydra sets its environment while it runs, whichever launcher that takes."""
        text = QuotedString(json.dumps(asdict(self)), Quote.single).with_quotes()
        return f"++hydra.job.env_set.{_VARIABLE}={text}"

    @cached_property
    def _trial(self) -> "optuna.Trial":
        import optuna

        pruner = make_pruner(self.pruner)
        study = optuna.load_study(study_name=self.study, storage=self.storage, pruner=pruner)
        return optuna.Trial(study, study.get_trials(deepcopy=False)[self.number]._trial_id)

    def report(self, accuracies: Mapping[int, float]) -> bool:
        """Tells the validation accuracies after epochs, counted from 1; returns whether to stop.

        What was told before, by a process that died after it, is not told again.
        """
        known = self._trial.storage.get_trial(self._trial._trial_id).intermediate_values
        for epoch, accuracy in accuracies.items():
            if epoch not in known:
                self._trial.report(accuracy, epoch)
        return self._trial.should_prune()

    def prune(self) -> None:
        """Ends the trial; its value is the last accuracy that was reported."""
        import optuna

        self._trial.study.tell(self.number, state=optuna.trial.TrialState.PRUNED)

    @property
    def is_pruned(self) -> bool:
        import optuna

        return self._trial.storage.get_trial(self._trial._trial_id).state == optuna.trial.TrialState.PRUNED


def make_pruner(node: Mapping[str, Any] | None) -> "optuna.pruners.BasePruner":
    """The pruner of a search's configuration; None never prunes.

    Raises:
        UserError: there is no such pruner, or it refuses its arguments.
    """
    return call_target("hydra.sweeper.pruner", node or {"_target_": "optuna.pruners.NopPruner"})
