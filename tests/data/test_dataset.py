"""Splits and statistics against torch, numpy, PIL and published numbers; sources of the user's own."""

import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis.extra import numpy as hypothesis_numpy
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import TensorDataset, random_split
from torchvision.datasets import CIFAR10

from cnnzoo.config import Config, compose
from cnnzoo.data import memory
from cnnzoo.data.batches import BatchLoader
from cnnzoo.data.dataset import Dataset, _checksum, channel_statistics, load_dataset
from cnnzoo.data.images import Images, StreamedImages
from cnnzoo.data.sources import Source
from cnnzoo.data.splits import random_split_indices
from cnnzoo.errors import UserError


def published_split() -> tuple[list[int], list[int]]:
    """Indices of the tutorial's training and validation split."""
    torch.manual_seed(42)
    images = TensorDataset(torch.arange(50_000))
    train, val = random_split(images, [45_000, 5_000])
    return list(train.indices), list(val.indices)


def test_cifar10_is_the_published_one(config: Callable[..., Config], cifar10: Path) -> None:
    dataset = load_dataset(config("dataset=cifar10", f"paths.data={cifar10}").dataset)
    reference = CIFAR10(cifar10, train=True)
    train, val = published_split()
    assert torch.equal(dataset.train.labels, torch.tensor(reference.targets)[train])
    pixels = torch.from_numpy(reference.data).permute(0, 3, 1, 2)
    assert torch.equal(dataset.val.in_memory().images, pixels[val])
    assert torch.equal(dataset.train.in_memory().images[::97], pixels[train][::97])
    assert len(dataset.test) == 10_000
    # published to eight digits
    np.testing.assert_allclose(dataset.mean, [0.49139968, 0.48215841, 0.44653091], atol=5e-9 + 3e-8)
    np.testing.assert_allclose(dataset.std, [0.24703223, 0.24348513, 0.26158784], atol=5e-9 + 3e-8)
    # the tutorial's check: a normalised batch has mean near 0 and standard deviation near 1
    images, _ = next(iter(BatchLoader(dataset.train, dataset.mean, dataset.std, image_size=32, batch_size=4096)))
    assert images.mean(dim=(0, 2, 3)).abs().max() < 0.03
    assert (images.std(dim=(0, 2, 3)) - 1).abs().max() < 0.03


def test_split_equals_random_split() -> None:
    train, val = random_split_indices(50_000, 5_000, 42)
    assert (train.tolist(), val.tolist()) == published_split()


@pytest.mark.parametrize(("size", "expected"), [(180, 180), (0.25, round(0.25 * (1797 - 360))), (0, 0)])
def test_val_size_is_a_number_or_a_share(config: Callable[..., Config], size: float, expected: int) -> None:
    settings = config("dataset=digits", f"dataset.val_size={size}").dataset
    assert type(settings.val_size) is type(size)
    dataset = load_dataset(settings)
    assert (len(dataset.train), len(dataset.val), len(dataset.test)) == (1437 - expected, expected, 360)


def test_statistics_equal_numpys(random_images: Callable[..., Tensor]) -> None:
    images = random_images(50) // 3
    mean, std = channel_statistics(Images(images, torch.zeros(len(images))))
    scaled = images.numpy() / 255.0
    np.testing.assert_allclose(mean, scaled.mean(axis=(0, 2, 3)), rtol=1e-6)
    np.testing.assert_allclose(std, scaled.std(axis=(0, 2, 3)), rtol=1e-6)


SHAPES = hypothesis_numpy.array_shapes(min_dims=4, max_dims=4, max_side=5)


@given(pixels=hypothesis_numpy.arrays(np.uint8, SHAPES))
def test_statistics_of_any_images(pixels: NDArray[np.uint8]) -> None:
    """numpy's; a channel without contrast is not scaled."""
    mean, std = channel_statistics(Images(torch.from_numpy(pixels.copy()), torch.zeros(len(pixels))))
    scaled = pixels / 255
    np.testing.assert_allclose(mean, scaled.mean(axis=(0, 2, 3)), rtol=1e-5, atol=1e-6)
    expected = scaled.std(axis=(0, 2, 3))
    flat = (pixels == pixels[:1, :, :1, :1]).all(axis=(0, 2, 3))
    np.testing.assert_allclose(std, np.where(flat, 1, expected), rtol=1e-4)


