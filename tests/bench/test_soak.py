"""The kill soak in its short form, and that it would find a difference."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks import soak


def test_killed_runs_end_as_undisturbed_ones(tmp_path: Path) -> None:
    """Data order, augmentation, mixup, momenta and schedule come back within an epoch."""
    out = tmp_path / "soak.json"
    assert soak.main(["--kills", "3", "--mtbf", "5", "--seed", "0", "--scenarios", "mixup", "--out", str(out)]) == 0
    content = json.loads(out.read_text())
    assert (content["kills"], content["mismatches"]) == (3, [])


@pytest.fixture
def run(tmp_path: Path) -> Path:
    folder = tmp_path / "run"
    (folder / "checkpoints").mkdir(parents=True)
    (folder / "config.yaml").touch()
    (folder / "result.json").write_text(json.dumps({"test_accuracy": 0.5, "train_seconds": 1.0}))
    (folder / "metrics.csv").write_text("epoch,train_loss,epoch_seconds\n0,1.5,1.0\n1,1.25,2.0\n")
    np.savez(folder / "predictions.npz", logits=np.zeros((3, 2), np.float32), labels=np.zeros(3, np.int64))
    for name in ("best.ckpt", "last.ckpt"):
        torch.save({"state_dict": {"weight": torch.zeros(3)}}, folder / "checkpoints" / name)
    return folder


def slower(folder: Path) -> None:
    (folder / "result.json").write_text(json.dumps({"test_accuracy": 0.5, "train_seconds": 2.0}))
    (folder / "metrics.csv").write_text("epoch,train_loss,epoch_seconds\n0,1.5,9.0\n1,1.25,9.0\n")


def other_result(folder: Path) -> None:
    (folder / "result.json").write_text(json.dumps({"test_accuracy": 0.25, "train_seconds": 1.0}))


def other_metrics(folder: Path) -> None:
    (folder / "metrics.csv").write_text("epoch,train_loss,epoch_seconds\n0,1.5,1.0\n1,1.2500000000000002,2.0\n")


def other_predictions(folder: Path) -> None:
    np.savez(folder / "predictions.npz", logits=np.full((3, 2), 1e-30, np.float32), labels=np.zeros(3, np.int64))


def other_weights(folder: Path) -> None:
    torch.save({"state_dict": {"weight": torch.full((3,), 1e-30)}}, folder / "checkpoints" / "best.ckpt")


def leftover(folder: Path) -> None:
    (folder / "checkpoints" / ".last.ckpt.123").touch()


@pytest.mark.parametrize(
    ("change", "found"),
    [
        (slower, None),
        (other_result, "result.json: test_accuracy: 0.5 and 0.25"),
        (other_metrics, "metrics.csv"),
        (other_predictions, "predictions.npz"),
        (other_weights, "best.ckpt"),
        (leftover, ".last.ckpt.123 is left"),
    ],
)
def test_differences_are_found(change: Callable[[Path], None], found: str | None, run: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    shutil.copytree(run, other)
    change(other)
    texts = list(soak.differences(run, other))
    assert len(texts) == (found is not None)
    assert not found or found in texts[0]


def test_phases(run: Path) -> None:
    outputs = run.parent / "outputs"
    folder = outputs / "digits" / "mlp" / "seed1"
    shutil.copytree(run, folder)
    (folder / "result.json").unlink()
    assert soak.phase(outputs, 3, 0.0) == "training"
    assert soak.phase(outputs, 2, 0.0) == "testing"
    assert soak.phase(outputs, 2, (folder / "metrics.csv").stat().st_mtime + 1) == "starting"
    (folder / "checkpoints" / ".last.ckpt.123").touch()
    assert soak.phase(outputs, 2, 0.0) == "writing"
