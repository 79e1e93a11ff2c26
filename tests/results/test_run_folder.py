"""The files in a run's folder."""

import io
import json
import os
import random
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from cnnzoo.config import compose, identity
from cnnzoo.results.run_folder import (
    RunFileError,
    read_config,
    read_metrics,
    read_predictions,
    to_json,
    write_config,
    write_result,
)


@pytest.mark.parametrize(
    "overrides",
    [[], ["model=densenet", "optimizer=adam"], ["dataset=digits", "tta=mirror", "warmup.epochs=2", "paths.data=/x/y"]],
)
def test_identity_of_a_config_file_is_the_runs(overrides: list[str], tmp_path: Path) -> None:
    config = compose(overrides)
    write_config(tmp_path, config)
    assert identity(read_config(tmp_path)) == identity(config)


def test_identity_of_a_config_file_of_the_first_version(tmp_path: Path) -> None:
    """Where a standard data set lies was written in two places then."""
    config = {
        "name": "resnet",
        "seed": 1,
        "rerun": False,
        "tta": "none",
        "model": {"_target_": "ResNet"},
        "dataset": {
            "name": "cifar10",
            "source": {"_target_": "cnnzoo.data.sources.torchvision_set", "name": "CIFAR10", "root": "/data"},
            "root": "/data",
            "resident": "auto",
            "workers": 2,
        },
        "augmentation": {"flip": 0.5, "flip_mode": "random", "padding_mode": "reflect"},
        "loss": {"label_smoothing": 0.1},
        "trainer": {"max_epochs": 3, "compile_mode": "default", "progress_bar": True, "checkpoint_every_n_epochs": 1},
        "logger": {"tensorboard": True},
        "paths": {"data": "/data", "weights": "w", "outputs": "o"},
        "published": {"model": "resnet"},
    }
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(config))
    assert identity(read_config(tmp_path)) == {
        "seed": 1,
        "model": {"_target_": "ResNet"},
        "dataset": {
            "name": "cifar10",
            "source": {"_target_": "cnnzoo.data.sources.torchvision_set", "name": "CIFAR10"},
        },
        "augmentation": {"flip": 0.5, "padding_mode": "reflect"},
        "loss": {"label_smoothing": 0.1},
        "trainer": {"max_epochs": 3},
    }


def test_identity_of_a_config_file_with_a_source_of_ones_own(tmp_path: Path) -> None:
    """The folder of its images is part of the identity, also if it is `paths.data`."""
    config = compose(
        ["dataset.source._target_=mine.images", "+dataset.source.root=/data", "dataset.root=/data", "paths.data=/data"]
    )
    write_config(tmp_path, config)
    assert identity(read_config(tmp_path)) == identity(config)
    assert identity(config)["dataset"]["root"] == "/data"


LABELS = np.arange(20) % 10
LOGITS = np.eye(10, dtype=np.float32)[LABELS]


def _npz(**arrays: Any) -> bytes:
    file = io.BytesIO()
    np.savez_compressed(file, **arrays)
    return file.getvalue()


def _claiming(shape: tuple[int, ...], content: bytes = b"") -> bytes:
    """An archive of arrays whose headers say that they are of this shape."""
    header, file = io.BytesIO(), io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"shape": shape, "descr": "<f4", "fortran_order": False})
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in ("logits.npy", "labels.npy"):
            archive.writestr(name, header.getvalue() + content)
    return file.getvalue()


PREDICTIONS = {
    "empty": (b"", "is damaged"),
    "cut": (_npz(logits=LOGITS, labels=LABELS)[:-40], "is damaged"),
    "pickled": (_npz(logits=np.array([None]), labels=LABELS), "is damaged"),
    "no array": (_claiming(()).replace(b"NUMPY", b"XXXXX"), "is damaged"),
    "claims more than it has": (_claiming((10**13, 10)), "is damaged"),
    "bomb": (_claiming((2**27,), bytes(2**27 + 1)), "would take 256 MiB of memory"),
    "other names": (_npz(a=LOGITS), "lacks logits or labels"),
    "scalars": (_npz(logits=1, labels=2), "do not fit together"),
    "no classes": (_npz(logits=LOGITS[:, :0], labels=LABELS), "do not fit together"),
    "a million classes": (_npz(logits=np.zeros((1, 10**6), np.float32), labels=[0]), "do not fit together"),
    "no images": (_npz(logits=LOGITS[:0], labels=LABELS[:0]), "do not fit together"),
    "labels below 0": (_npz(logits=LOGITS, labels=LABELS - 1), "labels in predictions.npz are no class numbers"),
    "dates": (_npz(logits=LOGITS, labels=LABELS.astype("M8[s]")), "labels in predictions.npz are no class numbers"),
    "texts": (_npz(logits=LOGITS.astype(str), labels=LABELS), "logits in predictions.npz are no numbers"),
    "others": (_npz(logits=LOGITS, labels=LABELS[::-1]), "0.00% right, result.json 100.00%"),
}


@pytest.mark.parametrize(("content", "problem"), PREDICTIONS.values(), ids=PREDICTIONS.keys())
def test_odd_predictions_are_a_reason(content: bytes, problem: str, tmp_path: Path) -> None:
    (tmp_path / "predictions.npz").write_bytes(content)
    with pytest.raises(RunFileError, match=problem):
        read_predictions(tmp_path, 1.0)


def test_damaged_predictions_are_a_reason(tmp_path: Path) -> None:
    """Whatever byte is wrong: what is read is whole, or refused."""
    whole, draw = _npz(logits=LOGITS, labels=LABELS), random.Random(1)
    for _ in range(200):
        damaged = bytearray(whole)
        damaged[draw.randrange(len(damaged))] ^= 1 << draw.randrange(8)
        (tmp_path / "predictions.npz").write_bytes(damaged)
        try:
            logits, labels = read_predictions(tmp_path, 1.0)
        except RunFileError:
            continue
        assert np.array_equal(logits, LOGITS)
        assert np.array_equal(labels, LABELS)


@pytest.mark.parametrize("text", ["epoch\nx\n", 'epoch\n"1\n', "\0\n\0\n", "\n"])
def test_odd_metrics_are_a_reason(text: str, tmp_path: Path) -> None:
    (tmp_path / "metrics.csv").write_text(text)
    with pytest.raises(RunFileError, match=r"metrics\.csv is damaged"):
        read_metrics(tmp_path)


def test_pipes_and_large_files_are_a_reason(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "metrics.csv")
    with pytest.raises(RunFileError, match=r"metrics\.csv cannot be read: not a regular file"):
        read_metrics(tmp_path)
    os.mkfifo(tmp_path / "predictions.npz")
    with pytest.raises(RunFileError, match=r"predictions\.npz cannot be read: not a regular file"):
        read_predictions(tmp_path, None)
    (tmp_path / "metrics.csv").unlink()
    (tmp_path / "metrics.csv").write_bytes(b"1\n" * 2**22)
    with pytest.raises(RunFileError, match="larger than"):
        read_metrics(tmp_path)


def test_json_holds_no_nan(tmp_path: Path) -> None:
    values = {"a": float("nan"), "b": [float("inf"), 1.5], "c": {"d": -float("inf")}}
    assert json.loads(to_json(values)) == {"a": None, "b": [None, 1.5], "c": {"d": None}}
    write_result(tmp_path, values)
    assert "NaN" not in (tmp_path / "result.json").read_text()
