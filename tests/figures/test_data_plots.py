"""Figures of a data set: what they show, and that they fit a page."""

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from cnnzoo.config.schema import AugmentationConfig
from cnnzoo.figures import data_plots, style
from cnnzoo.figures.data_arrays import channel_statistics


@pytest.mark.parametrize(("classes", "size"), [(2, 28), (15, 9), (16, 32), (100, 32), (400, 5)])
def test_any_number_of_classes(classes: int, size: int, tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    labels = random.integers(0, classes, 5 * classes)
    labels[:3] = 0
    labels[labels == 1] = 0  # a class without training images
    pictures = random.integers(0, 256, (len(labels), size, size, 3), dtype=np.uint8)
    names = [f"class_{i}_" + "long" * (i % 9) for i in range(classes)]
    shown = data_plots.examples(labels, classes)
    with style.look():
        grid = data_plots.images(pictures[shown], labels[shown], names)
        bars = data_plots.balance({"train": labels, "val": labels[:7], "test": labels[:30]}, names)
        for path in style.save({"grid": grid, "bars": bars}, tmp_path, ["png"]):
            with Image.open(path) as image:
                assert image.width < 8.5 * 250, "fits a page"
                assert image.height < 11 * 250
    for axes, total in zip(bars.axes, (len(labels), 7, len(labels[:30])), strict=True):
        assert sum(bar.get_width() for bar in axes.patches) == total  # type: ignore[attr-defined]
        assert f"{total:,}" in axes.get_title(loc="left")
    if classes <= 100:
        below = [text.get_text() for text in grid.axes[0].texts]
        left = [label.get_text() for label in grid.axes[0].get_yticklabels()]
        limit = 24 if classes <= 15 else 14
        assert below + left == [name if len(name) <= limit else name[: limit - 1] + "…" for name in names]


def test_a_row_is_a_class() -> None:
    labels = np.array([0, 1] * 30 + [2] * 3)
    values = np.array([50, 200, 99], dtype=np.uint8)[labels]
    pictures = np.broadcast_to(values[:, None, None, None], (63, 8, 8, 1))
    canvas: Any = data_plots.images(pictures, labels, ["dark", "light", "few"]).axes[0].images[0].get_array()
    row = len(canvas) // 3
    for i, value in enumerate((50, 200, 99)):
        assert set(np.unique(canvas[i * row : i * row + 8])) == {value, 255}
    assert (canvas[2 * row :] == 99).sum() == 3 * 64, "blank where there are no more images"
    assert (canvas[:row] == 50).sum() == 10 * 64


def test_an_image_for_each_of_many_classes() -> None:
    labels = np.arange(23)
    pictures = np.broadcast_to((10 * labels.astype(np.uint8))[:, None, None, None], (23, 4, 4, 1))
    canvas: Any = data_plots.images(pictures, labels, [str(label) for label in labels]).axes[0].images[0].get_array()
    down, right = canvas.shape[0] // 3, canvas.shape[1] // 10
    for label in labels:
        row, column = divmod(label, 10)
        assert (canvas[row * down :, column * right :][:4, :4] == 10 * label).all()


def test_originals_and_versions() -> None:
    originals = np.arange(3, dtype=np.uint8)[:, None, None, None] * np.ones((3, 5, 5, 1), np.uint8)
    versions = np.stack([originals + 10, originals + 20], axis=1)
    augmentation = AugmentationConfig(
        flip=0.5, flip_mode="alternating", scale=[0.8, 1.0], ratio=[0.9, 1.1], padding=0, padding_mode="constant"
    )
    axes = data_plots.augmented(originals, versions, ["a", "b", "c"], augmentation).axes[0]
    canvas: Any = axes.images[0].get_array()
    for row in range(3):
        stripe = canvas[row * 6 : row * 6 + 5]
        assert [value for value in dict.fromkeys(stripe[0].ravel().tolist()) if value < 255] == [
            row,
            row + 10,
            row + 20,
        ]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["a", "b", "c"]
    words = [text.get_text() for text in axes.texts]
    assert words == ["original", "augmentation: flip 0.5, scale [0.8,1], ratio [0.9,1.1], flip mode alternating"]


def test_no_augmentation_in_words() -> None:
    none = AugmentationConfig(flip=0.0, scale=None, ratio=None, padding=0, mixup=0.2, cutmix=1.0)
    picture = np.zeros((1, 5, 5, 1), np.uint8)
    axes = data_plots.augmented(picture, picture[None], ["a"], none).axes[0]
    assert axes.texts[-1].get_text() == "augmentation: none", "mixup and cutmix are not in these images"


@pytest.mark.parametrize("count", [1, 2, 3, 5])
def test_any_number_of_channels(count: int) -> None:
    counts = np.ones((count, 256), dtype=np.int64)
    mean, std = np.full(count, 0.5, np.float32), np.full(count, 0.25, np.float32)
    batch = np.zeros((2, count, 4, 4), np.float32)
    statistics = channel_statistics(counts, batch, mean, std)
    with style.look(), warnings.catch_warnings(action="error"):  # matplotlib warns if something finds no room
        figure = data_plots.channels(statistics, counts, batch, mean, std)
        figure.draw_without_rendering()
    assert len(figure.axes) == count
    for axes in figure.axes:
        everything, in_batch = (patch.get_data() for patch in axes.patches)  # type: ignore[attr-defined]
        assert everything.values.tolist() == pytest.approx([100 / 64] * 64)
        assert everything.edges[0] == pytest.approx((-0.5 / 255 - 0.5) / 0.25)
        assert everything.edges[-1] == pytest.approx((255.5 / 255 - 0.5) / 0.25)
        assert in_batch.values.sum() == pytest.approx(100)
        assert axes.get_yscale() == "log", "all pixels of the batch have one value"
    labels = [label.get_text() for label in figure.axes[0].get_yticklabels(which="both")]
    assert {"10", "100"} <= set(labels)
    assert not any("$" in label for label in labels)
