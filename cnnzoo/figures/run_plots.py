"""Figures of one run, drawn from arrays."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator, NullLocator
from numpy.typing import NDArray

from cnnzoo.figures.style import BLUE, COLOURS, FAINT, INK, PAGE_WIDTH, percent, short
from cnnzoo.results.calibration import Calibration

Array = NDArray[Any]
_BLUES = LinearSegmentedColormap.from_list("blues", ["white", BLUE])
_MOST_WRITTEN = 20  # classes, of which the numbers have room
_MOST_NAMED = 60
_MOST_MAPS = 64  # channels of a layer, and filters


def curves(metrics: pd.DataFrame, title: str) -> Figure:
    """Draw loss, accuracy and learning rate of every epoch."""
    figure = Figure(figsize=(PAGE_WIDTH, 2.0), layout="constrained")
    loss, accuracy, rate = figure.subplots(1, 3)
    epochs = metrics["epoch"] + 1
    marker = "o" if len(metrics) <= 15 else ""
    for axes, name in ((loss, "loss"), (accuracy, "accuracy")):
        for split, label, colour in (("train", "training", INK), ("val", "validation", COLOURS[1])):
            values = metrics.get(f"{split}_{name}")
            if values is not None and values.notna().any():
                kept = values.notna()
                axes.plot(epochs[kept], values[kept], color=colour, label=label, marker=marker, markersize=2.5)
        axes.set_ylabel(f"{name} (%)" if name == "accuracy" else "loss (nats)")
    loss.set_yscale("log")
    loss.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    loss.yaxis.set_major_formatter("{x:g}")
    loss.yaxis.set_minor_locator(NullLocator())
    loss.legend()
    accuracy.yaxis.set_major_formatter(percent)
    if "learning_rate" in metrics:
        rate.plot(epochs, metrics["learning_rate"], color=INK, drawstyle="steps-mid", marker=marker, markersize=2.5)
    rate.set_ylabel("learning rate")
    for axes in (loss, accuracy, rate):
        axes.set_xlabel("epoch")
        axes.xaxis.set_major_locator(MaxNLocator(5, integer=True, min_n_ticks=1))
        axes.grid(axis="y")
    loss.set_title(short(title, 60), loc="left")
    return figure


def confusion(logits: Array, labels: Array, classes: Sequence[str]) -> Figure:
    """Draw the number of test images of each true class (rows) by predicted class (columns)."""
    count = logits.shape[1]
    table = np.zeros((count, count), dtype=int)
    np.add.at(table, (labels, logits.argmax(axis=1)), 1)
    shares = table / np.maximum(table.sum(axis=1, keepdims=True), 1)
    side = min(PAGE_WIDTH, 1.6 + 0.42 * count)
    figure = Figure(figsize=(side, side), layout="constrained")
    axes = figure.subplots()
    mesh = axes.imshow(shares, cmap=_BLUES, vmin=0, vmax=1, interpolation="nearest")
    if count <= _MOST_WRITTEN:
        for (row, column), images in np.ndenumerate(table):
            if images:
                colour = "white" if shares[row, column] > 0.6 else INK
                axes.text(column, row, images, ha="center", va="center", fontsize=6 if count > 12 else 7, color=colour)
    if count <= _MOST_NAMED:
        names = [short(name, 14) for name in classes]
        axes.set_xticks(range(count), names, rotation=40, ha="right", rotation_mode="anchor")
        axes.set_yticks(range(count), names)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    axes.set_xlabel("predicted class")
    axes.set_ylabel("true class")
    bar = figure.colorbar(mesh, ax=axes, format=percent, fraction=0.04, pad=0.02)
    bar.set_label("share of the true class (%)")
    bar.outline.set_visible(False)
    axes.set_title(
        f"test images, {percent(round(float((logits.argmax(axis=1) == labels).mean()), 4))} % right", loc="left"
    )
    return figure


def reliability(found: Calibration) -> Figure:
    """Draw accuracy against confidence, and the number of images of each confidence below."""
    bins = len(found.count)
    edges = np.linspace(0, 1, bins + 1)
    figure = Figure(figsize=(3.1, 3.4), layout="constrained")
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=[3, 1])
    above.plot([0, 1], [0, 1], color=FAINT, linewidth=0.8, label="calibrated")
    full = found.count > 0
    above.bar(edges[:-1][full], found.accuracy[full], width=1 / bins, align="edge", color=BLUE, edgecolor="white",
              linewidth=0.6, label="accuracy")  # fmt: skip
    above.plot(found.confidence[full], found.accuracy[full], "o", color=INK, markersize=2.5, label="at mean confidence")
    above.set_ylabel("accuracy (%)")
    above.yaxis.set_major_formatter(percent)
    above.legend(loc="upper left")
    title = f"ECE {100 * found.ece:.2f} %, NLL {found.nll:.3f}, Brier {found.brier:.3f}"
    above.set_title(title, loc="left")
    below.bar(edges[:-1], found.count / found.count.sum(), width=1 / bins, align="edge", color=FAINT, edgecolor="white")
    below.set_ylabel("images (%)")
    below.yaxis.set_major_formatter(percent)
    below.set_xlabel("confidence: probability of the predicted class (%)")
    below.xaxis.set_major_formatter(percent)
    return figure


def examples(logits: Array, labels: Array, count: int) -> tuple[Array, Array]:
    """Return the indices of the first right predictions, and of the wrong ones with the highest probability."""
    shares = np.exp(logits - logits.max(axis=1, keepdims=True).astype(float))
    surest = (shares / shares.sum(axis=1, keepdims=True)).max(axis=1)
    right = logits.argmax(axis=1) == labels
    wrong = np.flatnonzero(~right)
    return np.flatnonzero(right)[:count], wrong[np.argsort(-surest[wrong], kind="stable")][:count]


def gallery(images: Array, logits: Array, labels: Array, right: Array, wrong: Array, classes: Sequence[str]) -> Figure:
    """Draw `images` `[right + wrong, H, W, 3]`, first the right predictions, then the wrong ones."""
    columns = 10
    parts = [
        ("right, the first ones", right),
        ("wrong, the surest ones: predicted class, below it the true one", wrong),
    ]
    heights = [math.ceil(len(index) / columns) for _, index in parts]
    figure = Figure(figsize=(PAGE_WIDTH, 0.5 + 0.92 * sum(heights)), layout="constrained")
    below: Any = figure.subfigures(2, 1, height_ratios=[max(height, 0.3) for height in heights])
    shares = np.exp(logits - logits.max(axis=1, keepdims=True).astype(float))
    shares /= shares.sum(axis=1, keepdims=True)
    start = 0
    for part, (title, index), rows in zip(below, parts, heights, strict=True):
        part.suptitle(title if rows else title.partition(",")[0] + ": none", fontsize=8, x=0.01, ha="left")
        panels = part.subplots(max(rows, 1), columns, squeeze=False).flat
        for axes, place in zip(panels, [*range(start, start + len(index)), *[None] * columns], strict=False):
            axes.axis("off")
            if place is None:
                continue
            number = index[place - start]
            axes.imshow(images[place], interpolation="nearest")
            predicted = logits[number].argmax()
            text = f"{short(classes[predicted], 11)} {100 * shares[number, predicted]:.0f} %"
            if predicted != labels[number]:
                text += f"\n{short(classes[labels[number]], 11)}"
            axes.text(0.5, -0.05, text, transform=axes.transAxes, ha="center", va="top", fontsize=5.5)
        start += len(index)
    return figure


def filters(weights: Array) -> Figure:
    """Draw filters `[filters, C, k, k]`: in colour if they see three channels, else the first channel in grey."""
    shown = weights[:_MOST_MAPS]
    pictures = []
    for each in shown if shown.shape[1] == 3 else shown[:, :1]:
        bound = np.abs(each).max() or 1.0
        pictures.append(np.moveaxis(0.5 + 0.5 * each / bound, 0, -1))
    figure = _tiles(
        pictures, columns=16, title=f"first convolution: {len(shown)} of {len(weights)} filters", vmin=0, vmax=1
    )
    return figure


def maps(values: Array, image: Array, layer: str) -> Figure:
    """Draw channels `[channels, h, w]` of a layer, each on its own scale, after the image `[H, W, 3]`."""
    shown = values[: _MOST_MAPS - 1]
    title = f"{short(layer, 60)}: {len(shown)} of {len(values)} channels, {values.shape[1]}×{values.shape[2]}"
    return _tiles([image, *shown], columns=16, title=title)


def _tiles(pictures: Sequence[Array], columns: int, title: str, **limits: Any) -> Figure:
    rows = math.ceil(len(pictures) / columns)
    figure = Figure(figsize=(PAGE_WIDTH, 0.25 + PAGE_WIDTH / columns * rows), layout="constrained")
    panels = figure.subplots(rows, columns, squeeze=False)
    for axes in panels.flat:
        axes.axis("off")
    for axes, picture in zip(panels.flat, pictures, strict=False):
        grey: Any = {"cmap": "gray"} if picture.ndim == 2 or picture.shape[-1] == 1 else {}
        axes.imshow(picture, interpolation="nearest", **grey, **limits)
    figure.suptitle(title, fontsize=8, x=0.01, ha="left")
    return figure


def grad_cam(images: Array, maps: Array, titles: Sequence[str], names: Sequence[str], layer: str) -> Figure:
    """Draw images `[N, H, W, 3]`, and below each its map `[h, w]` of 0..1 over it."""
    columns = min(8, len(images))
    rows = math.ceil(len(images) / columns)
    figure = Figure(figsize=(PAGE_WIDTH * columns / 8 + 0.4, 0.3 + 1.85 * rows), layout="constrained")
    panels: Array = figure.subplots(2 * rows, columns, squeeze=False)
    for axes in panels.flat:
        axes.axis("off")
    for i, (image, title, name) in enumerate(zip(images, titles, names, strict=True)):
        plain: Axes = panels[2 * (i // columns), i % columns]
        covered: Axes = panels[2 * (i // columns) + 1, i % columns]
        plain.imshow(image, interpolation="nearest")
        plain.set_title(short(name, 13), fontsize=6.5)
        height, width = image.shape[:2]
        covered.imshow(image.mean(axis=-1), cmap="gray", interpolation="nearest")
        covered.imshow(maps[i], cmap="inferno", alpha=0.55, vmin=0, vmax=1, interpolation="bilinear",
                       extent=(-0.5, width - 0.5, height - 0.5, -0.5))  # fmt: skip
        covered.set_title(short(title, 16), fontsize=6.5)
    figure.suptitle(f"Grad-CAM of the predicted class, layer {short(layer, 60)}", fontsize=8, x=0.01, ha="left")
    return figure
