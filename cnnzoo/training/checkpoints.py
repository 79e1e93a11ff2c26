"""Checkpoints that are written whole or not at all."""

from pathlib import Path
from typing import Any

import torch
from pytorch_lightning.plugins.io import TorchCheckpointIO

from cnnzoo.io import atomic_path


class AtomicCheckpointIO(TorchCheckpointIO):
    """Write next to the old checkpoint and rename, so that a killed process leaves the old one.

    Lightning itself writes into the system's temporary folder and moves the file: to another file system that is a
    copy, which can be cut off.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        with atomic_path(Path(path)) as temporary, temporary.open("wb") as file:
            torch.save(checkpoint, file)
