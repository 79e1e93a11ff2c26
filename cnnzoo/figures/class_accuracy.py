"""Test accuracy of a sweep's networks on one data set, class by class."""

import textwrap
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from numpy.typing import NDArray

from cnnzoo.figures import style
from cnnzoo.figures.series import Series
from cnnzoo.text import clean

_MOST_ROWS = 40  # as many as fit one below the other on a page
_MOST_COLUMNS = 25  # as many as have room for their names and numbers
_LONG = 30  # characters of a name: longer ones are smaller, on two lines


def class_accuracy(series: Sequence[Series]) -> Figure | None:
    """Draw means over the seeds: a row per network, a column per class, the last one for all test images.

    Classes too many to be named are sorted from the hardest to the easiest for these networks.
    """
    everyone = [one for one in series if len(one.class_accuracy)]
    if not everyone:
        return None
    shown = everyone[:_MOST_ROWS]
    classes = max((one.class_accuracy.columns.tolist() for one in shown), key=len)
    count, named = len(classes), len(classes) <= _MOST_COLUMNS
    means = [one.class_accuracy.mean().reset_index(drop=True) for one in shown]
    accuracy = pd.concat(means, axis="columns").to_numpy().T
    if not named:
        accuracy = accuracy[:, np.argsort(np.nan_to_num(accuracy).mean(axis=0))]
    cells = np.hstack([accuracy, [[np.nan, one.test_accuracy] for one in shown]])  # NaN: a gap
    edges = np.array([*range(count + 1), 1.02 * count, 1.02 * count + max(1, count / 12)])
    centres = (edges[:-1] + edges[1:]) / 2

    figure = Figure(figsize=(style.PAGE_WIDTH, 0.5 + 0.2 * len(shown)), layout="constrained")
    axes = figure.subplots()
    colours = LinearSegmentedColormap.from_list("accuracy", ["white", style.BLUE])
    low, high = np.nanmin(accuracy), np.nanmax(accuracy)
    mesh = axes.pcolormesh(edges, np.arange(len(shown) + 1) - 0.5, cells, cmap=colours, vmin=low, vmax=high)
    first = 0 if named else count  # column with numbers
    _write(axes, centres[first:], cells[:, first:], low + 0.6 * (high - low), decimals=0 if count > 12 and named else 1)
    axes.xaxis.tick_top()
    axes.xaxis.set_label_position("top")
    ticks, labels = [centres[-1]], ["all"]
    if named:
        ticks, labels = [*centres[:count], *ticks], [*(style.short(name, 14) for name in classes), *labels]
    else:
        axes.set_xlabel(f"{count} classes, from the hardest to the easiest")
        bar = figure.colorbar(mesh, ax=axes, label="accuracy (%)", format=style.percent, fraction=0.03, pad=0.01)
        bar.outline.set_visible(False)
    is_tilted = any(len(label) > 60 / count for label in labels[:-1])
    tilt: Any = {"rotation": 40, "ha": "left", "rotation_mode": "anchor"} if is_tilted else {}
    axes.set_xticks(ticks, labels, **tilt)
    counts = {len(one.class_accuracy) for one in shown}
    names = [one.name if len(counts) == 1 else f"{one.name} (n = {len(one.class_accuracy)})" for one in shown]
    labels = [textwrap.fill(clean(name), 60, max_lines=2, placeholder="…") for name in names]
    axes.set_yticks(range(len(shown)), labels)
    axes.set_ylim(len(shown) - 0.5, -0.5)
    axes.tick_params(length=0)
    axes.tick_params(axis="y", labelsize=7 if max(map(len, names)) <= _LONG else 5)
    axes.spines[:].set_visible(False)
    style.legend_below(figure, [], _notes(len(shown), len(everyone), counts, named))
    return figure


def _write(axes: Axes, centres: NDArray[np.float64], cells: NDArray[np.float64], dark: float, decimals: int) -> None:
    """Write each cell's number in percent, the highest of a column in bold."""
    best = np.nan_to_num(cells).max(axis=0) if len(cells) > 1 else np.full(len(centres), np.nan)
    for (row, column), share in np.ndenumerate(cells):
        text, highest = (f"{100 * value:.{decimals}f}" for value in (share, best[column]))
        if not np.isnan(share):
            colour, weight = "white" if share > dark else style.INK, "bold" if text == highest else "normal"
            x, size = float(centres[column]), 6.5 if decimals else 5.5
            axes.text(x, row, text, ha="center", va="center", fontsize=size, color=colour, weight=weight)


def _notes(shown: int, total: int, counts: set[int], named: bool) -> list[str]:
    """What a reader must know of the cells."""
    notes = ["Test accuracy in %"]
    if max(counts) > 1:
        notes[0] += f", means over {max(counts) if len(counts) == 1 else 'n'} seeds"
    notes[0] += "; the highest of each column in bold." if named and shown > 1 else "."
    if shown < total:
        notes.append(f"The {shown} of {total} configurations with the highest test accuracy.")
    return notes
