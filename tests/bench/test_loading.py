"""The sections `augmentation` and `loading`."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from cnnzoo.bench.context import Context
from cnnzoo.bench.loaders import jpeg_loader
from cnnzoo.bench.loading import MappedImages, measure_augmentation, measure_loading, write_images
from cnnzoo.data.module import train_loader


def test_augmentation(context: Callable[..., Context]) -> None:
    result = measure_augmentation(context("workers=1"))
    entries = result["contestants"]
    assert list(entries) == ["cnnzoo", "PIL in workers", "v2 in workers"]
    assert all(len(entry["rounds"]) == 2 for entry in entries.values())
    for name in ("PIL in workers", "v2 in workers"):
        expected = [a / b for a, b in zip(entries["cnnzoo"]["rounds"], entries[name]["rounds"], strict=True)]
        assert result["ratios"][name]["rounds"] == pytest.approx(expected)


def test_loading(context: Callable[..., Context]) -> None:
    entries = measure_loading(context("workers=1"))["contestants"]
    files = [f"file, {n} threads" for n in (0, 1, 2, 4)]
    assert list(entries) == ["memory", *files, "file, 1 processes", "ImageFolder, 1 processes"]
    assert all(len(entry["rounds"]) == 2 for entry in entries.values())


def test_same_images(context: Callable[..., Context], tmp_path: Path) -> None:
    small = context()
    images = write_images(small, tmp_path, 12)
    mapped = MappedImages(images.store, images.rows, images.labels, workers=1)
    ours, theirs = (train_loader(replace(small.dataset, train=split), small.config) for split in (images, mapped))
    for (x, y), (x_, y_) in zip(ours, theirs, strict=True):
        assert torch.equal(x, x_)
        assert torch.equal(y, y_)
    files = jpeg_loader(tmp_path / "jpeg", replace(small.dataset, train=images), small.config, 3)
    in_memory, decoded = (sorted(torch.cat([x for x, _ in batches]).flatten(1).tolist()) for batches in (ours, files))
    np.testing.assert_allclose(in_memory, decoded, atol=1e-6)
