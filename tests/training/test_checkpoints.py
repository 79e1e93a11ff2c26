"""Checkpoints are whole, or the old one; two are kept; what cannot be read is said, and nothing is destroyed."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

import pytest
import torch

from cnnzoo.errors import UserError
from cnnzoo.io import WriteError
from cnnzoo.training.checkpoints import AtomicCheckpointIO, check_best, read_checkpoint
from tests.training.conftest import CutPowerIn, PowerCut

Train = Callable[..., Any]


def test_interrupted_write_leaves_the_old_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "checkpoints" / "last.ckpt"
    AtomicCheckpointIO().save_checkpoint({"epoch": 1}, file)

    def cut_off(content: Any, stream: IO[bytes]) -> None:
        stream.write(b"half a check")
        raise RuntimeError("out of luck")

    monkeypatch.setattr(torch, "save", cut_off)
    with pytest.raises(RuntimeError, match="out of luck"):
        AtomicCheckpointIO().save_checkpoint({"epoch": 2}, file)
    assert torch.load(file, weights_only=True) == {"epoch": 1}
    assert list(file.parent.iterdir()) == [file]


def test_full_disk_is_named_with_the_space_that_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Torch itself says `unexpected pos 768 vs 662`."""
    file = tmp_path / "last.ckpt"
    (tmp_path / f".last.ckpt.{os.getpid()}").symlink_to("/dev/full")
    monkeypatch.setattr("cnnzoo.io._free_bytes", lambda path: 2**20)
    with pytest.raises(WriteError, match=r"last\.ckpt .*no space.*, 1\.0 MiB are free and 3\.\d MiB more.*resumes"):
        AtomicCheckpointIO().save_checkpoint({"weights": torch.zeros(2**20)}, file)
    assert not list(tmp_path.iterdir())


def flip(file: Path) -> None:
    """Flip a bit of a weight."""
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 0x40
    file.write_bytes(content)


def cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-1000])


def empty(file: Path) -> None:
    file.write_bytes(b"")


LONG = ("trainer.max_epochs=4", "augmentation.mixup=0.5")


@pytest.mark.parametrize("damage", [flip, cut, empty, Path.unlink])
def test_unreadable_checkpoint_falls_back_to_the_one_before(
    damage: Callable[[Path], object], train: Train, interrupt_and_resume: Train, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "cnnzoo")
    resumed = interrupt_and_resume(*LONG, between=lambda run: damage(run / "checkpoints" / "last.ckpt"))
    assert f"resuming from {resumed.folder}/checkpoints/previous.ckpt" in caplog.text
    alone = train(*LONG)
    assert resumed.results == alone.results
    for name in ("last", "best"):
        expected = alone.weights(name)
        assert all(torch.equal(value, expected[key]) for key, value in resumed.weights(name).items())
    if damage is not Path.unlink:
        assert "last.ckpt cannot be read" in caplog.text
        assert (resumed.folder / "checkpoints" / "damaged.ckpt").is_file()
        with pytest.raises(UserError):
            read_checkpoint(resumed.folder / "checkpoints" / "damaged.ckpt")


def test_nothing_is_destroyed_if_no_checkpoint_can_be_read(train: Train, tmp_path: Path) -> None:
    folder = train().folder / "checkpoints"
    for name in ("last.ckpt", "previous.ckpt"):
        flip(folder / name)
    before = {file: file.read_bytes() for file in folder.iterdir()}
    with pytest.raises(UserError, match=r"last\.ckpt cannot .*previous\.ckpt cannot .*Nothing was changed; rerun=true"):
        train()
    assert {file: file.read_bytes() for file in folder.iterdir()} == before


def test_damaged_best_checkpoint_is_no_result(train: Train) -> None:
    """The second epoch is the best; torch alone would load the flipped bit."""
    overrides = ("trainer.max_epochs=3", "scheduler=multistep", "scheduler.milestones=[2]", "scheduler.gamma=1000")
    best = train(*overrides).folder / "checkpoints" / "best.ckpt"
    flip(best)
    assert torch.load(best, weights_only=True)["epoch"] == 1
    with pytest.raises(UserError, match=r"best\.ckpt cannot be read \(the file is damaged"):
        train(*overrides)


def test_best_checkpoint_of_another_epoch_is_no_result(train: Train) -> None:
    overrides = ("trainer.max_epochs=3", "scheduler=multistep", "scheduler.milestones=[2]", "scheduler.gamma=1000")
    folder = train(*overrides).folder / "checkpoints"
    shutil.copy(folder / "last.ckpt", folder / "best.ckpt")
    with pytest.raises(UserError, match=r"of epoch 3, but the best one of metrics\.csv is 2"):
        train(*overrides)


def test_kill_between_last_and_best(train: Train) -> None:
    """The last epoch is the best; its last.ckpt is there, its best.ckpt is not yet."""
    result = train()
    assert result.fit.best_epoch == 2
    best = result.folder / "checkpoints" / "best.ckpt"
    shutil.copy(result.folder / "checkpoints" / "previous.ckpt", best)
    again = train()
    assert again.fit.best_epoch == 2
    check_best(best, 2)


@pytest.mark.parametrize("link", [False, True], ids=["moved", "linked"])
def test_outputs_that_moved_keep_their_best_epoch(link: bool, train: Train, tmp_path: Path) -> None:
    """The second epoch is the best, the rest of the training follows elsewhere."""
    overrides = ("trainer.max_epochs=5", "scheduler=multistep", "scheduler.milestones=[2]", "scheduler.gamma=1000")
    with pytest.raises(PowerCut):
        train(*overrides, folder="here", callbacks=[CutPowerIn(3)])
    if link:
        (tmp_path / "there").symlink_to(tmp_path / "here")
    else:
        (tmp_path / "here").rename(tmp_path / "there")
    result = train(*overrides, folder="there")
    assert result.fit.best_epoch == 2
    alone = train(*overrides, folder="alone")
    assert result.results == alone.results
    assert all(torch.equal(value, alone.weights("best")[key]) for key, value in result.weights("best").items())