def test_given_statistics_are_used(config: Callable[..., Config]) -> None:
    dataset = load_dataset(config("dataset=digits", "dataset.mean=[0.25]", "dataset.std=[0.5]").dataset)
    assert (dataset.mean.tolist(), dataset.std.tolist()) == ([0.25], [0.5])


def test_grey_to_colour_and_colour_to_grey(config: Callable[..., Config], cifar10: Path) -> None:
    grey = load_dataset(config("dataset=digits", "dataset.channels=3").dataset).test.in_memory().images
    assert grey.shape[1] == 3
    assert torch.equal(grey[:, 0], grey[:, 2])
    colour = load_dataset(config("dataset=cifar10", "dataset.channels=1").dataset)
    reference = np.asarray(CIFAR10(cifar10, train=False)[7][0].convert("L"), dtype=int)
    assert np.abs(colour.test.in_memory().images[7, 0].numpy().astype(int) - reference).max() <= 1


@pytest.mark.parametrize("override", ["dataset.num_classes=9", "dataset.val_size=2000", "dataset.channels=0"])
def test_configuration_that_does_not_fit_the_data(config: Callable[..., Config], override: str) -> None:
    with pytest.raises(UserError, match=override.partition("=")[0]):
        load_dataset(config("dataset=digits", override).dataset)


# --- a source of the user's own

SOURCE = """
import torch
from cnnzoo.data.images import Images
from cnnzoo.data.sources import Source

received = {}

def split(count):
    return Images(torch.zeros(count, 1, 6, 6, dtype=torch.uint8), torch.arange(count) % 3)

def source(root, image_size, sign="+") -> Source:
    received.update(root=root, image_size=image_size, sign=sign)
    return Source(split(20), split(6), ("a", "b", "c"))

def with_val() -> Source:
    return Source(split(20), split(6), ("a", "b", "c"), val=split(9))

def without_annotation():
    return source("", 6)

def high_label() -> Source:
    made = source("", 6)
    made.test.labels[2] = 77
    return made

def negative_label() -> Source:
    made = source("", 6)
    made.train.labels[0] = -1
    return made

def floating_point() -> Source:
    made = split(20)
    return Source(Images(made.images / 255, made.labels), split(6), ("a", "b", "c"))

def too_few_labels() -> Source:
    made = split(20)
    return Source(made, Images(made.images, made.labels[:-1]), ("a", "b", "c"))
"""

# Nothing but what no other data set can have in common with it.
YAML = """
defaults: [_base]
name: own
source: {_target_: own_source.source}
channels: 1
num_classes: 3
image_size: 6
"""


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Config]:
    """Compose the data set `own`, whose source is in a module of its own."""
    (tmp_path / "own_source.py").write_text(SOURCE)
    (tmp_path / "conf" / "dataset").mkdir(parents=True)
    (tmp_path / "conf" / "dataset" / "own.yaml").write_text(YAML)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "own_source", raising=False)
    return lambda *overrides: compose([f"hydra.searchpath=[{tmp_path}/conf]", "dataset=own", *overrides])


def test_keys_that_are_missing_are_named_together(own: Callable[..., Config], tmp_path: Path) -> None:
    (tmp_path / "conf" / "dataset" / "own.yaml").write_text("defaults: [_base]\nname: own\n")
    with pytest.raises(UserError) as error:
        own()
    missing = [f"dataset.{key}=…" for key in ("source", "channels", "num_classes", "image_size")]
    assert str(error.value).startswith(f"{', '.join(missing)} are missing")
    (tmp_path / "conf" / "dataset" / "own.yaml").write_text("name: own\n")
    with pytest.raises(UserError, match=r"dataset.batch_size=….* starts with `defaults: \[_base\]`"):
        own()


def test_own_source_needs_five_keys(own: Callable[..., Config]) -> None:
    config = own("paths.data=/somewhere", "+dataset.source.sign=-")
    dataset = load_dataset(config.dataset)
    assert (len(dataset.train), len(dataset.val), len(dataset.test)) == (18, 2, 6)
    import own_source  # type: ignore[import-not-found]

    assert own_source.received == {"root": "/somewhere", "image_size": 6, "sign": "-"}


def test_validation_split_of_a_source_is_kept(own: Callable[..., Config]) -> None:
    dataset = load_dataset(own("dataset.source._target_=own_source.with_val").dataset)
    assert list(map(len, dataset.splits)) == [20, 9, 6]


