"""Figures of a data set, drawn from plain arrays; `cnnzoo.figures.data` gathers those."""

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from cnnzoo.figures.style import BLUE, FAINT, INK, PAGE_WIDTH, shortened

if TYPE_CHECKING:
    from cnnzoo.figures.data import ChannelStatistics

_COLUMNS = 10
_ROWS_OF_A_CLASS = 15  # more would not fit a page: then each class gets one image, up to a hundred classes
_NAMED_CLASSES = 110  # as many names as fit one below the other on a page
_CHANNEL_COLOURS = {"red": "#b8453a", "green": "#4d8c57", "blue": BLUE, "grey": "#666666"}


def examples(labels: NDArray[np.int64], classes: Sequence[str]) -> NDArray[np.int64]:
    """Places of the pictures that `images` shows at most: the first ones of each class."""
    count = _COLUMNS if len(classes) <= _ROWS_OF_A_CLASS else 1
    return np.concatenate([np.flatnonzero(labels == label)[:count] for label in range(len(classes))])


def images(pictures: NDArray[np.uint8], labels: NDArray[np.int64], classes: Sequence[str]) -> Figure:
    """`[N, H, W, C]`: a row of images for each class, or one image for each where the classes are many."""
    places = [np.flatnonzero(labels == label) for label in range(len(classes))]
    names: dict[tuple[int, int], str] = {}
    if len(classes) <= _ROWS_OF_A_CLASS:
        cells = [(row, column, index) for row, own in enumerate(places) for column, index in enumerate(own[:_COLUMNS])]
        rows, gap = len(classes), 0.06
    else:
        shown = np.unique(np.linspace(0, len(classes) - 1, min(len(classes), 100)).round().astype(int))
        cells = [(*divmod(i, _COLUMNS), places[label][0]) for i, label in enumerate(shown) if len(places[label])]
        names = {divmod(i, _COLUMNS): classes[label] for i, label in enumerate(shown)}
        rows, gap = math.ceil(len(shown) / _COLUMNS), 0.3
    columns = 1 + max(column for _, column, _ in cells)
    size = pictures.shape[1]
    down, right = math.ceil(size * (1 + gap)), math.ceil(size * 1.06)
    canvas = _paper((rows - 1) * down + math.ceil(size * (1 + gap if names else 1)), columns * right, pictures)
    for row, column, index in cells:
        canvas[row * down :, column * right :][:size, :size] = pictures[index]
    figure, axes = _canvas_axes(canvas, inches_per_pixel=0.56 / right)
    if names:
        for (row, column), name in names.items():
            x, y = column * right + size / 2, row * down + size * 1.03
            axes.text(x, y, shortened(name, 14), ha="center", va="top", fontsize=5.5)
    else:
        for row in range(rows):
            axes.text(-0.15 * size, row * down + size / 2, shortened(classes[row], 24), ha="right", va="center")
    return figure


def augmented(
    originals: NDArray[np.uint8],
    versions: Sequence[NDArray[np.uint8]],
    names: Sequence[str],
    augmentation: Mapping[str, Any],
) -> Figure:
    """Each image `[H, W, C]` of `originals` with its `versions` beside it, one row an image."""
    size = originals.shape[1]
    pitch, aside = math.ceil(size * 1.06), math.ceil(size * 1.36)
    canvas = _paper((len(originals) - 1) * pitch + size, aside + (len(versions) - 1) * pitch + size, originals)
    for row, original in enumerate(originals):
        canvas[row * pitch :][:size, :size] = original
        for column, version in enumerate(versions):
            canvas[row * pitch :, aside + column * pitch :][:size, :size] = version[row]
    figure, axes = _canvas_axes(canvas, inches_per_pixel=0.71 / pitch)
    above = -0.12 * size
    axes.text(size / 2, above, "original", ha="center", va="bottom")
    axes.text(aside, above, f"augmentation: {_in_words(augmentation)}", ha="left", va="bottom")
    for row, name in enumerate(names):
        axes.text(-0.12 * size, row * pitch + size / 2, shortened(name, 24), ha="right", va="center")
    return figure


def _in_words(augmentation: Mapping[str, Any]) -> str:
    words = []
    if augmentation["flip"]:
        alternating = " alternating" if augmentation["flip_mode"] == "alternating" else ""
        words.append(f"flip p = {augmentation['flip']:g}{alternating}")
    for key in ("scale", "ratio"):
        if augmentation[key] is not None:
            low, high = augmentation[key]
            words.append(f"{key} {low:g}–{high:g}")
    if augmentation["padding"]:
        mirrored = " mirrored" if augmentation["padding_mode"] == "reflect" else ""
        words.append(f"padding {augmentation['padding']}{mirrored}")
    return ", ".join(words) or "none"


