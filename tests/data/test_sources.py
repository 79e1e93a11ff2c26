"""torchvision's data sets and the bundled digits."""

import os
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

DATA = Path(os.environ.get("CNNZOO_DATA", "data")).absolute()


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
    with pytest.raises(UserError, match=r"missing or damaged in .* \(damaged: data_batch_3\)"):
        torchvision_set("CIFAR10", str(tmp_path))


@pytest.fixture
def idx_files(tmp_path: Path) -> Callable[[str], Path]:
    """`idx_files("MNIST")`: the folder of the four real files, which are links."""

    def link(name: str) -> Path:
        original, folder = DATA / name / "raw", tmp_path / name / "raw"
        if not original.is_dir():
            pytest.skip(f"{name} is not in {DATA}; set CNNZOO_DATA to where it is")
        folder.mkdir(parents=True)
        for file in original.iterdir():
            (folder / file.name).symlink_to(file)
        return folder

    return link


@pytest.mark.parametrize("damage", ["zeros", "bit", "cut", "empty"])
@pytest.mark.parametrize("file", ["train-labels-idx1-ubyte", "t10k-labels-idx1-ubyte", "t10k-images-idx3-ubyte"])
@pytest.mark.parametrize("name", ["MNIST", "FashionMNIST"])
def test_damaged_idx_files_are_named(idx_files: Callable[[str], Path], name: str, file: str, damage: str) -> None:
    """torchvision reads them as they are."""
    path = idx_files(name) / file
    content = bytearray(path.read_bytes())
    path.unlink()
    content[1000] ^= 1
    zeros = content[:8] + bytes(len(content) - 8)
    contents = {"zeros": zeros, "bit": content, "cut": content[:-1], "empty": bytearray()}
    path.write_bytes(contents[damage])
    with pytest.raises(UserError, match=rf"{name} is damaged: {file} in .* Delete it to have it downloaded again"):
        torchvision_set(name, str(path.parents[2]))  # type: ignore[arg-type]


def test_undamaged_idx_files(idx_files: Callable[[str], Path]) -> None:
    for name in ("MNIST", "FashionMNIST"):
        source = torchvision_set(name, str(idx_files(name).parents[1]))
        assert (len(source.train), len(source.test), source.digest) == (60_000, 10_000, name)


def test_idx_file_that_cannot_be_read(idx_files: Callable[[str], Path]) -> None:
    path = idx_files("MNIST") / "t10k-labels-idx1-ubyte"
    path.unlink()
    path.mkdir()
    with pytest.raises(UserError, match=r"t10k-labels-idx1-ubyte cannot be read .Is a directory."):
        torchvision_set("MNIST", str(path.parents[2]))


def test_files_of_early_torchvisions_are_not_read(idx_files: Callable[[str], Path]) -> None:
    """torchvision would prefer them to those that are verified."""
    folder = idx_files("MNIST").with_name("processed")
    folder.mkdir()
    for name, count in (("training.pt", 60_000), ("test.pt", 10_000)):
        torch.save((torch.zeros(count, 28, 28, dtype=torch.uint8), torch.zeros(count)), folder / name)
    with pytest.raises(UserError, match=r"MNIST/processed: .*Delete the folder"):
        torchvision_set("MNIST", str(folder.parents[1]))


def test_damaged_svhn_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("socket.socket.connect", no_network)
    (tmp_path / "test_32x32.mat").write_bytes(b"cut")
    with pytest.raises(UserError, match=r"SVHN is missing or damaged in .* \(damaged: test_32x32\.mat\), and"):
        torchvision_set("SVHN", str(tmp_path))


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
