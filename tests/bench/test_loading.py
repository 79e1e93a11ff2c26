"""The sections `augmentation` and `loading`, and the alternatives that they measure."""

import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from cnnzoo.bench.context import Context, random_dataset
from cnnzoo.bench.loading import (
    jpeg_loader,
    measure_augmentation,
    measure_loading,
    pil_loader,
    skipped_and_all,
    time_batches,
    v2_loader,
    write_images,
)
from cnnzoo.config.schema import BenchConfig
from cnnzoo.data.loaders import train_loader

Loader = Callable[..., Any]
MakeContext = Callable[..., Context]


@pytest.mark.parametrize("make", [pil_loader, v2_loader])
def test_same_images_without_augmentation(make: Loader, context: MakeContext) -> None:
    train = context().dataset.train.in_memory()
    labels_of = {
        tuple(image.flatten().tolist()): int(label) for image, label in zip(train.images, train.labels, strict=True)
    }
    batches = list(make(context()))
    assert [x.shape for x, _ in batches] == [(4, 1, 8, 8)] * 3
    for images, labels in batches:
        pixels = (images * 0.25 + 0.5) * 255  # mean and standard deviation of the random data undone
        torch.testing.assert_close(pixels, pixels.round(), rtol=0, atol=1e-3)
        assert [labels_of[tuple(x.round().flatten().tolist())] for x in pixels] == labels.tolist()


@pytest.mark.parametrize("make", [pil_loader, v2_loader])
def test_augmentation_is_drawn_per_image(make: Loader, config: Callable[..., Any]) -> None:
    overrides = ("dataset=cifar10", "dataset.batch_size=4", "workers=0", "warmup_steps=1", "steps=1", "trainer=cpu")
    settings = config(*overrides, name="bench")
    images = torch.cat([x for x, _ in make(Context(settings, random_dataset(settings.dataset, train=1, test=1)))])
    assert images.shape == (8, 3, 32, 32)
    assert len({tuple(image.flatten().tolist()) for image in images}) > 4


def test_augmentation(context: MakeContext) -> None:
    result = measure_augmentation(context("workers=1"))
    entries = result["contestants"]
    assert list(entries) == ["cnnzoo", "PIL in workers", "v2 in workers"]
    assert all(len(entry["rounds"]) == 2 for entry in entries.values())
    for name in ("PIL in workers", "v2 in workers"):
        expected = [a / b for a, b in zip(entries["cnnzoo"]["rounds"], entries[name]["rounds"], strict=True)]
        assert result["ratios"][name]["rounds"] == pytest.approx(expected)


def test_loading(context: MakeContext) -> None:
    entries = measure_loading(context("workers=1"))["contestants"]
    files = [f"file, {n} threads" for n in (0, 1, 2, 4)]
    assert list(entries) == ["memory", *files, "ImageFolder, 1 processes"]
    assert all(len(entry["rounds"]) == 2 for entry in entries.values())


@pytest.mark.parametrize("channels", [1, 3])
def test_jpeg_files_hold_the_images_of_the_file(
    channels: int, small: Callable[..., BenchConfig], tmp_path: Path
) -> None:
    config = small(f"dataset.channels={channels}")
    random = random_dataset(replace(config.dataset, image_size=8), train=40, test=8)
    images = write_images(Context(config, random), tmp_path)
    assert images.shape == (12, channels, 8, 8)
    written = Context(config, replace(random, train=images))
    ours, theirs = train_loader(written.dataset, config), jpeg_loader(tmp_path / "jpeg", written)
    in_file, decoded = (sorted(torch.cat([x for x, _ in batches]).flatten(1).tolist()) for batches in (ours, theirs))
    np.testing.assert_allclose(in_file, decoded, atol=1e-6)


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


def test_time_after_warm_up(clock: list[float], small: Callable[..., BenchConfig]) -> None:
    assert skipped_and_all(small("warmup_steps=3", "steps=5")) == (3, 8)
    assert skipped_and_all(small("warmup_steps=3", "steps=5", "workers=2")) == (4, 13)
    batches = slow_batches(clock, 9)
    assert time_batches(batches, torch.device("cpu"), skip=2, count=3) == 3 * 4 / 3.0
    assert clock == [109.0]  # all fetched


def test_time_of_an_epoch(clock: list[float]) -> None:
    def batches() -> Iterator[tuple[Tensor, Tensor]]:
        clock[0] += 3  # the draw of the epoch's order
        yield from slow_batches(clock, 7)

    assert time_batches(batches(), torch.device("cpu")) == 28 / 10.0
