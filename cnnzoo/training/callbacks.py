"""What accompanies a training: metrics.csv, time and memory, compilation, the progress bar and the log file."""

import contextlib
import logging
import multiprocessing
import time
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from cnnzoo.config.schema import TrainerConfig
from cnnzoo.console import console, log_file, set_up_logging
from cnnzoo.io import write_atomically, writing
from cnnzoo.training.classifier import Classifier
from cnnzoo.training.devices import peak_memory, reset_peak_memory, should_compile, synchronize

log = logging.getLogger(__name__)

COLUMNS = (
    "epoch",
    "step",
    "learning_rate",
    "train_loss",
    "train_accuracy",
    "val_loss",
    "val_accuracy",
    "epoch_seconds",
    "images_per_second",
    "peak_memory_bytes",
)

Row = dict[str, Any]


class Throughput(pl.Callback):
    """Measure the training time of each epoch, and the peak of the memory.

    `seconds` are those from the epoch's first training batch until the device has finished the last one, without
    validation; in the first epoch, `seconds_before` are added.
    """

    def __init__(self, seconds_before: float = 0.0) -> None:
        self.seconds_before = seconds_before
        self.started = 0.0
        self.seconds = 0.0

    def state_dict(self) -> dict[str, Any]:
        return {"seconds": self.seconds}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.seconds = state_dict["seconds"]

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        reset_peak_memory(pl_module.device)
        self.started = time.perf_counter() - self.seconds  # of an epoch that is resumed

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.started = time.perf_counter()

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if batch_idx + 1 == trainer.num_training_batches:
            synchronize(pl_module.device)
        self.seconds = (
            time.perf_counter() - self.started
        )  # this batch may be the last one of a training that is stopped
        if trainer.current_epoch == 0:
            self.seconds += self.seconds_before


class MetricsCsv(pl.Callback):
    """Write one row of `metrics.csv` per epoch, the same metrics to the loggers, and a line to the log.

    The rows are part of the checkpoint: a resumed run continues them, and drops those of epochs that it repeats.
    Lightning's CSVLogger deletes its file when a run resumes, and its LearningRateMonitor needs a logger.
    """

    def __init__(self, path: Path, throughput: Throughput) -> None:
        self.path = path
        self.throughput = throughput
        self.rows: list[Row] = []
        self.learning_rate = 0.0

    STATE_KEY = "EpochLog"  # its name in checkpoints of earlier versions, which are still resumed from

    @property
    def state_key(self) -> str:
        return self.STATE_KEY

    def state_dict(self) -> dict[str, Any]:
        return {"rows": self.rows, "learning_rate": self.learning_rate}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.rows = state_dict["rows"]
        self.learning_rate = state_dict.get("learning_rate", 0.0)  # of an epoch that is resumed

    def write(self) -> None:
        """Write the whole file: what is in it may have been cut off, or be of epochs after the checkpoint."""
        lines = [",".join(COLUMNS), *(",".join(map(_cell, row.values())) for row in self.rows)]
        write_atomically(self.path, "\n".join(lines) + "\n")

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if trainer.is_global_zero:
            self.write()

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        # the rate that the epoch begins with; at its end the schedule may have moved on
        assert isinstance(pl_module, Classifier)
        self.learning_rate = float(trainer.optimizers[0].param_groups[0]["lr"]) * pl_module.warmup_factor()

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        assert isinstance(pl_module, Classifier)
        loss, accuracy, images = pl_module.train_metrics.compute(across_processes=True)
        val_loss, val_accuracy, _ = pl_module.val_metrics.compute() if pl_module.validated else (None, None, 0)
        row: Row = {
            "epoch": trainer.current_epoch,
            "step": trainer.global_step,
            "learning_rate": self.learning_rate,
            "train_loss": loss,
            "train_accuracy": accuracy,
            "val_loss": val_loss,
            "val_accuracy": val_accuracy,
            "epoch_seconds": self.throughput.seconds,
            "images_per_second": images / self.throughput.seconds,
            "peak_memory_bytes": peak_memory(pl_module.device),
        }
        self.rows.append(row)
        logged = ("learning_rate", "train_loss", "train_accuracy", "epoch_seconds", "images_per_second")
        pl_module.log_dict({name: row[name] for name in logged})
        if trainer.is_global_zero:
            with writing(self.path), self.path.open("a") as file:
                file.write(",".join(map(_cell, row.values())) + "\n")
            log.info("%s", describe(row, trainer.max_epochs))


