"""Runs on a folder of images, kept in memory or streamed from its cache."""

import json
import os
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from torch import Tensor

from cnnzoo.config import Config, run_folder
from cnnzoo.data.batches import BatchLoader
from cnnzoo.evaluate import evaluate_weights
from cnnzoo.run import run

Command = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def overrides(tmp_path: Path) -> list[str]:
    """A small run on 60 random images in three classes."""
    generator = np.random.default_rng(0)
    for number in range(60):
        path = tmp_path / "pets" / ("cats", "dogs", "eels")[number % 3] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(generator.integers(0, 256, (9, 11, 3), dtype=np.uint8)).save(path)
    return [
        "dataset=image_folder",
        f"dataset.root={tmp_path}/pets",
        f"paths.data={tmp_path}/data",
        "dataset.image_size=8",
        "dataset.batch_size=16",
        "model=mlp",
        "model.widths=[8]",
        "trainer=cpu",
        "trainer.max_epochs=3",
        "trainer.precision=32-true",
        "trainer.progress_bar=false",
        "logger=none",
    ]


@pytest.fixture
def settings(config: Callable[..., Config], overrides: list[str]) -> Callable[..., Config]:
    return lambda *more, name="run": config(*overrides, *more, name=name)


def test_run(settings: Callable[..., Config]) -> None:
    config = settings()
    result = run(config)
    assert (result["status"], result["dataset"]) == ("completed", "pets")
    assert len(np.load(run_folder(config) / "predictions.npz")["labels"]) == 12
    assert json.loads((run_folder(config) / "result.json").read_text())["test_accuracy"] == result["test_accuracy"]


def test_result_does_not_depend_on_where_images_are_kept(settings: Callable[..., Config]) -> None:
    in_memory, streamed = settings("dataset.resident=true"), settings("dataset.resident=false", "dataset.workers=1")
    assert run_folder(in_memory) == run_folder(streamed)
    first = run(in_memory)
    again = run(replace(streamed, rerun=True))
    for metric in ("val_accuracy", "val_loss", "test_accuracy", "test_loss"):
        assert again[metric] == first[metric]
    evaluated = evaluate_weights(settings(f"weights={run_folder(in_memory)}", name="evaluate"))
    assert evaluated["test_loss"] == first["test_loss"]


def test_run_resumes_with_streamed_images(settings: Callable[..., Config], monkeypatch: pytest.MonkeyPatch) -> None:
    alone = run(settings("dataset.resident=true"))
    logits = np.load(run_folder(settings()) / "predictions.npz")["logits"]
    whole_epoch = BatchLoader.__iter__

    def interrupt_third_epoch(self: BatchLoader) -> Iterator[tuple[Tensor, Tensor]]:
        if self.shuffle and self.epoch == 2:
            raise KeyboardInterrupt
        return whole_epoch(self)

    monkeypatch.setattr(BatchLoader, "__iter__", interrupt_third_epoch)
    with pytest.raises((KeyboardInterrupt, SystemExit)):
        run(settings("dataset.resident=true", "rerun=true"))
    monkeypatch.undo()
    resumed = run(settings("dataset.resident=false"))
    assert resumed["test_loss"] == alone["test_loss"]
    np.testing.assert_array_equal(np.load(run_folder(settings()) / "predictions.npz")["logits"], logits)


def test_batch_larger_than_the_training_split(cnnzoo: Command, overrides: list[str]) -> None:
    answer = cnnzoo("run", *overrides, "dataset.batch_size=100", "dataset.drop_last=true")
    assert answer.returncode == 1
    assert "error: dataset.batch_size=100: more than the 43 training images" in answer.stderr


def test_missing_folder_is_one_line(cnnzoo: Command, tmp_path: Path) -> None:
    answer = cnnzoo("run", "dataset=image_folder", "dataset.root=nowhere")
    assert answer.returncode == 1
    assert answer.stderr.startswith(f"error: dataset.root={tmp_path}/nowhere: there is no such folder.")
    assert len(answer.stderr.splitlines()) == 1


def test_figures_do_not_depend_on_where_images_are_kept(cnnzoo: Command, overrides: list[str], tmp_path: Path) -> None:
    printed = {}
    for resident in ("true", "false"):
        answer = cnnzoo("figures", "data", *overrides, f"dataset.resident={resident}", f"out={tmp_path}/{resident}")
        assert answer.returncode == 0, answer.stderr
        printed[resident] = answer.stdout.replace(f"{tmp_path}/{resident}", "")
    assert printed["true"] == printed["false"]
    pictures: list[Any] = [sorted((tmp_path / resident).rglob("*.png")) for resident in ("true", "false")]
    assert len(pictures[0]) >= 4
    for one, other in zip(*pictures, strict=True):
        assert np.array_equal(np.asarray(Image.open(one)), np.asarray(Image.open(other)))


def test_data_set_in_hugging_faces_format(cnnzoo: Command, overrides: list[str], tmp_path: Path) -> None:
    """A folder of images through `datasets`: trained, evaluated, and used for prediction."""
    pytest.importorskip("datasets")
    env = os.environ | {"HF_HOME": str(tmp_path / "hf")}
    answer = cnnzoo("run", "dataset=huggingface", f"dataset.path={tmp_path}/pets", *overrides[2:], env=env)
    assert answer.returncode == 0, answer.stderr
    (result,) = (json.loads(path.read_text()) for path in tmp_path.rglob("result.json"))
    assert (result["status"], result["dataset"], result["classes"]) == ("completed", "pets", ["cats", "dogs", "eels"])
    (folder,) = (path.parent for path in tmp_path.rglob("result.json"))
    answer = cnnzoo("evaluate", f"weights={folder}", f"paths.data={tmp_path}/data", "format=json", env=env)
    assert json.loads(answer.stdout)["test_loss"] == result["test_loss"], answer.stderr
    answer = cnnzoo("predict", str(folder), str(tmp_path / "pets" / "cats"), env=env)
    assert answer.returncode == 0, answer.stderr
