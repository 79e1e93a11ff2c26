"""Accuracy by epoch of a sweep's runs on one data set."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import LogLocator, MaxNLocator, NullLocator
from numpy.typing import NDArray

from cnnzoo.figures.style import COLOURS, FAINT, PAGE_WIDTH, coloured, legend_below

if TYPE_CHECKING:
    from cnnzoo.figures.runs import Curves, Series

_DASHED, _DOTTED = (0, (4, 2)), (0, (1, 1.2))
_RING: dict[str, Any] = {"marker": "o", "markersize": 3.2, "markerfacecolor": "white", "markeredgewidth": 0.7}
_FEW_EPOCHS = 15  # each is marked
_LOGARITHMIC = 4  # times as long as the shortest: a linear axis would leave that no room


def learning_curves(series: Sequence["Series"]) -> Figure | None:
    """Validation and training accuracy: mean ± standard deviation over the seeds, as far as all of them go."""
    shown = [(one, colour) for one, colour in coloured(series) if one.completed or one.begun]
    if not shown:
        return None
    figure = Figure(figsize=(PAGE_WIDTH, 2.7), layout="constrained")
    panels = figure.subplots(1, 2, sharex=True, sharey=True)
    keys = {"val_accuracy": "validation", "train_accuracy": "training (images as augmented)"}
    for axes, (key, title) in zip(panels, keys.items(), strict=True):
        axes.set_title(title, loc="left")
        for one, colour in reversed(shown):  # the best on top
            _draw(axes, one, key, colour)
        axes.grid(axis="y", color=FAINT, linewidth=0.4, alpha=0.5)
        axes.set_xlabel("epoch")
    panels[0].set_ylabel("accuracy (%)")
    completed = [last_epoch(curves) for one, _ in shown for curves in one.completed]
    begun = [last_epoch(curves) for one, _ in shown for curves in one.begun]
    longest = max([*completed, *begun, *(last_epoch(one.published[1]) for one, _ in shown if one.published)])
    if longest > _LOGARITHMIC * min(completed or begun):
        panels[0].set_xscale("log")
        panels[0].xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        panels[0].xaxis.set_minor_locator(NullLocator())
        panels[0].xaxis.set_major_formatter("{x:g}")
    else:
        panels[0].set_xlim(0.9 - 0.02 * longest, 0.1 + 1.02 * longest)
        panels[0].xaxis.set_major_locator(MaxNLocator(7, integer=True, steps=[1, 2, 5, 10], min_n_ticks=1))
    legend_below(figure, _handles(shown), _notes(shown))
    return figure


def average(curves: Sequence[Mapping[int, float]]) -> tuple[list[int], NDArray[np.float64], NDArray[np.float64]]:
    """The epochs that all curves have, and the mean and sample standard deviation there (NaN for a single curve)."""
    epochs = sorted(set.intersection(*map(set, curves)))
    values = np.array([[curve[epoch] for epoch in epochs] for curve in curves])
    std = values.std(axis=0, ddof=1) if len(curves) > 1 else np.full(len(epochs), np.nan)
    return epochs, values.mean(axis=0), std


def last_epoch(curves: "Curves") -> int:
    return max(curves["train_accuracy"], default=0)


def _draw(axes: Axes, one: "Series", key: str, colour: str) -> None:
    named = colour != FAINT
    above: dict[str, Any] = {"zorder": 2 + named}
    if one.published and named:
        _plot(axes, one.published[1][key], color=colour, linewidth=0.7, linestyle=_DASHED, **above)
    for curves in one.begun:
        _plot(axes, curves[key], color=colour, linewidth=0.8, linestyle=_DOTTED, markevery=[-1], **_RING, **above)
    if not one.completed:
        return
    every = [curves[key] for curves in one.completed]
    epochs, mean, std = average(every)
    marker = "o" if named and len(epochs) <= _FEW_EPOCHS else ""
    width = 1.2 if named else 0.6
    _plot(
        axes,
        dict(zip(epochs, mean, strict=True)),
        color=colour,
        linewidth=width,
        marker=marker,
        markersize=2.5,
        **above,
    )
    if named and len(every) > 1:
        axes.fill_between(epochs, 100 * (mean - std), 100 * (mean + std), color=colour, alpha=0.2, linewidth=0, **above)
    for curve in every:  # a mean over those that are left would jump
        rest = {epoch: share for epoch, share in curve.items() if not epochs or epoch >= epochs[-1]}
        if len(rest) > 1:
            _plot(axes, rest, color=colour, linewidth=0.5, markevery=[-1], **_RING, **above)


def _plot(axes: Axes, curve: Mapping[int, float], **style: Any) -> None:
    if curve:  # not every epoch is validated
        axes.plot(list(curve), 100 * np.array(list(curve.values())), **style)


def _handles(shown: Sequence[tuple["Series", str]]) -> list[Line2D]:
    counts = {len(one.completed) for one, _ in shown if one.completed}
    own, published = [], []
    for one, colour in shown:
        if colour == FAINT:
            continue
        style: dict[str, Any] = {}
        label = one.name
        if not one.completed:
            style = {"linestyle": _DOTTED, **_RING}
            done = max(map(last_epoch, one.begun))
            label += f" (epoch {done}" + (f" of {one.max_epochs})" if one.max_epochs else ")")
        elif len(counts) > 1:
            label += f" (n = {len(one.completed)})"
        own.append(Line2D([], [], color=colour, label=label, **style))
        if one.published:
            name, curves = one.published
            label = f"{name}, published, {last_epoch(curves)} epochs"
            published.append(Line2D([], [], color=colour, linewidth=0.7, linestyle=_DASHED, label=label))
    if grey := sum(colour == FAINT for _, colour in shown):
        own.append(Line2D([], [], color=FAINT, linewidth=0.6, label=f"{grey} others"))
    return own + published


def _notes(shown: Sequence[tuple["Series", str]]) -> list[str]:
    """What a reader must know of the lines."""
    counts = {len(one.completed) for one, _ in shown if one.completed}
    notes = []
    if max(counts, default=1) > 1:
        number = f"{max(counts)}" if len(counts) == 1 else "n"
        notes.append(f"Lines are means over {number} seeds, bands ± 1 standard deviation.")
    elif counts:
        notes.append("Single runs.")
    if any(one.begun for one, _ in shown):
        notes.append("Dotted: a run that is not finished, up to the ring.")
    if any(len(set(map(last_epoch, one.completed))) > 1 for one, _ in shown):
        notes.append("Thin, up to a ring: seeds that trained for longer than the shortest of theirs.")
    if any(colour == FAINT for _, colour in shown):
        notes.append(f"In colour: the first {len(COLOURS)} of {len(shown)} configurations by test accuracy.")
    return notes
