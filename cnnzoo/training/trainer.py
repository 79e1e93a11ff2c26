"""Lightning's Trainer, set up as the section `trainer` describes."""

import inspect
import os
from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from lightning_fabric.plugins import ClusterEnvironment
from lightning_fabric.plugins.environments.lightning import LightningEnvironment
from pytorch_lightning.loggers import Logger
from pytorch_lightning.plugins import CheckpointIO, LayerSync, Precision
from pytorch_lightning.profilers import Profiler
from pytorch_lightning.utilities.exceptions import MisconfigurationException  # type: ignore[attr-defined]

from cnnzoo.config import Config, instantiate
from cnnzoo.config.schema import TrainerConfig
from cnnzoo.errors import UserError, nearest
from cnnzoo.training.checkpoints import AtomicCheckpointIO

# Flags that are not for `trainer.extra`, with the key to set instead.
_KEYS = {field.name: f"trainer.{field.name}" for field in fields(TrainerConfig)} | {
    "callbacks": "callbacks",
    "logger": "logger",
    "default_root_dir": "paths.outputs",
    "enable_progress_bar": "trainer.progress_bar",
    "max_steps": "trainer.max_epochs, which may be a fraction,",
    "fast_dev_run": "trainer.limit_train_batches and trainer.max_epochs",
    "reload_dataloaders_every_n_epochs": "augmentation, which is drawn every epoch,",
}


def build_trainer(
    config: Config,
    folder: Path,
    *,
    device: torch.device,
    precision: str,
    validates: bool,
    callbacks: Sequence[pl.Callback],
    loggers: Sequence[Logger],
) -> pl.Trainer:
    """Return a trainer for one training in the run's `folder`.

    Args:
        precision: of Lightning's names, unless a plugin sets it.
        validates: whether there are validation images.

    Raises:
        UserError: a setting cannot be met here, or a flag of `trainer.extra` is unknown or has a key of its own.
    """
    settings = config.trainer
    plugins: list[Any] = [
        instantiate(
            (CheckpointIO, ClusterEnvironment, LayerSync, Precision),
            f"trainer.plugins.{name}",
            node,
            trusted_packages=config.trusted_packages,
        )
        for name, node in settings.plugins.items()
    ]
    if not any(isinstance(plugin, CheckpointIO) for plugin in plugins):
        plugins.append(AtomicCheckpointIO())
    devices = _number_of_devices(settings.devices, device)
    if _is_only_task(devices) and not any(isinstance(plugin, ClusterEnvironment) for plugin in plugins):
        plugins.append(LightningEnvironment())
    flags: dict[str, Any] = {
        "benchmark": not settings.deterministic,
        "num_sanity_val_steps": 0,
        "enable_model_summary": False,
    }
    flags |= _extra_flags(settings.extra)
    try:
        return pl.Trainer(
            accelerator=device.type,
            devices=devices,
            strategy=_strategy(settings.strategy, devices),
            precision=None if any(isinstance(plugin, Precision) for plugin in plugins) else precision,  # type: ignore[arg-type]
            max_epochs=settings.epochs,  # if it is a fraction, the last epoch has fewer batches
            accumulate_grad_batches=settings.accumulate_grad_batches,
            gradient_clip_val=settings.gradient_clip_val,
            check_val_every_n_epoch=settings.check_val_every_n_epoch,
            limit_train_batches=settings.limit_train_batches,
            limit_val_batches=settings.limit_val_batches if validates else 0,
            deterministic=settings.deterministic,
            logger=list(loggers),
            callbacks=list(callbacks),
            plugins=plugins,
            default_root_dir=folder,
            reload_dataloaders_every_n_epochs=1,  # each epoch has an order and an augmentation of its own
            enable_progress_bar=False,
            **flags,
        )
    except (TypeError, ValueError, MisconfigurationException) as error:
        raise UserError(f"trainer: {error}") from error


def _extra_flags(extra: Mapping[str, Any]) -> dict[str, Any]:
    known = inspect.signature(pl.Trainer).parameters
    flags = {}
    for name, value in extra.items():
        if name in _KEYS:
            raise UserError(f"trainer.extra.{name}: this flag has a place of its own. Set {_KEYS[name]} instead.")
        if name not in known:
            raise UserError(f"trainer.extra.{name}: Lightning's Trainer has no such flag.{nearest(name, known)}")
        if isinstance(value, Mapping) and "_target_" in value:
            value = instantiate(Profiler, f"trainer.extra.{name}", value)
        flags[name] = value
    return flags


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


def _is_only_task(devices: int | list[int]) -> bool:
    """Whether SLURM has started one process, which starts the others, or submitit has.

    Lightning's SLURM environment takes each process for one that srun started, and puts the job back into the queue by
    itself, as submitit does, too. A job script of one's own keeps that.
    """
    return os.environ.get("SLURM_NTASKS") == "1" and (_several(devices) or "SUBMITIT_EXECUTOR" in os.environ)


def _strategy(strategy: str, devices: int | list[int]) -> str:
    """Resolve `auto` to one process per device, started from this one.

    Lightning's own choice would run the command line again in every process; of a sweep, that is all of it.
    """
    return "ddp_spawn" if strategy == "auto" and _several(devices) else strategy


def _several(devices: int | list[int]) -> bool:
    return devices > 1 if isinstance(devices, int) else len(devices) > 1
