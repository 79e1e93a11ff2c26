"""torchvision's data sets and the bundled digits."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision.datasets
from sklearn.datasets import load_digits

from cnnzoo.config import Config
from cnnzoo.data.dataset import load_dataset
from cnnzoo.data.sources import digits, torchvision_set
from cnnzoo.errors import UserError


def no_network(*args: object) -> None:
    raise OSError("no network in this test")


def test_missing_data(config: Callable[..., Config], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("socket.socket.connect", no_network)
    with pytest.raises(UserError, match=r"CIFAR10 is missing or damaged in .*CNNZOO_DATA") as error:
        load_dataset(config("dataset=cifar10", f"paths.data={tmp_path}").dataset)
    assert str(tmp_path) in str(error.value)


def test_damaged_data(cifar10: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("socket.socket.connect", no_network)
    (tmp_path / "cifar-10-batches-py").mkdir()
    for file in (cifar10 / "cifar-10-batches-py").iterdir():
        (tmp_path / "cifar-10-batches-py" / file.name).symlink_to(file)
    batch = tmp_path / "cifar-10-batches-py" / "data_batch_3"
    content = bytearray(batch.read_bytes())
    content[1000] ^= 1
    batch.unlink()
    batch.write_bytes(content)
    with pytest.raises(UserError, match="missing or damaged"):
        torchvision_set("CIFAR10", str(tmp_path))


def test_incomplete_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """MNIST's files have no checksum that torchvision verifies."""
    monkeypatch.setattr(torchvision.datasets, "MNIST", lambda root, download, train: range(59_999))
    with pytest.raises(UserError, match=r"59999 training images instead of 60000: it is damaged\. Delete its folder"):
        torchvision_set("MNIST", str(tmp_path))


def test_digits_are_complete_and_disjoint_with_a_stratified_test_split() -> None:
    source = digits(test_size=360, split_seed=42)
    assert (len(source.train), len(source.test), source.val) == (1437, 360, None)
    images = torch.cat([split.in_memory().images for split in (source.train, source.test)])
    original = torch.as_tensor(np.rint(load_digits().images * 255 / 16).astype(np.uint8))
    assert sorted(map(bytes, images.flatten(1).numpy())) == sorted(map(bytes, original.flatten(1).numpy()))
    counts = torch.bincount(source.test.labels)
    assert counts.max() - counts.min() <= 2
