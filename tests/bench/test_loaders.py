"""The alternatives give the same images, and the clock runs for the batches that count."""

import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

from cnnzoo.bench.context import random_dataset
from cnnzoo.bench.loaders import pil_loader, time_epoch, time_steps, v2_loader
from cnnzoo.config.schema import BenchConfig
from cnnzoo.data.dataset import Dataset

Loader = Callable[..., Any]


@pytest.mark.parametrize("make", [pil_loader, v2_loader])
def test_same_images_without_augmentation(make: Loader, small: Callable[..., BenchConfig], dataset: Dataset) -> None:
    train = dataset.train.in_memory()
    labels_of = {
        tuple(image.flatten().tolist()): int(label) for image, label in zip(train.images, train.labels, strict=True)
    }
    batches = list(make(dataset, small(), 3))
    assert [x.shape for x, _ in batches] == [(4, 1, 8, 8)] * 3
    for images, labels in batches:
        pixels = (images * 0.25 + 0.5) * 255  # mean and standard deviation of the random data undone
        torch.testing.assert_close(pixels, pixels.round(), rtol=0, atol=1e-3)
        assert [labels_of[tuple(x.round().flatten().tolist())] for x in pixels] == labels.tolist()


@pytest.mark.parametrize("make", [pil_loader, v2_loader])
def test_augmentation_is_drawn_per_image(make: Loader, config: Callable[..., Any]) -> None:
    settings = config("dataset=cifar10", "dataset.batch_size=4", "workers=0", name="bench")
    one_image = random_dataset(settings.dataset, train=1, test=1)
    images = torch.cat([x for x, _ in make(one_image, settings, 2)])
    assert images.shape == (8, 3, 32, 32)
    assert len({tuple(image.flatten().tolist()) for image in images}) > 4


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Replace the clock by one that stands still unless its time is changed."""
    clock = [100.0]
    monkeypatch.setattr(time, "perf_counter", lambda: clock[0])
    return clock


def slow_batches(clock: list[float], count: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield batches of 4 that take a second each."""
    for _ in range(count):
        clock[0] += 1
        yield torch.empty(4, 1), torch.empty(4)


def test_time_steps(clock: list[float]) -> None:
    batches = slow_batches(clock, 9)
    measurement = time_steps(batches, skip=2, steps=3)
    assert (measurement.images, measurement.seconds) == (12, 3.0)
    assert next(batches, None) is None  # all fetched


def test_time_epoch(clock: list[float]) -> None:
    measurement = time_epoch(slow_batches(clock, 7), torch.device("cpu"))
    assert (measurement.images, measurement.seconds) == (28, 7.0)
