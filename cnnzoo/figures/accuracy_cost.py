"""Test accuracy of a sweep's networks on one data set against what they cost."""

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator

from cnnzoo.figures.labels import Segment, label_points
from cnnzoo.figures.style import COLOURS, FAINT, INK, PAGE_WIDTH, coloured, legend_below
from cnnzoo.results.columns import magnitude
from cnnzoo.results.statistics import pareto_front

if TYPE_CHECKING:
    from cnnzoo.figures.runs import Series

_COSTS = {"params": "parameters", "macs": "MACs", "train_seconds_mean": "training time"}
_DIRECT, _SHORT = 6, 14  # so many points have their names beside them, if these are so short
_MARK: dict[str, Any] = {"marker": "o", "markersize": 4.5, "markeredgewidth": 0.0}
_ON_FRONT = _MARK | {"markeredgecolor": INK, "markeredgewidth": 0.9, "markersize": 5.0}
_HOLLOW = _MARK | {"markerfacecolor": "white", "markeredgewidth": 0.9, "markersize": 4.2}


@dataclass
class Point:
    """Accuracies 0..1; `error` is the standard error of the mean over seeds, None for a single one."""

    name: str
    colour: str
    cost: float
    accuracy: float
    error: float | None
    published: tuple[float, float] | None  # cost and accuracy


def accuracy_cost(series: Sequence["Series"]) -> Figure | None:
    """Mean test accuracy ± standard error against parameters, MACs and training time, with the Pareto fronts."""
    panels = {key: found for key in _COSTS if (found := points(series, key))}
    if not panels:
        return None
    fronts = {
        key: [found[i] for i in pareto_front([p.cost for p in found], [p.accuracy for p in found])]
        for key, found in panels.items()
    }
    everyone = {point.name: point.colour for found in panels.values() for point in found}
    on_front = {point.name for front in fronts.values() for point in front}
    named = [name for name, colour in everyone.items() if colour != FAINT or name in on_front]
    direct = len(named) <= _DIRECT and max(map(len, named)) <= _SHORT
    texts = {name: name if direct else str(number) for number, name in enumerate(named, 1)}

    figure = Figure(figsize=(PAGE_WIDTH, 2.5 if direct else 3.2), layout="constrained")
    row = figure.subplots(1, len(panels), sharey=True, squeeze=False)[0]
    for axes, (key, found) in zip(row, panels.items(), strict=True):
        _set_up(axes, key, found)
        _draw(axes, found, fronts[key])
    row[0].set_ylabel("test accuracy (%)")
    handles = [Line2D([], [], color=INK, linewidth=0.8, markerfacecolor="none", **_ON_FRONT, label="Pareto front")]
    if any(point.published for found in panels.values() for point in found):
        handles.append(Line2D([], [], color=INK, linestyle="", **_HOLLOW, label="published"))
    if not direct:
        handles += [
            Line2D([], [], color=everyone[name], linestyle="", **_MARK, label=f"{texts[name]}  {name}")
            for name in named
        ]
    legend_below(figure, handles, _notes(series, panels, len(everyone) - len(named)))
    figure.draw_without_rendering()  # settles where everything is
    for axes, key in zip(row, panels, strict=True):
        found = panels[key]
        places = [(point.cost, 100 * point.accuracy) for point in found]
        written = [texts[p.name] if p.colour != FAINT or p in fronts[key] else "" for p in found]
        label_points(axes, places, written, _obstacles(axes, found, fronts[key]))
    return figure


def points(series: Sequence["Series"], key: str) -> list[Point]:
    """What the panel of the cost `key` holds, in the order of `series`."""
    found = []
    for one, colour in coloured(series):
        figures = one.figures or {}
        cost, accuracy, std = (figures.get(name) for name in (key, "test_accuracy_mean", "test_accuracy_std"))
        if cost is None or accuracy is None:
            continue
        published = None
        if key != "train_seconds_mean" and (share := figures["published_test_accuracy"]) is not None:
            published = (figures["published_params"] or cost if key == "params" else cost, share)
        error = None if std is None else std / math.sqrt(figures["n"])
        found.append(Point(one.name, colour, cost, accuracy, error, published))
    return found


