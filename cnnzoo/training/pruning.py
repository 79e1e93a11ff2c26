"""Stop a training that a search gives up, as a Lightning callback."""

from collections.abc import Callable, Mapping

import pytorch_lightning as pl
import torch

from cnnzoo.training.callbacks import MetricsCsv


class Pruning(pl.Callback):
    """Report the validated epochs, and stop the training when `report` returns True before the last epoch.

    Args:
        report: takes the validation accuracy of each epoch so far, by its number counted from 1. In a resumed training
            those of before are among them, as nobody may have reported them.
    """

    def __init__(self, report: Callable[[Mapping[int, float]], bool]) -> None:
        self.report = report
        # shared with the processes that train, where there are several
        self._pruned = torch.zeros((), dtype=torch.bool).share_memory_()  # type: ignore[no-untyped-call]

    @property
    def pruned(self) -> bool:
        """Whether the training was stopped."""
        return bool(self._pruned)

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._report(trainer)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._report(trainer)

    def _report(self, trainer: pl.Trainer) -> None:
        stop = False
        if trainer.is_global_zero:
            callbacks: list[pl.Callback] = trainer.callbacks  # type: ignore[attr-defined]
            rows = next(callback.rows for callback in callbacks if isinstance(callback, MetricsCsv))
            validated = {row["epoch"] + 1: row["val_accuracy"] for row in rows if row["val_accuracy"] is not None}
            stop = self.report(validated) and len(rows) < (trainer.max_epochs or 0)
        if trainer.strategy.reduce_boolean_decision(stop, all=False):
            trainer.should_stop = True
            self._pruned.fill_(True)
