"""Figures of a data set, drawn from arrays."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from cnnzoo.config.schema import AugmentationConfig
from cnnzoo.figures.data_arrays import Array
from cnnzoo.figures.style import BLUE, FAINT, INK, PAGE_WIDTH, short
from cnnzoo.results.settings import as_text

_COLUMNS = 10
_ROWS_OF_A_CLASS = 15  # more would not fit a page: then each class gets one image, up to a hundred classes
_NAMED_CLASSES = 110  # as many names as fit one below the other on a page
_CHANNEL_COLOURS = {"red": "#b8453a", "green": "#4d8c57", "blue": BLUE, "grey": "#666666"}


def examples(labels: Array, num_classes: int) -> Array:
    """Return the indices of the pictures that `images` shows at most: the first ones of each class."""
    count = _COLUMNS if num_classes <= _ROWS_OF_A_CLASS else 1
    return np.concatenate([np.flatnonzero(labels == label)[:count] for label in range(num_classes)])


def images(pictures: Array, labels: Array, classes: Sequence[str]) -> Figure:
    """Draw `pictures` `[N, S, S, C]`: a row for each class, or one for each if the classes are many."""
    own = [list(pictures[labels == label]) for label in range(len(classes))]
    blank = [np.full_like(pictures[0], 255)]
    size = len(pictures[0])
    if len(classes) <= _ROWS_OF_A_CLASS:
        columns = min(_COLUMNS, max(map(len, own)))
        canvas = _join(np.array([(row + blank * columns)[:columns] for row in own]))
        return _show(canvas, 0.56 * columns, classes)[0]
    shown = np.unique(np.linspace(0, len(classes) - 1, min(len(classes), 100)).round().astype(int))
    rows = math.ceil(len(shown) / _COLUMNS)
    tiles = [(own[label] + blank)[0] for label in shown] + blank * (_COLUMNS * rows - len(shown))
    canvas = _join(np.array(tiles).reshape(rows, _COLUMNS, *pictures.shape[1:]), gap_below=0.3)
    figure, axes = _show(canvas, 0.56 * _COLUMNS)
    down, right = canvas.shape[0] / rows, canvas.shape[1] / _COLUMNS
    for i, label in enumerate(shown):
        x, y = i % _COLUMNS * right + size / 2, i // _COLUMNS * down + 1.03 * size
        axes.text(x, y, short(classes[label], 14), ha="center", va="top", fontsize=5.5)
    return figure


def augmented(originals: Array, versions: Array, names: Sequence[str], augmentation: AugmentationConfig) -> Figure:
    """Draw each image of `originals` `[N, S, S, C]` and its `versions` `[N, V, S, S, C]`, one row an image."""
    size = originals.shape[1]
    left = np.pad(_join(originals[:, None]), ((0, 0), (0, round(0.3 * size)), (0, 0)), constant_values=255)
    canvas = np.hstack([left, _join(versions)])
    figure, axes = _show(canvas, 0.67 * canvas.shape[1] / size, names)
    axes.text(size / 2, -0.12 * size, "original", ha="center", va="bottom")
    axes.text(left.shape[1], -0.12 * size, f"augmentation: {_in_words(augmentation)}", va="bottom")
    return figure


def _in_words(augmentation: AugmentationConfig) -> str:
    """What may happen to one image: mixup and cutmix, which mix two, are not shown."""
    shown = {key: value for key, value in asdict(augmentation).items() if value and key not in ("mixup", "cutmix")}
    words = [f"{key} {as_text(value)}" for key, value in shown.items() if value not in ("random", "constant")]
    return ", ".join(words).replace("_", " ") or "none"


def balance(labels: Mapping[str, Array], classes: Sequence[str]) -> Figure:
    """Draw how many images of each class there are in each split; the dashed line is where all would be equal."""
    counts = {split: np.bincount(own, minlength=len(classes)) for split, own in labels.items()}
    is_named, is_roomy = len(classes) <= _NAMED_CLASSES, len(classes) <= 25
    order = np.arange(len(classes)) if is_named else np.argsort(-counts["train"], kind="stable")
    height = 0.2 * len(classes) if is_roomy else 0.085 * len(classes) if is_named else 4
    figure = Figure(figsize=(PAGE_WIDTH, 0.7 + height), layout="constrained")
    panels = figure.subplots(1, len(counts), sharey=True)
    for axes, (split, count) in zip(panels, counts.items(), strict=True):
        axes.barh(np.arange(len(classes)), count[order], height=0.72 if is_named else 1.0, color=BLUE)
        axes.axvline(count.sum() / len(classes), color=INK, linewidth=0.7, linestyle=(0, (4, 3)))
        if is_roomy:
            for y, number in enumerate(count):
                right = axes.get_yaxis_transform()  # x in units of the axes
                axes.text(1, y, f"{number:,}", transform=right, ha="right", va="center", fontsize=6.5)
        axes.set_title(f"{split}: {count.sum():,} images", loc="left")
        axes.set_xlim(0, max(count.max(), 1) * (1.3 if is_roomy else 1.05))
        axes.xaxis.set_major_locator(MaxNLocator(4, integer=True))
        axes.xaxis.set_major_formatter("{x:,.0f}")
        axes.tick_params(axis="y", length=0)
        axes.spines["left"].set_visible(False)
    if is_named:
        panels[0].set_yticks(np.arange(len(classes)), [short(name, 24) for name in classes])
        panels[0].tick_params(axis="y", labelsize=7 if is_roomy else 5)
    else:
        panels[0].set_yticks([])
        panels[0].set_ylabel(f"{len(classes):,} classes, by number of training images")
    panels[0].set_ylim(len(classes) - 0.4, -0.6)
    figure.supxlabel("images", fontsize=8)
    return figure


def channels(statistics: pd.DataFrame, counts: Array, batch: Array, mean: Array, std: Array) -> Figure:
    """Draw normalised values of each channel, of all training images and of one batch, from `channel_statistics`."""
    figure = Figure(figsize=(min(PAGE_WIDTH, 0.4 + 2.1 * len(counts)), 2.2), layout="constrained")
    panels = figure.subplots(1, len(counts), sharex=True, sharey=True, squeeze=False)[0]
    for i, (axes, name) in enumerate(zip(panels, statistics.index, strict=True)):
        edges = ((np.arange(0, 257, 4) - 0.5) / 255 - mean[i]) / std[i]  # four pixel values in a bin
        share = counts[i].reshape(-1, 4).sum(axis=1) / counts[i].sum()
        in_batch = np.histogram(batch[:, i], bins=edges)[0] / batch[:, i].size
        colour = _CHANNEL_COLOURS.get(name, BLUE)
        whole = "all images: {mean:z.2f} ± {std:.2f}".format(**statistics.loc[name]).replace("-", "−")
        part = "one batch: {batch_mean:z.2f} ± {batch_std:.2f}".format(**statistics.loc[name]).replace("-", "−")
        axes.stairs(100 * share, edges, fill=True, color=colour, alpha=0.35, label=whole)
        axes.stairs(100 * in_batch, edges, color=colour, linewidth=0.9, label=part)
        axes.axvline(0, color=FAINT, linewidth=0.6, zorder=0)
        axes.legend(title=name, alignment="left", loc="lower left", bbox_to_anchor=(-0.03, 1))
        if max(share.max(), in_batch.max()) > 0.2:  # a background of one value would hide all others
            axes.set_yscale("log")
        axes.yaxis.set_major_formatter("{x:g}")
        axes.yaxis.set_minor_formatter("")
    panels[0].set_ylabel("% of pixels")
    panels[len(panels) // 2].set_xlabel("normalised value")
    return figure


def _join(tiles: Array, gap_below: float = 0.06) -> Array:
    """Join images `[R, K, S, S, C]` into one of R rows, with white gaps below and to the right of each."""
    rows, columns, size, _, depth = tiles.shape
    gaps = ((0, 0), (0, 0), (0, math.ceil(gap_below * size)), (0, math.ceil(0.06 * size)), (0, 0))
    padded = np.pad(tiles, gaps, constant_values=255)
    return padded.swapaxes(1, 2).reshape(rows * padded.shape[2], columns * padded.shape[3], depth)


def _show(canvas: Array, width: float, row_names: Sequence[str] = ()) -> tuple[Figure, Axes]:
    """Return a figure, `width` inches wide, that shows `canvas` and the names of its rows."""
    figure = Figure(figsize=(width, canvas.shape[0] / canvas.shape[1] * width))
    axes = figure.add_axes((0, 0, 1, 1))
    axes.imshow(canvas, cmap="gray", vmin=0, vmax=255, extent=(0, canvas.shape[1], canvas.shape[0], 0))
    rows = len(row_names)
    axes.set_yticks((np.arange(rows) + 0.47) * canvas.shape[0] / max(rows, 1), [short(name, 24) for name in row_names])
    axes.set_xticks([])
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    return figure, axes
