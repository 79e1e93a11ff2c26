"""Test accuracy of a sweep's networks on one data set, class by class."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from numpy.typing import NDArray

from cnnzoo.figures.style import BLUE, INK, PAGE_WIDTH, legend_below, shortened

if TYPE_CHECKING:
    from cnnzoo.figures.runs import Series

_MOST_ROWS = 40  # as many as fit one below the other on a page
_MOST_COLUMNS = 25  # as many as have room for their names and figures


def class_accuracy(series: Sequence["Series"]) -> Figure | None:
    """Means over the seeds: a row for each network, a column for each class, the last one for all test images.

    Classes too many to be named stand from the hardest to the easiest for these networks.
    """
    everyone = [one for one in series if one.classes is not None]
    if not everyone:
        return None
    shown = everyone[:_MOST_ROWS]
    names, accuracy, overall = means(shown)
    annotated = len(names) <= _MOST_COLUMNS
    if not annotated:
        accuracy = accuracy[:, np.argsort(np.nan_to_num(accuracy).mean(axis=0))]

    figure = Figure(figsize=(PAGE_WIDTH, 0.8 + 0.2 * len(shown)), layout="constrained")
    axes = figure.subplots()
    count = len(names)
    classes = np.arange(count + 1.0)
    last = np.array([1.02 * count, 1.02 * count + max(1, count / 12)])
    low, high = np.nanmin(accuracy), np.nanmax(accuracy)
    colours = LinearSegmentedColormap.from_list("accuracy", ["white", BLUE])
    for edges, values in ((classes, accuracy), (last, overall)):
        mesh = axes.pcolormesh(
            edges, np.arange(len(shown) + 1) - 0.5, 100 * values, cmap=colours, vmin=100 * low, vmax=100 * high
        )
        if annotated or values is overall:
            _write(
                axes,
                edges,
                values,
                dark=low + 0.6 * (high - low),
                decimals=1 if count <= 12 or values is overall else 0,
            )
    axes.set_ylim(len(shown) - 0.5, -0.5)
    axes.set_yticks(range(len(shown)), [shortened(name, 44) for name in _names(shown)])
    axes.xaxis.tick_top()
    axes.xaxis.set_label_position("top")
    ticks, labels = [last.mean()], ["all"]
    if annotated:
        ticks, labels = [*classes[:-1] + 0.5, *ticks], [*(shortened(name, 14) for name in names), *labels]
    else:
        axes.set_xlabel(f"{count} classes, from the hardest to the easiest")
        figure.colorbar(mesh, ax=axes, label="accuracy (%)", fraction=0.03, pad=0.01).outline.set_visible(False)
    tilted = annotated and any(len(label) > 60 / count for label in labels)
    axes.set_xticks(
        ticks, labels, rotation=40 if tilted else 0, ha="left" if tilted else "center", rotation_mode="anchor"
    )
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    legend_below(figure, [], _notes(everyone, shown, annotated))
    return figure


def means(shown: Sequence["Series"]) -> tuple[Sequence[str], NDArray[np.float64], NDArray[np.float64]]:
    """The classes' names, the accuracies `[networks, classes]`, NaN where there are no test images, and `[networks, 1]`
    of all test images, 0..1."""
    names = max((one.class_names for one in shown), key=len)
    accuracy = np.full((len(shown), len(names)), np.nan)
    for row, one in zip(accuracy, shown, strict=True):
        assert one.classes is not None
        row[: one.classes.shape[1]] = one.classes.mean(axis=0)
    overall = np.array([[(one.figures or {})["test_accuracy_mean"]] for one in shown], dtype=float)
    return names, accuracy, overall


def _write(axes: Axes, edges: NDArray[np.float64], values: NDArray[np.float64], dark: float, decimals: int) -> None:
    """Each cell's figure in percent, a column's highest in bold."""
    for x, column in zip((edges[:-1] + edges[1:]) / 2, values.T, strict=True):
        written = [f"{100 * share:.{decimals}f}" for share in column]
        best = f"{100 * np.nanmax(column):.{decimals}f}" if len(column) > 1 and np.isfinite(column).any() else ""
        for y, (share, text) in enumerate(zip(column, written, strict=True)):
            if np.isfinite(share):
                axes.text(
                    x, y, text, ha="center", va="center", fontsize=6.5 if decimals else 5.5,
                    color="white" if share > dark else INK, weight="bold" if text == best else "normal",
                )  # fmt: skip


def _names(shown: Sequence["Series"]) -> list[str]:
    counts = [len(one.classes) for one in shown if one.classes is not None]
    same = len(set(counts)) == 1
    return [one.name if same else f"{one.name} (n = {n})" for one, n in zip(shown, counts, strict=True)]


def _notes(everyone: Sequence["Series"], shown: Sequence["Series"], annotated: bool) -> list[str]:
    """What a reader must know of the cells."""
    counts = {one.classes.shape[0] for one in shown if one.classes is not None}
    notes = ["Test accuracy in %"]
    if max(counts) > 1:
        notes[0] += f", means over {max(counts) if len(counts) == 1 else 'n'} seeds"
    notes[0] += "; the highest of each column in bold." if annotated and len(shown) > 1 else "."
    if len(shown) < len(everyone):
        notes.append(f"The {len(shown)} of {len(everyone)} configurations with the highest test accuracy.")
    return notes
