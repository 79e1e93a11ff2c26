"""Train a network as its configuration describes, and return the metrics of its best checkpoint."""

import logging
import signal
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytorch_lightning as pl
import torch
from torch import nn

from cnnzoo.config import Config, instantiate
from cnnzoo.console import console
from cnnzoo.data.batches import BatchLoader
from cnnzoo.data.dataset import Dataset
from cnnzoo.data.loaders import DataModule, eval_loader
from cnnzoo.errors import UserError
from cnnzoo.nn.speed import speed_up
from cnnzoo.training.callbacks import Compilation, LogFile, MetricsCsv, ProgressBar, Row, StopOnNaN, Throughput
from cnnzoo.training.checkpoints import check_same_run, checkpoint_callbacks
from cnnzoo.training.classifier import Classifier
from cnnzoo.training.devices import disable_malloc_trim, resolve_precision, synchronize, training_device
from cnnzoo.training.loggers import open_loggers
from cnnzoo.training.losses import build_loss
from cnnzoo.training.trainer import build_trainer

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Fit:
    """What a training leaves for `result.json`.

    rows: those of metrics.csv, one per epoch.
    best_epoch: counted from 1; without validation, the last epoch is the best one.
    train_seconds: of training batches and of `initialize_from` before them, without validation.
    images_per_second: the median over the epochs, so that compilation in the first one does not count.
    """

    best_checkpoint: Path
    best_epoch: int
    epochs: int
    rows: Sequence[Row]
    train_seconds: float
    images_per_second: float
    peak_memory_bytes: int
    device: torch.device
    precision: str


def fit(model: nn.Module, dataset: Dataset, config: Config, folder: Path, callbacks: Sequence[pl.Callback] = ()) -> Fit:
    """Train `model`, from the last checkpoint in the run's `folder` if there is one.

    Args:
        callbacks: in addition to those of the configuration.

    Raises:
        UserError: the settings cannot be met here, the checkpoint belongs to another run, or the loss explodes.
        KeyboardInterrupt: Ctrl-C, or SIGTERM.
    """
    device = training_device(config.trainer.accelerator)
    precision = resolve_precision(config.trainer.precision, device)
    folder.mkdir(parents=True, exist_ok=True)
    last = folder / "checkpoints" / "last.ckpt"
    resumes = last.is_file()
    if resumes:
        check_same_run(last, config)
        log.info("resuming from %s", last)
    disable_malloc_trim()
    model = speed_up(model)
    validates = len(dataset.val) > 0
    throughput = Throughput(0.0 if resumes else _initialize(model, dataset, config, device))
    metrics = MetricsCsv(folder / "metrics.csv", throughput)
    classifier = Classifier(model, config, build_loss(config, dataset.train.labels))
    with open_loggers(config, folder) as loggers:
        trainer = build_trainer(
            config,
            folder,
            device=device,
            precision=precision,
            validates=validates,
            callbacks=[
                throughput,
                metrics,
                StopOnNaN(metrics),
                LogFile(folder / "run.log"),
                Compilation(config.trainer),
                *checkpoint_callbacks(folder / "checkpoints", config, validates=validates),
                *_configured_callbacks(config),
                *callbacks,
                *([ProgressBar()] if config.trainer.progress_bar and console.is_terminal else []),
            ],
            loggers=loggers,
        )
        on_interrupt = signal.getsignal(signal.SIGINT)
        try:
            trainer.fit(
                classifier,
                datamodule=DataModule(dataset, config),
                ckpt_path=last if resumes else None,
                weights_only=True,
            )
        except SystemExit as error:
            # Lightning exits on Ctrl-C, and ignores it from then on; SIGTERM ends a training in the same way.
            if not isinstance(error.__context__, KeyboardInterrupt) and not trainer.received_sigterm:
                raise
            signal.signal(signal.SIGINT, on_interrupt)
            raise KeyboardInterrupt from error
    rows = metrics.rows or metrics.read()
    if not rows:
        raise UserError("The training was stopped before its first epoch; look at trainer.extra and callbacks.")
    return Fit(
        best_checkpoint=folder / "checkpoints" / "best.ckpt",
        best_epoch=_best_epoch(rows),
        epochs=len(rows),
        rows=rows,
        train_seconds=sum(row["epoch_seconds"] for row in rows),
        images_per_second=statistics.median(row["images_per_second"] for row in rows),
        peak_memory_bytes=max(row["peak_memory_bytes"] for row in rows),
        device=device,
        precision=str(trainer.precision),
    )


def _configured_callbacks(config: Config) -> list[pl.Callback]:
    return [
        instantiate(pl.Callback, f"callbacks.{name}", node, trusted_packages=config.trusted_packages)
        for name, node in config.callbacks.items()
    ]


def _best_epoch(rows: Sequence[Row]) -> int:
    """Return the epoch, counted from 1, with the highest validation accuracy; the first of equals.

    Without validation, the last one.
    """
    validated = [row for row in rows if row["val_accuracy"] is not None]
    best = max(validated or rows[-1:], key=lambda row: row["val_accuracy"])
    return 1 + int(best["epoch"])


def _initialize(model: nn.Module, dataset: Dataset, config: Config, device: torch.device) -> float:
    """Show training images to a network that is initialised from them; return the seconds that it took.

    Such a network has a method `initialize_from(batches)`. It gets the training split's batches `(images, labels)`,
    normalised and not augmented, and takes as many as it needs. Weights to start from (fine-tuning) stay as they are.
    """
    initialize: Callable[[BatchLoader], None] | None = getattr(model, "initialize_from", None)
    if initialize is None or config.weights is not None:
        return 0.0
    dataset = dataset.to(device)
    synchronize(device)
    started = time.perf_counter()
    initialize(eval_loader(dataset, dataset.train, config))
    synchronize(device)
    return time.perf_counter() - started
