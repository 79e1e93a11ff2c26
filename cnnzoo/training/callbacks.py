"""What happens at the end of an epoch beside training: figures written, shown and checked."""

import logging
import math
import multiprocessing
import time
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from cnnzoo.console import console, log_file, set_up_logging
from cnnzoo.errors import UserError
from cnnzoo.results.record import write_atomically
from cnnzoo.training.classifier import Classifier
from cnnzoo.training.devices import peak_memory, reset_peak_memory, synchronize

log = logging.getLogger(__name__)

COLUMNS = (
    "epoch", "step", "learning_rate", "train_loss", "train_accuracy", "val_loss", "val_accuracy",
    "epoch_seconds", "images_per_second", "peak_memory_bytes",
)  # fmt: skip

Row = dict[str, Any]


class EpochLog(pl.Callback):
    """One row of `metrics.csv` an epoch, the same figures to the loggers, and a line to the log.

    `epoch_seconds` is the time from the epoch's first training batch to its last one done, validation apart, in the
    first epoch with the `seconds_before` it; `images_per_second` follows from it. The rows travel in the checkpoint,
    so a resumed run continues them and drops what was written after the checkpoint.
    """

    def __init__(self, path: Path, seconds_before: float = 0.0) -> None:
        self.path = path
        self.seconds_before = seconds_before
        self.rows: list[Row] = []
        self.started = 0.0
        self.seconds = 0.0
        self.learning_rate = 0.0
        self.log_file: AbstractContextManager[None] | None = None

    def state_dict(self) -> dict[str, Any]:
        return {"rows": self.rows}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.rows = state_dict["rows"]

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        if trainer.is_global_zero and multiprocessing.parent_process() is not None:
            # One of several training processes: they start without the logging of the process that runs the run.
            set_up_logging()
            self.log_file = log_file(self.path.with_name("run.log"))
            self.log_file.__enter__()  # until the process ends

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        reset_peak_memory(pl_module.device)
        if trainer.is_global_zero:
            lines = [",".join(COLUMNS), *(",".join(map(_cell, row.values())) for row in self.rows)]
            write_atomically(self.path, "\n".join(lines) + "\n")

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        # The rate that the epoch begins with; at its end the schedule may have moved on.
        self.learning_rate = float(trainer.optimizers[0].param_groups[0]["lr"])
        self.started = time.perf_counter()

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if batch_idx + 1 == trainer.num_training_batches:
            synchronize(pl_module.device)
            self.seconds = time.perf_counter() - self.started
            if trainer.current_epoch == 0:
                self.seconds += self.seconds_before

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        assert isinstance(pl_module, Classifier)
        loss, accuracy, images = pl_module.train_mean.compute(across_processes=True)
        every = trainer.check_val_every_n_epoch or 1
        validated = trainer.enable_validation and (trainer.current_epoch + 1) % every == 0
        val_loss, val_accuracy, _ = pl_module.val_mean.compute() if validated else (None, None, 0)
        row: Row = {
            "epoch": trainer.current_epoch,
            "step": trainer.global_step,
            "learning_rate": self.learning_rate,
            "train_loss": loss,
            "train_accuracy": accuracy,
            "val_loss": val_loss,
            "val_accuracy": val_accuracy,
            "epoch_seconds": self.seconds,
            "images_per_second": images / self.seconds,
            "peak_memory_bytes": peak_memory(pl_module.device),
        }
        self.rows.append(row)
        shown = ("learning_rate", "train_loss", "train_accuracy", "epoch_seconds", "images_per_second")
        pl_module.log_dict({name: row[name] for name in shown})
        if trainer.is_global_zero:
            with self.path.open("a") as file:
                file.write(",".join(map(_cell, row.values())) + "\n")
            log.info("%s", describe(row, trainer.max_epochs))
        if not math.isfinite(loss):
            raise UserError(
                f"The training loss is {loss} in epoch {trainer.current_epoch + 1}: the weights have exploded."
                " Lower optimizer.lr, or set trainer.gradient_clip_val=1."
            )


def _cell(value: Any) -> str:
    return "" if value is None else repr(value)


def describe(row: Row, max_epochs: int | None) -> str:
    """An epoch in one line."""
    validation = "" if row["val_accuracy"] is None else f"  val {row['val_loss']:.4f} {100 * row['val_accuracy']:.2f} %"
    return (
        f"epoch {row['epoch'] + 1}/{max_epochs}  train {row['train_loss']:.4f} {100 * row['train_accuracy']:.2f} %"
        f"{validation}  {row['epoch_seconds']:.1f} s  {row['images_per_second']:.0f} images/s"
    )


class ProgressBar(pl.Callback):
    """One bar for the whole run, in steps, with the time left."""

    def __init__(self) -> None:
        self.progress: Progress | None = None
        self.task: TaskID | None = None
        self.shown = 0.0

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if not trainer.is_global_zero:
            return
        self.progress = Progress(
            TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(),
            TextColumn("left"), TimeRemainingColumn(), console=console, transient=True, refresh_per_second=4,
        )  # fmt: skip
        self.progress.start()
        assert isinstance(pl_module, Classifier)
        self.task = self.progress.add_task("training", total=pl_module.total_steps, completed=trainer.global_step)

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        now = time.monotonic()
        if self.progress is not None and self.task is not None and now - self.shown > 0.25:
            self.shown = now
            self.progress.update(
                self.task,
                completed=trainer.global_step,
                description=f"epoch {trainer.current_epoch + 1}/{trainer.max_epochs}",
            )

    def teardown(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        self._stop()

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        self._stop()  # or the terminal stays without a cursor

    def _stop(self) -> None:
        if self.progress is not None:
            self.progress.stop()
