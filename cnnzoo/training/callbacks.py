"""What happens at the end of an epoch beside training: figures written, shown and checked."""

import csv
import logging
import math
import statistics
import time
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from cnnzoo.console import console
from cnnzoo.errors import UserError
from cnnzoo.results.record import write_atomically
from cnnzoo.training.classifier import Classifier

log = logging.getLogger(__name__)

COLUMNS = (
    "epoch", "step", "learning_rate", "train_loss", "train_accuracy", "val_loss", "val_accuracy",
    "epoch_seconds", "images_per_second",
)  # fmt: skip


class EpochLog(pl.Callback):
    """One row of `metrics.csv` an epoch, the same figures to the loggers, and a line to the log.

    `epoch_seconds` is the time from the epoch's first training batch to its last one done, validation apart, and
    `images_per_second` follows from it. The rows travel in the checkpoint, so a resumed run continues them and
    drops what was written after the checkpoint.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.rows: list[dict[str, Any]] = []
        self.started = 0.0
        self.seconds = 0.0
        self.learning_rate = 0.0

    @property
    def train_seconds(self) -> float:
        return sum(row["epoch_seconds"] for row in self.rows)

    @property
    def images_per_second(self) -> float:
        """Median over the epochs, so that compilation in the first one does not count."""
        return statistics.median(row["images_per_second"] for row in self.rows)

    def state_dict(self) -> dict[str, Any]:
        return {"rows": self.rows}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.rows = state_dict["rows"]

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._write_all()

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.started = time.perf_counter()

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if batch_idx + 1 == trainer.num_training_batches:
            if pl_module.device.type == "cuda":
                torch.cuda.synchronize(pl_module.device)
            self.seconds = time.perf_counter() - self.started

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        assert isinstance(pl_module, Classifier)
        loss, accuracy = pl_module.train_mean.compute()
        rate = pl_module.train_mean.images * trainer.world_size / self.seconds
        every = trainer.check_val_every_n_epoch or 1
        validated = (trainer.current_epoch + 1) % every == 0
        val_loss, val_accuracy = pl_module.val_mean.compute() if validated else (None, None)
        row: dict[str, Any] = {
            "epoch": trainer.current_epoch,
            "step": trainer.global_step,
            "learning_rate": self.learning_rate,
            "train_loss": loss,
            "train_accuracy": accuracy,
            "val_loss": val_loss,
            "val_accuracy": val_accuracy,
            "epoch_seconds": self.seconds,
            "images_per_second": rate,
        }
        self.rows.append(row)
        self._append(row)
        shown = ("learning_rate", "train_loss", "train_accuracy", "epoch_seconds", "images_per_second")
        pl_module.log_dict({name: row[name] for name in shown})
        log.info("%s", describe(row, trainer.max_epochs))
        if not math.isfinite(loss):
            raise UserError(
                f"The training loss is {loss} in epoch {trainer.current_epoch + 1}: the weights have exploded."
                " Lower optimizer.lr, or set trainer.gradient_clip_val=1."
            )

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        if batch_idx == 0:  # the rate that the epoch begins with; at its end the schedule may have moved on
            self.learning_rate = float(trainer.optimizers[0].param_groups[0]["lr"])

    def _write_all(self) -> None:
        lines = [",".join(COLUMNS), *(",".join(map(_cell, row.values())) for row in self.rows)]
        write_atomically(self.path, "\n".join(lines) + "\n")

    def _append(self, row: dict[str, Any]) -> None:
        with self.path.open("a", newline="") as file:
            csv.writer(file, lineterminator="\n").writerow(map(_cell, row.values()))


def _cell(value: Any) -> str:
    return "" if value is None else repr(value)


def describe(row: dict[str, Any], max_epochs: int | None) -> str:
    """An epoch in one line."""
    validation = "" if row["val_accuracy"] is None else f"  val {row['val_loss']:.4f} {100 * row['val_accuracy']:.2f} %"
    return (
        f"epoch {row['epoch'] + 1}/{max_epochs}  train {row['train_loss']:.4f} {100 * row['train_accuracy']:.2f} %"
        f"{validation}  {row['epoch_seconds']:.1f} s  {row['images_per_second']:.0f} images/s"
    )


class ProgressBar(pl.Callback):
    """One bar for the whole run, in steps, with the time left."""

    def __init__(self) -> None:
        self.progress = Progress(
            TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(),
            TextColumn("left"), TimeRemainingColumn(), console=console, transient=True, refresh_per_second=4,
        )  # fmt: skip
        self.task: TaskID | None = None
        self.shown = 0.0

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.progress.start()
        total = int(trainer.estimated_stepping_batches)
        self.task = self.progress.add_task("training", total=total, completed=trainer.global_step)

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        now = time.monotonic()
        if self.task is not None and now - self.shown > 0.25:
            self.shown = now
            self.progress.update(
                self.task,
                completed=trainer.global_step,
                description=f"epoch {trainer.current_epoch + 1}/{trainer.max_epochs}",
            )

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.progress.stop()

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        self.progress.stop()