@pytest.mark.parametrize(
    ("function", "message"),
    [
        ("without_annotation", r"not known to return one.*trusted_packages=\[own_source\]"),
        ("high_label", r"1 of 6 test images have labels such as 77; expected 0 to 2 \(dataset.num_classes=3\)"),
        ("negative_label", "1 of 20 training images have labels such as -1"),
        ("floating_point", r"training images are torch.float32 \[20, 1, 6, 6\] .*; expected torch.uint8"),
        ("too_few_labels", r"test images are .* and their labels torch.int64 \[19\]"),
    ],
)
def test_sources_that_do_not_fit(own: Callable[..., Config], function: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        load_dataset(own(f"dataset.source._target_=own_source.{function}").dataset)


def test_digest_follows_images_and_labels(random_images: Callable[..., Tensor]) -> None:
    def digest(change: Callable[[Tensor, Tensor], object] = lambda images, labels: None, streamed: bool = False) -> str:
        images, labels = random_images(50), torch.arange(50) % 3
        change(images, labels)
        split = Images(images, labels)
        return _checksum(Source(split.streamed(0) if streamed else split, Images(images[:2], labels[:2]), ("a",)))

    def pixel(images: Tensor, labels: Tensor) -> None:
        images[30, 2, 5, 5] ^= 1

    def label(images: Tensor, labels: Tensor) -> None:
        labels[30] = 1

    assert digest() == digest() == digest(streamed=True)
    assert len({digest(), digest(pixel), digest(label)}) == 3


def test_trusted_source_needs_no_annotation(own: Callable[..., Config]) -> None:
    config = own("dataset.source._target_=own_source.without_annotation")
    assert len(load_dataset(config.dataset, trusted_packages=["own_source"]).test) == 6


# --- in memory or streamed


@pytest.mark.parametrize("name", ["digits", "image_folder"])
def test_streamed_splits_equal_those_in_memory(
    config: Callable[..., Config], folder_config: Callable[..., Config], pets: Path, name: str
) -> None:
    def load(resident: str) -> Dataset:
        override = f"dataset.resident={resident}"
        settings = folder_config(pets, override) if name == "image_folder" else config(f"dataset={name}", override)
        return load_dataset(settings.dataset)

    in_memory, streamed = load("true"), load("false")
    assert torch.equal(in_memory.mean, streamed.mean)
    assert torch.equal(in_memory.std, streamed.std)
    for ours, theirs in zip(streamed.splits, in_memory.splits, strict=True):
        assert isinstance(ours, StreamedImages)
        assert isinstance(theirs, Images)
        assert torch.equal(ours.in_memory().images, theirs.images)
        assert torch.equal(ours.labels, theirs.labels)


def test_auto_keeps_in_memory_what_leaves_as_much_for_training(
    load: Callable[..., Dataset], pets: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    size = 60 * 3 * 8 * 8
    for free, kind in ((2 * size, Images), (2 * size - 1, StreamedImages)):
        monkeypatch.setattr(memory, "free", lambda device, free=free: free)
        with caplog.at_level("INFO", logger="cnnzoo"):
            data = load(pets)
        assert type(data.train) is type(data.to("cpu").test) is kind
    assert [record.message for record in caplog.records if "batch by batch" in record.message] == [
        "0.0 GB of images, 0.0 GB of cpu memory free: reading them batch by batch (dataset.resident=true keeps them"
        " there)"
    ]
    assert isinstance(load(pets, "dataset.resident=true").train, Images)
    monkeypatch.setattr(memory, "free", lambda device: size - 1)
    with pytest.raises(UserError, match=r"dataset\.resident=true: .*dataset\.resident=auto"):
        load(pets, "dataset.resident=true")


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("dataset.resident=perhaps", r"dataset\.resident=perhaps: expected auto, true or false"),
        ("dataset.workers=-1", r"dataset\.workers=-1"),
    ],
)
def test_wrong_values(config: Callable[..., Config], override: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        config(override)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")
def test_images_too_many_for_the_gpu_stay_in_main_memory(
    config: Callable[..., Config], monkeypatch: pytest.MonkeyPatch
) -> None:
    free = memory.free
    monkeypatch.setattr(memory, "free", lambda device=memory.CPU: 1000 if device.type == "cuda" else free(device))
    data = load_dataset(config("dataset=digits").dataset)
    assert isinstance(data.train, Images)
    assert isinstance(data.to("cuda").train, StreamedImages)
