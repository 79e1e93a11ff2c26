"""The published files of corrupted test images: what is read, what is refused, and what of a run they change."""

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from cnnzoo.config import Config, config_hash, identity
from cnnzoo.data import corruptions
from cnnzoo.data.corruptions import parse, read_corrupted, with_corrupted_test
from cnnzoo.data.dataset import load_dataset
from cnnzoo.data.images import Images
from cnnzoo.data.sources import Source
from cnnzoo.errors import UserError
from cnnzoo.results.run_folder import published_metrics

LABELS = np.array([3, 0, 1, 1], dtype=np.int64)


def save(folder: Path, monkeypatch: pytest.MonkeyPatch, **arrays: Any) -> None:
    """Files in the published format, which then count as the published ones."""
    (folder / "CIFAR-10-C").mkdir(exist_ok=True)
    for name, array in arrays.items():
        path = folder / "CIFAR-10-C" / f"{name}.npy"
        np.save(path, array)
        monkeypatch.setitem(corruptions._MD5, name, hashlib.md5(path.read_bytes()).hexdigest())


def fog(images: int = 4) -> Any:
    """Images whose red is the severity and whose green is the image's number."""
    array = np.zeros((5 * images, 32, 32, 3), dtype=np.uint8)
    array[..., 0] = np.repeat(np.arange(1, 6), images)[:, None, None]
    array[..., 1] = np.tile(np.arange(images), 5)[:, None, None]
    return array


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    save(tmp_path, monkeypatch, labels=np.tile(LABELS, 5).astype(np.uint8), fog=fog())
    return tmp_path


@pytest.fixture
def source(random_images: Callable[..., torch.Tensor]) -> Source:
    train, test = random_images(6), random_images(4)
    labels = torch.tensor([0, 1, 2, 3, 0, 1])
    return Source(Images(train, labels), Images(test, torch.from_numpy(LABELS)), tuple("abcd"), digest="clean")


def test_one_severity_and_all(folder: Path) -> None:
    every = read_corrupted(folder, "fog", LABELS)
    assert every.images.shape == (20, 3, 32, 32)
    assert every.images[:, 0, 7, 9].tolist() == [1] * 4 + [2] * 4 + [3] * 4 + [4] * 4 + [5] * 4
    assert every.labels.tolist() == 5 * LABELS.tolist()
    one = read_corrupted(folder, "fog", LABELS, 3)
    assert one.images[:, 0, 31, 0].tolist() == [3, 3, 3, 3]
    assert one.images[:, 1, 0, 31].tolist() == [0, 1, 2, 3]
    assert one.labels.dtype == torch.int64
    assert one.labels.tolist() == LABELS.tolist()


@pytest.mark.parametrize(
    ("test", "expected"),
    [
        ("cifar10_c", (None, None)),
        ("cifar10_c/saturate", ("saturate", None)),
        ("cifar10_c/jpeg_compression/5", ("jpeg_compression", 5)),
    ],
)
def test_names(test: str, expected: tuple[str | None, int | None]) -> None:
    assert parse(test) == expected