def balance(parts: Mapping[str, NDArray[np.int64]], classes: Sequence[str]) -> Figure:
    """How many images of each class there are in each part; the dashed line is where all classes would be equal."""
    counts = {part: np.bincount(labels, minlength=len(classes)) for part, labels in parts.items()}
    named = len(classes) <= _NAMED_CLASSES
    roomy = len(classes) <= 25
    order = np.arange(len(classes)) if named else np.argsort(-counts["train"], kind="stable")
    height = 0.2 * len(classes) if roomy else 0.085 * len(classes) if named else 4
    figure = Figure(figsize=(PAGE_WIDTH, 0.7 + height), layout="constrained")
    panels = figure.subplots(1, len(counts), sharey=True)
    for axes, (part, count) in zip(panels, counts.items(), strict=True):
        axes.barh(np.arange(len(classes)), count[order], height=0.72 if named else 1.0, color=BLUE)
        axes.axvline(count.sum() / len(classes), color=INK, linewidth=0.7, linestyle=(0, (4, 3)))
        if roomy:
            for place, number in enumerate(count[order]):
                axes.annotate(
                    f"{number:,}", (1, place), xycoords=("axes fraction", "data"), ha="right", va="center", fontsize=6.5
                )
        axes.set_title(f"{part}: {count.sum():,} images", loc="left")
        axes.set_xlim(0, max(count.max(), 1) * (1.3 if roomy else 1.05))
        axes.xaxis.set_major_locator(MaxNLocator(4, integer=True))
        axes.xaxis.set_major_formatter("{x:,.0f}")
        axes.tick_params(axis="y", length=0)
        axes.spines["left"].set_visible(False)
    if named:
        panels[0].set_yticks(np.arange(len(classes)), [shortened(name, 24) for name in classes])
        panels[0].tick_params(axis="y", labelsize=7 if roomy else 5)
    else:
        panels[0].set_yticks([])
        panels[0].set_ylabel(f"{len(classes):,} classes, by number of training images")
    panels[0].set_ylim(len(classes) - 0.4, -0.6)
    figure.supxlabel("images", fontsize=8)
    return figure


def channels(
    statistics: Sequence["ChannelStatistics"],
    counts: NDArray[np.int64],
    batch: NDArray[np.float32],
    mean: NDArray[np.float32],
    std: NDArray[np.float32],
) -> Figure:
    """Normalised values of each channel: of all training images (from `counts`, `[C, 256]`) and of one batch."""
    width = 4  # pixel values in a bin
    edges = np.arange(0, 257, width) - 0.5
    figure = Figure(figsize=(min(PAGE_WIDTH, 0.4 + 2.1 * len(counts)), 2.2), layout="constrained")
    panels = np.atleast_1d(figure.subplots(1, len(counts), sharex=True, sharey=True))
    columns = zip(panels, statistics, counts, batch.swapaxes(0, 1), mean, std, strict=True)
    for axes, channel, count, pixels, m, s in columns:
        bins = (edges / 255 - m) / s
        share = count.reshape(-1, width).sum(axis=1) / count.sum()
        in_batch = np.histogram(pixels, bins=bins)[0] / pixels.size
        colour = _CHANNEL_COLOURS.get(channel.channel, BLUE)
        whole = f"all images: {channel.mean:z.2f} ± {channel.std:.2f}".replace("-", "−")
        part = f"one batch: {channel.batch_mean:z.2f} ± {channel.batch_std:.2f}".replace("-", "−")
        axes.stairs(100 * share, bins, fill=True, color=colour, alpha=0.35, label=whole)
        axes.stairs(100 * in_batch, bins, color=colour, linewidth=0.9, label=part)
        axes.axvline(0, color=FAINT, linewidth=0.6, zorder=0)
        axes.legend(
            title=channel.channel, alignment="left", loc="lower left", bbox_to_anchor=(-0.03, 1), handlelength=1.2
        )
        if max(share.max(), in_batch.max()) > 0.2:  # a background of one value would hide all others
            axes.set_yscale("log")
    panels[0].set_ylabel("% of pixels")
    panels[len(panels) // 2].set_xlabel("normalised value")
    return figure


def _paper(height: int, width: int, pictures: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return np.full((height, width, pictures.shape[-1]), 255, dtype=np.uint8)


def _canvas_axes(canvas: NDArray[np.uint8], inches_per_pixel: float) -> tuple[Figure, Axes]:
    """A figure that shows `canvas` and nothing else; text goes in by the canvas's pixels."""
    height, width = canvas.shape[:2]
    figure = Figure(figsize=(width * inches_per_pixel, height * inches_per_pixel))
    axes = figure.add_axes((0, 0, 1, 1))
    axes.imshow(canvas, cmap="gray", vmin=0, vmax=255, extent=(0, width, height, 0))
    axes.axis("off")
    return figure, axes
