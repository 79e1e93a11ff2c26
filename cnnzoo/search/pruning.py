"""A search's word on a training while it runs."""

import pytorch_lightning as pl

from cnnzoo.search.trial import Trial
from cnnzoo.training.callbacks import EpochLog


class Pruning(pl.Callback):
    """Reports each validated epoch to a trial, and stops a training that the trial's pruner gives up.

    A training that goes on from a checkpoint reports the epochs before it first: they may have been another trial's.
    After the last epoch nothing is left to save, so the run is finished.
    """

    def __init__(self, trial: Trial) -> None:
        self.trial = trial

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._report(trainer)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._report(trainer)

    def _report(self, trainer: pl.Trainer) -> None:
        stop = False
        if trainer.is_global_zero:
            rows = next(c.rows for c in trainer.callbacks if isinstance(c, EpochLog))  # type: ignore[attr-defined]
            validated = {row["epoch"] + 1: row["val_accuracy"] for row in rows if row["val_accuracy"] is not None}
            stop = self.trial.report(validated) and len(rows) < (trainer.max_epochs or 0)
            if stop:
                self.trial.prune()
        trainer.should_stop |= trainer.strategy.reduce_boolean_decision(stop, all=False)