def _cell(value: Any) -> str:
    return "" if value is None else repr(value)


def describe(row: Row, max_epochs: int | None) -> str:
    """An epoch in one line, which fits 80 characters behind the time; `metrics.csv` has more."""
    validation = "" if row["val_accuracy"] is None else f"  val {row['val_loss']:.3f} {100 * row['val_accuracy']:.2f} %"
    return (
        f"epoch {row['epoch'] + 1}/{max_epochs}  train {row['train_loss']:.3f} {100 * row['train_accuracy']:.2f} %"
        f"{validation}  {row['images_per_second']:.0f} images/s"
    )


class StepLoss(pl.Callback):
    """Log the loss of single steps, `train_loss_step`, every `log_every_n_steps` of the trainer.

    It is what the step minimises, losses of auxiliary heads included. Reading it waits for the device, so that only
    every n-th step does; `LightningModule.log` would cost time in all of them.
    """

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        every, batches = trainer.log_every_n_steps, trainer.accumulate_grad_batches  # type: ignore[attr-defined]
        step = trainer.global_step - 1  # Lightning counts from 0
        if not (trainer.loggers and every and step % every == 0 and (batch_idx + 1) % batches == 0):
            return
        loss = float(outputs["loss"]) * batches  # Lightning has divided it
        for logger in trainer.loggers:
            logger.log_metrics({"train_loss_step": loss}, step)


class _Scoped(pl.Callback):
    """A callback that enters contexts in `self.scope`, which ends with the training, however that ends."""

    def __init__(self) -> None:
        self.scope = contextlib.ExitStack()

    def teardown(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        self.scope.close()

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        self.scope.close()


class LogFile(_Scoped):
    """Write to the run's log from a process that Lightning has started for the first of several devices."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path = path

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        if trainer.is_global_zero and multiprocessing.parent_process() is not None:
            set_up_logging()  # such a process begins without the logging of the one that started it
            self.scope.enter_context(log_file(self.path))


class Compilation(_Scoped):
    """Compile the network if `trainer.compile` asks for it.

    With `auto`, whatever cannot be compiled runs eagerly; with `true`, that is an error.
    """

    def __init__(self, config: TrainerConfig) -> None:
        super().__init__()
        self.config = config
        self.compiled = False

    def state_dict(self) -> dict[str, Any]:
        return {"compiled": self.compiled}

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        assert isinstance(pl_module, Classifier)
        self.compiled = should_compile(self.config.compile, pl_module.total_steps, pl_module.device)
        if not self.compiled:
            return
        log.info("compiling the network; the first steps take a minute")
        torch.compiler.reset()  # what it keeps is limited, and earlier runs of a sweep have filled it
        self.scope.enter_context(torch._dynamo.config.patch(suppress_errors=self.config.compile == "auto"))
        # In place, so that parameter names stay; here, because TensorBoard's graph has been traced before.
        pl_module.model.compile(mode=self.config.compile_mode)


class ProgressBar(_Scoped):
    """One bar for the whole run, in steps, with the time left; Lightning's own begin again in every epoch."""

    def __init__(self) -> None:
        super().__init__()
        self.progress: Progress | None = None
        self.shown = 0.0

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        assert isinstance(pl_module, Classifier)
        if not trainer.is_global_zero:
            return
        progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=console,
            transient=True,
            refresh_per_second=4,
        )
        self.progress = self.scope.enter_context(progress)
        self.progress.add_task("training", total=pl_module.total_steps, completed=trainer.global_step)

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        now = time.monotonic()
        if self.progress is not None and now - self.shown > 0.25:
            self.shown = now
            self.progress.update(
                self.progress.task_ids[0],
                completed=trainer.global_step,
                description=f"epoch {trainer.current_epoch + 1}/{trainer.max_epochs}",
            )
