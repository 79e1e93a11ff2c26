"""Training a network as its configuration says, and the figures of the best checkpoint."""

import logging
import math
import signal
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import ModelCheckpoint
from pytorch_lightning.loggers import TensorBoardLogger
from torch import nn

from cnnzoo.config.targets import call_target
from cnnzoo.console import console
from cnnzoo.data.batches import Batches
from cnnzoo.data.dataset import Dataset
from cnnzoo.data.module import DataModule, eval_batches
from cnnzoo.errors import UserError
from cnnzoo.results.files import read_metrics
from cnnzoo.results.record import config_hash
from cnnzoo.training.callbacks import EpochLog, ProgressBar, Row
from cnnzoo.training.checkpoints import AtomicCheckpointIO
from cnnzoo.training.classifier import Classifier
from cnnzoo.training.devices import keep_freed_memory, resolve_precision, synchronize, training_device

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Fit:
    """What a training leaves behind for `result.json`.

    Seconds are of training batches and of what the network learns from images before them, validation apart.
    Without a validation part the last epoch is the best one.

    `images_per_second` is the median over the epochs, so that compilation in the first one does not count.
    """

    best_checkpoint: Path
    best_epoch: int
    epochs: int
    train_seconds: float
    images_per_second: float
    peak_memory_bytes: int
    device: torch.device
    precision: str


def fit(
    model: nn.Module,
    dataset: Dataset,
    config: Mapping[str, Any],
    folder: Path,
    extra_callbacks: Sequence[pl.Callback] = (),
) -> Fit:
    """Trains `model`, from the last checkpoint in `folder` where there is one.

    `extra_callbacks` join those of the configuration; the caller keeps them and what they saw.

    Raises:
        UserError: the trainer's settings cannot be met here, the checkpoint is another run's, or the loss explodes.
    """
    settings = config["trainer"]
    device = training_device(settings["accelerator"])
    precision = resolve_precision(settings["precision"], device)
    devices = _number_of_devices(settings["devices"], device)
    max_epochs = math.ceil(settings["max_epochs"])  # a fraction: the last epoch's batches are fewer
    checkpoint = folder / "checkpoints" / "last.ckpt"
    if checkpoint.is_file():
        _check_same_run(checkpoint, config)
        log.info("going on from %s", checkpoint)
    keep_freed_memory()
    epoch_log = EpochLog(folder / "metrics.csv", 0.0 if checkpoint.is_file() else _initialize(model, dataset, config))
    validates = len(dataset.val) > 0
    best = ModelCheckpoint(
        dirpath=folder / "checkpoints", filename="best", mode="max", monitor="val_accuracy" if validates else None,
        every_n_epochs=1 if validates else max_epochs, save_on_train_epoch_end=True, enable_version_counter=False,
    )  # fmt: skip
    last = ModelCheckpoint(
        dirpath=folder / "checkpoints", filename="last", every_n_epochs=settings["checkpoint_every_n_epochs"],
        save_on_train_epoch_end=True, enable_version_counter=False,
    )  # fmt: skip
    callbacks: list[pl.Callback] = [epoch_log, best, last]
    callbacks += [call_target(f"callbacks.{name}", node) for name, node in config["callbacks"].items()]
    callbacks += extra_callbacks
    if settings["progress_bar"] and console.is_terminal:
        callbacks.append(ProgressBar())
    logger: Any = False
    if config["logger"]["tensorboard"]:
        logger = TensorBoardLogger(folder, name="", version="tensorboard", log_graph=config["logger"]["graph"])
    try:
        trainer = pl.Trainer(
            accelerator=device.type,
            devices=devices,
            strategy=_strategy(settings["strategy"], devices),
            precision=precision,  # type: ignore[arg-type]
            max_epochs=max_epochs,
            accumulate_grad_batches=settings["accumulate_grad_batches"],
            gradient_clip_val=settings["gradient_clip_val"],
            check_val_every_n_epoch=settings["check_val_every_n_epoch"],
            limit_train_batches=settings["limit_train_batches"],
            limit_val_batches=settings["limit_val_batches"] if validates else 0,
            deterministic=settings["deterministic"],
            benchmark=not settings["deterministic"],
            logger=logger,
            callbacks=callbacks,
            plugins=AtomicCheckpointIO(),
            default_root_dir=folder,
            reload_dataloaders_every_n_epochs=1,  # each epoch has an order and an augmentation of its own
            num_sanity_val_steps=0,
            enable_progress_bar=False,
            enable_model_summary=False,
        )
    except (ValueError, pl.utilities.exceptions.MisconfigurationException) as error:
        raise UserError(f"trainer: {error}") from error
    on_interrupt = signal.getsignal(signal.SIGINT)
    try:
        trainer.fit(
            Classifier(model, config),
            datamodule=DataModule(dataset, config),
            ckpt_path=checkpoint if checkpoint.is_file() else None,
            weights_only=True,
        )
    except SystemExit as exit:
        # Lightning's answer to an interruption, after it has seen to it that there will be no other.
        signal.signal(signal.SIGINT, on_interrupt)
        raise KeyboardInterrupt from exit
    rows = read_metrics(folder)
    return Fit(
        best_checkpoint=folder / "checkpoints" / "best.ckpt",
        best_epoch=_best_epoch(rows),
        epochs=len(rows),
        train_seconds=sum(row["epoch_seconds"] for row in rows),
        images_per_second=statistics.median(row["images_per_second"] for row in rows),
        peak_memory_bytes=max(row["peak_memory_bytes"] for row in rows),
        device=device,
        precision=precision,
    )


