"""The trial of an Optuna study that a run evaluates, as the run's process sees it."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from cnnzoo.config import instantiate

if TYPE_CHECKING:
    import optuna

    from cnnzoo.training.pruning import Pruning


@dataclass(frozen=True)
class Trial:
    """One trial of a study, in plain values that go into a job's file; `pruner` is its configuration or None."""

    storage: str
    study: str
    number: int
    pruner: dict[str, Any] | None

    def pruning(self) -> "Pruning":
        """The callback that reports a training to this trial."""
        from cnnzoo.training.pruning import Pruning

        return Pruning(self.report)

    def report(self, accuracies: Mapping[int, float]) -> bool:
        """Report validation accuracies by epoch, counted from 1; return whether the pruner gives the trial up."""
        storage, study, trial_id = self._handles
        known = storage.get_trial(trial_id).intermediate_values  # reported by a process that died afterwards
        for epoch, accuracy in accuracies.items():
            if epoch not in known:
                storage.set_trial_intermediate_value(trial_id, epoch, accuracy)
        return study.pruner.prune(study, storage.get_trial(trial_id))

    @cached_property
    def _handles(self) -> "tuple[optuna.storages.BaseStorage, optuna.Study, int]":
        import optuna

        storage = optuna.storages.get_storage(self.storage)
        study = optuna.load_study(study_name=self.study, storage=storage, pruner=make_pruner(self.pruner))
        study_id = storage.get_study_id_from_name(self.study)
        return storage, study, storage.get_trial_id_from_study_id_trial_number(study_id, self.number)


def make_pruner(node: Mapping[str, Any] | None) -> "optuna.pruners.BasePruner":
    """The pruner of a search's configuration; None never prunes.

    Raises:
        UserError: there is no such pruner, or it refuses its arguments.
    """
    from optuna.pruners import BasePruner, NopPruner

    return instantiate(BasePruner, "hydra.sweeper.pruner", node) if node else NopPruner()