def _set_up(axes: Axes, key: str, found: Sequence[Point]) -> None:
    """Scale and ticks of a panel's axis of cost; seconds become what suits them."""
    costs = [point.cost for point in found]
    title = _COSTS[key]
    if key == "train_seconds_mean":
        unit, seconds = next((u, s) for u, s in (("h", 3600), ("min", 60), ("s", 1)) if s == 1 or max(costs) >= 2 * s)
        title += f" ({unit})"
        for point in found:
            point.cost /= seconds
    if min(costs) > 0 and max(costs) > 10 * min(costs):
        axes.set_xscale("log")
        decades = math.log10(max(costs) / min(costs))
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 3) if decades < 1.5 else (1,)))
        axes.xaxis.set_minor_locator(NullLocator())
    else:
        axes.xaxis.set_major_locator(MaxNLocator(4, steps=[1, 2, 5, 10]))
    written = "{x:g}" if key == "train_seconds_mean" else FuncFormatter(lambda x, _: magnitude(x))
    axes.xaxis.set_major_formatter(written)
    axes.set_xlabel(title)
    axes.margins(x=0.12, y=0.15)
    axes.grid(color=FAINT, linewidth=0.4, alpha=0.5)


def _draw(axes: Axes, found: Sequence[Point], front: Sequence[Point]) -> None:
    for point in reversed(found):  # the best on top
        x, y = point.cost, 100 * point.accuracy
        above: dict[str, Any] = {"zorder": 2 + (point.colour != FAINT) + 2 * (point in front)}
        if point.error is not None:
            axes.errorbar(x, y, 100 * point.error, color=point.colour, linewidth=0.9, **above)
        if point.published and point.colour != FAINT:
            there, share = point.published
            axes.plot([x, there], [y, 100 * share], color=point.colour, linewidth=0.6, linestyle=":", zorder=1)
            axes.plot(there, 100 * share, color=point.colour, **_HOLLOW, zorder=2)
        axes.plot(x, y, color=point.colour, **(_ON_FRONT if point in front else _MARK), **above)
    axes.set_xlim(axes.get_xlim())  # as far as the front goes on, but no farther
    steps = [(point.cost, 100 * point.accuracy) for point in front]
    steps.append((axes.get_xlim()[1], steps[-1][1]))
    axes.plot(*zip(*steps, strict=True), color=INK, linewidth=0.8, drawstyle="steps-post", zorder=1.5)


def _obstacles(axes: Axes, found: Sequence[Point], front: Sequence[Point]) -> list[Segment]:
    """What a panel shows beside the points: error bars, published figures, the front."""
    percent = [(point.cost, 100 * point.accuracy, 100 * (point.error or 0)) for point in found]
    segments = [((x, y - error), (x, y + error)) for x, y, error in percent]
    segments += [((x, 100 * y),) * 2 for x, y in (point.published for point in found if point.published)]
    corners = [(point.cost, 100 * point.accuracy) for point in front]
    for (x, y), (next_x, next_y) in pairwise([*corners, (axes.get_xlim()[1], corners[-1][1])]):
        segments += [((x, y), (next_x, y)), ((next_x, y), (next_x, next_y))]
    return segments


def _notes(series: Sequence["Series"], panels: Mapping[str, Sequence[Point]], grey: int) -> list[str]:
    """What a reader must know of the points."""
    notes = ["Pareto front: the highest accuracy for at most that cost."]
    everything = [point for found in panels.values() for point in found]
    if any(point.error is not None for point in everything):
        notes.append("Means over seeds; error bars: standard error of the mean.")
    lengths: dict[tuple[Any, int], list[str]] = defaultdict(list)
    for one in series:
        if one.figures and one.published_epochs and one.figures["epochs"] != one.published_epochs:
            lengths[one.figures["epochs"], one.published_epochs].append(one.name)
    for (here, published), names in lengths.items():
        notes.append(f"{', '.join(names)}: {here} epochs here, {published} published.")
    if grey:
        notes.append(
            f"Grey: {grey} more configurations, neither on a front nor among the {len(COLOURS)} most accurate."
        )
    devices = {one.figures["device"] for one in series if one.figures}
    if "train_seconds_mean" in panels and len(devices) > 1:
        notes.append("Training times are from different devices.")
    return notes
