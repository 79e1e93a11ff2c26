"""Accuracy by epoch of a sweep's runs on one data set."""

from collections.abc import Sequence
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import LogLocator, MaxNLocator, NullLocator

from cnnzoo.figures import style
from cnnzoo.figures.series import Series

_FEW_EPOCHS = 15  # up to so many, each is marked
_LOGARITHMIC = 4  # times as long as the shortest: a linear axis would leave that no room


def learning_curves(series: Sequence[Series]) -> Figure | None:
    """Draw validation and training accuracy: mean ± standard deviation over the seeds, as far as all of them go."""
    shown = {i: one for i, one in enumerate(series) if one.completed or one.begun}
    if not shown:
        return None
    figure = Figure(figsize=(style.PAGE_WIDTH, 2.4), layout="constrained")
    panels = figure.subplots(1, 2, sharex=True, sharey=True)
    keys = {"val_accuracy": "validation", "train_accuracy": "training (images as augmented)"}
    counts = {len(one.completed) for one in shown.values() if one.completed}
    for axes, (key, title) in zip(panels, keys.items(), strict=True):
        handles = [line for i, one in shown.items() for line in _draw(axes, one, key, i, _label(one, counts))]
        axes.set_title(title, loc="left")
        axes.set_xlabel("epoch")
        axes.grid(axis="y")
    panels[0].set_ylabel("accuracy (%)")
    panels[0].yaxis.set_major_formatter(style.percent)
    completed = [curves for one in shown.values() for curves in one.completed]
    begun = [curves for one in shown.values() for curves in one.begun]
    published = [one.published[1] for one in shown.values() if one.published]
    longest = max(map(_last_epoch, completed + begun + published))
    if longest > _LOGARITHMIC * min(map(_last_epoch, completed or begun)):
        panels[0].set_xscale("log")
        panels[0].xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        panels[0].xaxis.set_minor_locator(NullLocator())
        panels[0].xaxis.set_major_formatter("{x:g}")
    else:
        panels[0].set_xlim(0.9 - 0.02 * longest, 0.1 + 1.02 * longest)
        panels[0].xaxis.set_major_locator(MaxNLocator(7, integer=True, steps=[1, 2, 5, 10], min_n_ticks=1))
    if grey := sum(i >= style.MOST_NAMED for i in shown):
        handles.append(Line2D([], [], color=style.FAINT, linewidth=0.6, label=f"{grey} others"))
    style.legend_below(figure, handles, _notes(list(shown.values()), counts, grey))
    return figure


def _last_epoch(curves: pd.DataFrame) -> int:
    return int(curves.index.max())


def _draw(axes: Axes, one: Series, key: str, index: int, label: str) -> list[Line2D]:
    """Draw one configuration; return its lines for the legend, none if it is grey."""
    named = index < style.MOST_NAMED
    common: Any = {"color": style.identity(index, named)["color"], "zorder": 3 - index / 1e6}  # the best on top
    own = [_plot(axes, curves[key], **style.UNFINISHED, **common) for curves in one.begun][:1]
    if one.completed:
        shared = pd.concat([curves[key] for curves in one.completed], axis="columns").dropna()
        mean, std = shared.mean(axis="columns"), shared.std(axis="columns")
        marker = "o" if named and len(mean) <= _FEW_EPOCHS else ""
        own = [_plot(axes, mean, linewidth=1.2 if named else 0.6, marker=marker, markersize=2.5, **common)]
        if named and len(one.completed) > 1:
            axes.fill_between(mean.index, mean - std, mean + std, alpha=0.2, linewidth=0, **common)
        for curves in one.completed:  # a mean over those that go on would jump
            rest = curves.loc[mean.index.max() if len(mean) else 0 :, key].dropna()
            if len(rest) > 1:
                _plot(axes, rest, **style.LONGER_RUN, **common)
    if not named:
        return []
    own[0].set_label(label)
    if one.published is None:
        return own
    name, curves = one.published
    label = f"{name}, published, {_last_epoch(curves)} epochs"
    return [*own, _plot(axes, curves[key], label=label, **style.PUBLISHED, **common)]


def _label(one: Series, counts: set[int]) -> str:
    if one.completed:
        return one.name if len(counts) == 1 else f"{one.name} (n = {len(one.completed)})"
    epoch = max(map(_last_epoch, one.begun))
    return f"{one.name} (epoch {epoch}" + (f" of {one.max_epochs})" if one.max_epochs else ")")


def _plot(axes: Axes, curve: "pd.Series[float]", **kwargs: Any) -> Line2D:
    curve = curve.dropna()  # not every epoch is validated
    return axes.plot(curve.index, curve, **kwargs)[0]


def _notes(shown: Sequence[Series], counts: set[int], grey: int) -> list[str]:
    """What a reader must know of the lines."""
    notes = []
    if max(counts, default=1) > 1:
        notes.append(
            f"Lines are means over {max(counts) if len(counts) == 1 else 'n'} seeds, bands ± 1 standard deviation."
        )
    elif counts:
        notes.append("Single runs.")
    if any(one.begun for one in shown):
        notes.append("Dotted: a run that is not finished, up to the ring.")
    if any(len(set(map(_last_epoch, one.completed))) > 1 for one in shown):
        notes.append("Thin, up to a ring: seeds that trained for longer than the shortest of theirs.")
    if grey:
        notes.append(f"In colour: the first {style.MOST_NAMED} of {len(shown)} configurations by test accuracy.")
    return notes
