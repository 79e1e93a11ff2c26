"""Names of classes from settings alone."""

from pathlib import Path

import numpy as np
from torchvision.datasets import FashionMNIST

from cnnzoo.figures.classes import class_names

SET, FOLDER = "cnnzoo.data.sources.torchvision_set", "cnnzoo.data.image_folder.image_folder"


def test_names_are_torchvisions(cifar10: Path) -> None:
    assert list(class_names(10, SET, "FashionMNIST", None)) == FashionMNIST.classes
    meta = np.load(cifar10 / "cifar-10-batches-py" / "batches.meta", allow_pickle=True)
    assert list(class_names(10, SET, "CIFAR10", None)) == meta["label_names"]
    assert list(class_names(10, SET, "MNIST", None)) == [str(digit) for digit in range(10)]


def test_names_are_folders(tmp_path: Path) -> None:
    for name in ("wolf", "dog"):
        (tmp_path / name).mkdir()
    assert class_names(2, FOLDER, float("nan"), str(tmp_path)) == ["dog", "wolf"]


def test_unknown_names_are_numbers(tmp_path: Path) -> None:
    assert class_names(2, FOLDER, None, "/not/on/this/machine") == ["0", "1"]
    assert class_names(2, FOLDER, None, float("nan")) == ["0", "1"]
    assert class_names(3, SET, "CIFAR10", None) == ["0", "1", "2"], "another number of classes"
    assert class_names(2, None, None, None) == ["0", "1"]
