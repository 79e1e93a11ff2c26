"""The script's section `mapped_file`."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch

from benchmarks.mapped_file import MappedImages, measure_mapped_file
from cnnzoo.bench.context import Context
from cnnzoo.bench.loading import write_images
from cnnzoo.data.loaders import train_loader


def test_section(context: Callable[..., Context]) -> None:
    entries = measure_mapped_file(context("workers=1"))["contestants"]
    assert list(entries) == ["file, 2 threads", "file, 1 processes"]
    assert all(len(entry["rounds"]) == 2 for entry in entries.values())


def test_same_images(context: Callable[..., Context], tmp_path: Path) -> None:
    small = context()
    images = write_images(small, tmp_path)
    mapped = MappedImages(images.store, images.rows, images.labels, workers=1)
    ours, theirs = (train_loader(replace(small.dataset, train=split), small.config) for split in (images, mapped))
    for (x, y), (x_, y_) in zip(ours, theirs, strict=True):
        assert torch.equal(x, x_)
        assert torch.equal(y, y_)
