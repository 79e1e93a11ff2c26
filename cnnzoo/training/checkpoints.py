"""Checkpoints: which are written and when, whole or not at all, and whether a run may resume from one."""

from pathlib import Path
from typing import Any

import torch
from pytorch_lightning.callbacks import ModelCheckpoint
from pytorch_lightning.plugins.io import TorchCheckpointIO

from cnnzoo.config import Config, config_hash
from cnnzoo.errors import UserError
from cnnzoo.io import atomic_path


class AtomicCheckpointIO(TorchCheckpointIO):
    """Write next to the old checkpoint and rename, so that a killed process leaves the old one.

    Lightning itself writes into the system's temporary folder and moves the file: to another file system that is a
    copy, which can be cut off.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        with atomic_path(Path(path)) as temporary, temporary.open("wb") as file:
            torch.save(checkpoint, file)


def checkpoint_callbacks(folder: Path, config: Config, validates: bool) -> list[ModelCheckpoint]:
    """`best.ckpt`, of the epoch with the highest validation accuracy, else of the last one; `last.ckpt`, to resume."""
    best = ModelCheckpoint(
        dirpath=folder,
        filename="best",
        mode="max",
        monitor="val_accuracy" if validates else None,
        every_n_epochs=1 if validates else config.trainer.epochs,
        save_on_train_epoch_end=True,
        enable_version_counter=False,
    )
    last = ModelCheckpoint(
        dirpath=folder,
        filename="last",
        every_n_epochs=config.trainer.checkpoint_every_n_epochs,
        save_on_train_epoch_end=True,
        enable_version_counter=False,
    )
    return [best, last]


def check_same_run(checkpoint: Path, config: Config) -> None:
    """Raise UserError unless `checkpoint` was made by this configuration."""
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
