"""Checkpoints are whole, or the old one."""

from pathlib import Path
from typing import IO, Any

import pytest
import torch

from cnnzoo.training.checkpoints import AtomicCheckpointIO


def test_interrupted_write_leaves_the_old_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "checkpoints" / "last.ckpt"
    AtomicCheckpointIO().save_checkpoint({"epoch": 1}, file)

    def cut_off(content: Any, stream: IO[bytes]) -> None:
        stream.write(b"half a check")
        raise OSError("no space left on device")

    monkeypatch.setattr(torch, "save", cut_off)
    with pytest.raises(OSError, match="no space"):
        AtomicCheckpointIO().save_checkpoint({"epoch": 2}, file)
    assert torch.load(file, weights_only=True) == {"epoch": 1}
    assert list(file.parent.iterdir()) == [file]