def _best_epoch(rows: Sequence[Row]) -> int:
    """Number of the epoch, counted from 1, with the highest validation accuracy; the first of equals.

    The last one where none was validated.
    """
    validated = [row for row in rows if row["val_accuracy"] is not None]
    return 1 + max(validated or rows[-1:], key=lambda row: row["val_accuracy"])["epoch"]


def _initialize(model: nn.Module, dataset: Dataset, config: Mapping[str, Any]) -> float:
    """Shows training images to a network that wants to see some before training; returns the seconds that it took.

    Such a network has a method `initialize_from(batches)`. It is given the training part's batches `(images, labels)`,
    normalised and not augmented, and takes as many as it cares to.
    """
    initialize: Callable[[Batches], None] | None = getattr(model, "initialize_from", None)
    if initialize is None:
        return 0.0
    device = training_device(config["trainer"]["accelerator"])
    dataset = dataset.to(device)
    synchronize(device)
    started = time.perf_counter()
    initialize(eval_batches(dataset, dataset.train, config))
    synchronize(device)
    return time.perf_counter() - started


def _check_same_run(checkpoint: Path, config: Mapping[str, Any]) -> None:
    try:
        made_by = torch.load(checkpoint, map_location="cpu", weights_only=True)["hyper_parameters"]["config_hash"]
    except Exception as error:
        raise UserError(
            f"{checkpoint} cannot be read ({type(error).__name__}). Start this run over with rerun=true."
        ) from error
    if made_by != config_hash(config):
        raise UserError(
            f"{checkpoint} was made by another configuration ({made_by}, this one is {config_hash(config)})."
            " Start this run over with rerun=true."
        )


def _number_of_devices(devices: Any, device: torch.device) -> int | list[int]:
    if devices == "auto":
        return torch.cuda.device_count() if device.type == "cuda" else 1
    if isinstance(devices, int) and not isinstance(devices, bool) and devices > 0:
        return devices
    if device.type == "cuda" and isinstance(devices, list) and devices:
        return devices
    expected = (
        "auto, a number or a list of indices" if device.type == "cuda" else "auto or a number of processes, 1 or more"
    )
    raise UserError(f"trainer.devices={devices}: on {device.type} expected {expected}.")


def _strategy(strategy: str, devices: int | list[int]) -> str:
    """One process a device, started from this one.

    Lightning's usual choice would type the command line again in every process; of a sweep, that is all of it.
    """
    several = devices > 1 if isinstance(devices, int) else len(devices) > 1
    return "ddp_spawn" if strategy == "auto" and several else strategy