@pytest.mark.parametrize(
    ("test", "message"),
    [
        ("cifar10-c", "expected cifar10_c, .*Did you mean 'cifar10_c'"),
        ("cifar10_c/fgo", "no such corruption. Did you mean 'fog'"),
        ("cifar10_c/fog/0", "a severity of 1 to 5"),
        ("cifar10_c/fog/6", "a severity of 1 to 5"),
        ("cifar10_c/fog/3/1", "expected cifar10_c, "),
        ("cifar10_c/", "no such corruption"),
        ("", "expected cifar10_c, "),
        ("cifar10_c/../labels", "no such corruption"),
    ],
)
def test_mistyped_names(test: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        parse(test)


def test_published_list() -> None:
    """15 in the mean, and 4 more; a checksum for each and for the labels."""
    assert len(set(corruptions.CORRUPTIONS)) == 15
    assert {*corruptions.CORRUPTIONS, *corruptions._EXTRA, "labels"} == corruptions._MD5.keys()
    assert all(len(checksum) == 32 for checksum in corruptions._MD5.values())


def test_missing_file_says_what_to_get(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"labels\.npy: there is no such file.*CIFAR-10-C\.tar.*2535967.*unpack it"):
        read_corrupted(tmp_path, "fog", LABELS)


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (fog().astype(np.float32), r"holds float32 \[20, 32, 32, 3\]; expected uint8 \[20, 32, 32, 3\]"),
        (fog().transpose(0, 3, 1, 2), r"holds uint8 \[20, 3, 32, 32\]; expected"),
        (fog()[:-1], r"holds uint8 \[19, 32, 32, 3\]; expected"),
        (np.array([{}], dtype=object), r"fog\.npy cannot be read \(.*\): it is damaged"),  # a pickle
    ],
)
def test_wrong_shape_or_type(array: Any, message: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save(folder, monkeypatch, fog=array)
    with pytest.raises(UserError, match=message):
        read_corrupted(folder, "fog", LABELS)


def test_cut_off_file(folder: Path) -> None:
    path = folder / "CIFAR-10-C" / "fog.npy"
    for size in (len(path.read_bytes()) - 1, 20, 0):
        path.write_bytes(path.read_bytes()[:size])
        with pytest.raises(UserError, match=r"cannot be read .*it is damaged"):
            read_corrupted(folder, "fog", LABELS)


def test_one_changed_byte(folder: Path) -> None:
    path = folder / "CIFAR-10-C" / "fog.npy"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(UserError, match="differs from the published file"):
        read_corrupted(folder, "fog", LABELS)


@pytest.mark.parametrize("labels", [LABELS[:3], LABELS[::-1], np.tile(LABELS, 2)])
def test_other_test_images(labels: Any, folder: Path) -> None:
    with pytest.raises(UserError, match=r"are not those of this data set's .* goes with dataset=cifar10"):
        read_corrupted(folder, "fog", labels)


def test_test_split_is_replaced(folder: Path, source: Source, monkeypatch: pytest.MonkeyPatch) -> None:
    found = with_corrupted_test(source, "cifar10_c/fog/2", folder)
    assert (found.test.in_memory().images[:, 0] == 2).all()
    assert found.train is source.train
    digests = {source.digest, found.digest, with_corrupted_test(source, "cifar10_c/fog/1", folder).digest}
    save(folder, monkeypatch, fog=fog() + 1)
    digests.add(with_corrupted_test(source, "cifar10_c/fog/2", folder).digest)
    assert len(digests) == 4
    with pytest.raises(UserError, match=r"evaluate weights=RUN dataset\.test=cifar10_c"):
        with_corrupted_test(source, "cifar10_c", folder)


def test_dataset_of_a_run(folder: Path, source: Source, config: Callable[..., Config], monkeypatch: Any) -> None:
    monkeypatch.setattr("cnnzoo.data.dataset.instantiate", lambda *args, **kwargs: source)
    grey = config("dataset=cifar10", f"paths.data={folder}", "dataset.test=cifar10_c/fog/5", "dataset.channels=1")
    grey.dataset.num_classes, grey.dataset.val_size = 4, 1
    data = load_dataset(grey.dataset)
    assert data.test.shape == (4, 1, 32, 32)
    assert (data.test.in_memory().images[:, 0, 0, 0] > 0).all()


def test_identity(config: Callable[..., Config]) -> None:
    clean, corrupted = config("dataset=cifar10"), config("dataset=cifar10", "dataset.test=cifar10_c/fog/5")
    assert "test" not in identity(clean)["dataset"]
    assert config_hash(clean) != config_hash(corrupted)


def test_published_test_accuracy_is_not_of_corrupted_images(config: Callable[..., Config]) -> None:
    clean = published_metrics(config("experiment=uvadlc/resnet"))
    corrupted = published_metrics(config("experiment=uvadlc/resnet", "dataset.test=cifar10_c/fog"))
    assert clean is not None
    assert corrupted == {key: value for key, value in clean.items() if key != "test_accuracy"} != clean
