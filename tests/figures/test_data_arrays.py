"""Arrays behind the figures of a data set."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from cnnzoo.data.dataset import load_dataset
from cnnzoo.figures import data_arrays


@pytest.fixture
def compose(config: Callable[..., Any]) -> Callable[..., Any]:
    return lambda *overrides: config("dataset=digits", *overrides, name="figures_data")


def test_versions_are_flips_of_the_originals(compose: Callable[..., Any]) -> None:
    config = compose("augmentation.flip=1.0", "image_size=8")
    dataset = load_dataset(config.dataset)
    originals, versions, names = data_arrays.augmented_images(dataset, config)
    assert originals.shape == (4, 8, 8, 1)
    assert names == ["0", "1", "2", "3"]
    assert versions.shape == (4, data_arrays.AUGMENTED_VERSIONS, 8, 8, 1)
    for version in versions.swapaxes(0, 1):
        np.testing.assert_array_equal(version, originals[:, :, ::-1])
    for original, name in zip(originals, names, strict=True):
        pixels = torch.from_numpy(original.copy()).permute(2, 0, 1)
        found = (dataset.train.images == pixels).all(dim=(1, 2, 3)).nonzero()  # type: ignore[union-attr]
        assert dataset.classes[dataset.train.labels[found[0, 0]]] == name


def test_versions_are_draws_of_their_own(compose: Callable[..., Any]) -> None:
    config = compose("augmentation=crop")
    _, versions, _ = data_arrays.augmented_images(load_dataset(config.dataset), config)
    assert versions.shape[2:] == (32, 32, 1), "as the network gets them"
    assert all((versions[:, 0] != versions[:, i]).any() for i in range(1, versions.shape[1]))


def test_versions_without_augmentation_are_the_originals(compose: Callable[..., Any]) -> None:
    config = compose("image_size=8")
    originals, versions, _ = data_arrays.augmented_images(load_dataset(config.dataset), config)
    for version in versions.swapaxes(0, 1):
        np.testing.assert_array_equal(version, originals)


def test_training_batch_of_a_set_smaller_than_a_batch(compose: Callable[..., Any]) -> None:
    config = compose("dataset.batch_size=5000", "dataset.drop_last=true")
    dataset = load_dataset(config.dataset)
    assert data_arrays.training_batch(dataset, config).shape == (len(dataset.train), 1, 32, 32)


def test_statistics_by_hand() -> None:
    counts = np.zeros((3, 256), dtype=np.int64)
    counts[0, [0, 255]] = 1  # black and white
    counts[1, 51] = 7  # 0.2 everywhere
    counts[2] = 1  # every value once
    mean, std = np.full(3, 0.5, np.float32), np.full(3, 0.25, np.float32)
    batch = np.stack([np.full((2, 4, 4), 3.0), np.zeros((2, 4, 4)), np.zeros((2, 4, 4))], axis=1).astype(np.float32)
    batch[0, 1] = 1
    statistics = data_arrays.channel_statistics(counts, batch, mean, std)
    assert statistics.index.tolist() == ["red", "green", "blue"]
    assert statistics["pixel_mean"].tolist() == pytest.approx([0.5, 0.2, 0.5])
    assert statistics["pixel_std"].tolist() == pytest.approx([0.5, 0, np.arange(256).std() / 255])
    assert statistics["mean"].tolist() == pytest.approx([0, -1.2, 0])
    assert statistics["std"].tolist() == pytest.approx([2, 0, 4 * np.arange(256).std() / 255])
    assert statistics["batch_mean"].tolist() == [3, 0.5, 0]
    assert statistics["batch_std"].tolist() == [0, 0.5, 0]


@pytest.mark.parametrize(
    ("count", "names"), [(1, ["grey"]), (2, ["channel 0", "channel 1"]), (3, ["red", "green", "blue"])]
)
def test_names_of_channels(count: int, names: list[str]) -> None:
    ones = np.ones(count, np.float32)
    statistics = data_arrays.channel_statistics(
        np.ones((count, 256), np.int64), np.zeros((1, count, 2, 2), np.float32), ones, ones
    )
    assert statistics.index.tolist() == names


def test_pictures_have_colour_or_one_channel(compose: Callable[..., Any]) -> None:
    for channels, depth in ((1, 1), (2, 1), (3, 3)):
        train = load_dataset(compose(f"dataset.channels={channels}").dataset).train
        pictures = data_arrays.pictures(train, np.array([5, 2]))
        assert pictures.shape == (2, 8, 8, depth)
        np.testing.assert_array_equal(pictures[1, :, :, 0], train.images[2, 0].numpy())  # type: ignore[union-attr]
