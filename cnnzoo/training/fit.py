"""Train a network as its configuration describes, and return the metrics of its best checkpoint."""

import logging
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytorch_lightning as pl
import torch
from pytorch_lightning.loggers import Logger
from torch import nn

from cnnzoo.config import Config, instantiate
from cnnzoo.console import console
from cnnzoo.data.batches import BatchLoader
from cnnzoo.data.dataset import Dataset
from cnnzoo.data.loaders import DataModule, eval_loader
from cnnzoo.errors import UserError
from cnnzoo.io import writing
from cnnzoo.nn.speed import speed_up
from cnnzoo.training.callbacks import Compilation, LogFile, MetricsCsv, ProgressBar, Row, StepLoss, Throughput
from cnnzoo.training.checkpoints import (
    BEST,
    LAST,
    Checkpoints,
    best_epoch,
    check_best,
    checkpoint_to_resume,
    read_checkpoint,
    read_rows,
)
from cnnzoo.training.classifier import Classifier
from cnnzoo.training.devices import (
    bf16_units,
    device_name,
    disable_malloc_trim,
    resolve_precision,
    synchronize,
    training_device,
)
from cnnzoo.training.divergence import StopOnDivergence
from cnnzoo.training.interruption import Interruption
from cnnzoo.training.losses import build_loss
from cnnzoo.training.tensorboard import TensorBoard, TensorBoardContent
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
    compiled: bool


def fit(
    model: nn.Module,
    dataset: Dataset,
    config: Config,
    folder: Path,
    callbacks: Sequence[pl.Callback] = (),
    loggers: Sequence[Logger] = (),
) -> Fit:
    """Train `model`, from the last checkpoint in the run's `folder` if there is one.

    Args:
        callbacks: in addition to those of the configuration.
        loggers: the open ones of the configuration.

    Raises:
        UserError: the settings cannot be met here, the checkpoint belongs to another run or is damaged, the loss
            explodes, or the disk is full.
        KeyboardInterrupt: Ctrl-C, or SIGTERM; the checkpoint is of the latest optimizer step.
    """
    device = training_device(config.trainer.accelerator)
    precision = resolve_precision(config.trainer.precision, device)
    log.info("training in %s on %s (%s)", precision, device_name(device), bf16_units(device) or "no fast bfloat16")
    checkpoints = folder / "checkpoints"
    with writing(checkpoints):
        checkpoints.mkdir(parents=True, exist_ok=True)
    checkpoint = checkpoint_to_resume(checkpoints, config)
    if checkpoint:
        log.info("resuming from %s", checkpoint)
    disable_malloc_trim()
    model = speed_up(model)
    validates = len(dataset.val) > 0
    throughput = Throughput(0.0 if checkpoint else _initialize(model, dataset, config, device))
    metrics = MetricsCsv(folder / "metrics.csv", throughput)
    interruption = Interruption()
    classifier = Classifier(model, config, build_loss(config, dataset.train.labels))
    trainer = build_trainer(
        config,
        folder,
        device=device,
        precision=precision,
        validates=validates,
        callbacks=[
            throughput,
            metrics,
            StopOnDivergence(metrics),
            LogFile(folder / "run.log"),
            Compilation(config.trainer),
            interruption,
            Checkpoints(
                checkpoints,
                metrics,
                interruption,
                every_n_epochs=config.trainer.checkpoint_every_n_epochs,
                minutes=config.checkpoint_minutes,
            ),
            *_configured_callbacks(config),
            *callbacks,
            StepLoss(),
            *(TensorBoardContent(logger) for logger in loggers if isinstance(logger, TensorBoard)),
            *([ProgressBar()] if config.trainer.progress_bar and console.is_terminal else []),
        ],
        loggers=loggers,
    )
    with interruption.handled(trainer):
        trainer.fit(classifier, datamodule=DataModule(dataset, config), ckpt_path=checkpoint, weights_only=True)
    # from the file, as where several processes train, this one has seen none of it
    last = read_checkpoint(checkpoints / LAST) if (checkpoints / LAST).is_file() else None
    metrics.rows = read_rows(last) if last else []
    if not last or not metrics.rows:
        raise UserError("The training was stopped before its first epoch; look at trainer.extra and callbacks.")
    metrics.write()
    rows = metrics.rows
    check_best(checkpoints / BEST, best_epoch(rows))
    return Fit(
        best_checkpoint=checkpoints / BEST,
        best_epoch=best_epoch(rows),
        epochs=len(rows),
        rows=rows,
        train_seconds=sum(row["epoch_seconds"] for row in rows),
        images_per_second=statistics.median(row["images_per_second"] for row in rows),
        peak_memory_bytes=max(row["peak_memory_bytes"] for row in rows),
        device=device,
        precision=str(trainer.precision),
        compiled=last["callbacks"].get("Compilation", {}).get("compiled", False),
    )


def _configured_callbacks(config: Config) -> list[pl.Callback]:
    return [
        instantiate(pl.Callback, f"callbacks.{name}", node, trusted_packages=config.trusted_packages)
        for name, node in config.callbacks.items()
        if name != "checkpoint"
    ]


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
