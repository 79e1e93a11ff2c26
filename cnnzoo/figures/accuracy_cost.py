"""Test accuracy of a sweep's networks on one data set against what they cost."""

import math
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import EngFormatter, LogLocator, MaxNLocator, NullLocator

from cnnzoo.figures import style
from cnnzoo.results.settings import is_absent
from cnnzoo.results.stats import pareto_front


def accuracy_cost(rows: pd.DataFrame) -> Figure | None:
    """Draw mean test accuracy ± standard error against parameters, MACs and training time, with the Pareto fronts.

    `rows` are those of the comparison on one data set, the most accurate first.
    """
    longest = rows["train_seconds_mean"].max()
    unit, seconds = ("h", 3600) if longest >= 7200 else ("min", 60) if longest >= 120 else ("s", 1)
    points = rows.rename(columns={"test_accuracy_mean": "accuracy"}).reset_index(drop=True).dropna(subset="accuracy")
    points["error"] = points["test_accuracy_std"] / points["n"] ** 0.5
    points["time"] = points["train_seconds_mean"] / seconds
    titles = {"params": "parameters", "macs": "MACs", "time": f"training time ({unit})"}
    panels = {cost: found for cost in titles if len(found := points.dropna(subset=cost))}
    if not panels:
        return None
    fronts = {
        cost: found.iloc[pareto_front(found[cost].tolist(), found["accuracy"].tolist())]
        for cost, found in panels.items()
    }
    on_front = pd.concat(fronts.values()).index
    everyone = pd.concat(panels.values()).index.unique().sort_values()
    named = sorted(sorted(everyone, key=lambda i: i not in on_front)[: style.MOST_NAMED])

    figure = Figure(figsize=(style.PAGE_WIDTH, 2.1), layout="constrained")
    row = figure.subplots(1, len(panels), sharey=True, squeeze=False)[0]
    for axes, (cost, found) in zip(row, panels.items(), strict=True):
        _set_up_axis(axes, found[cost])
        axes.xaxis.set_major_formatter("{x:g}" if cost == "time" else EngFormatter())
        axes.set_xlabel(titles[cost])
        for i in reversed(found.index.tolist()):  # the best on top
            _draw(axes, cost, found.loc[i], style.identity(i, i in named), i in fronts[cost].index)
        axes.set_xlim(axes.get_xlim())  # as far as the front goes on, but no farther
        x, y = fronts[cost][cost].tolist(), fronts[cost]["accuracy"].tolist()
        axes.step([*x, axes.get_xlim()[1]], [*y, y[-1]], where="post", color=style.INK, linewidth=0.8, zorder=1.5)
    row[0].set_ylabel("test accuracy (%)")
    row[0].yaxis.set_major_formatter(style.percent)
    handles = [Line2D([], [], **style.identity(i), **style.POINT, label=points["label"][i]) for i in named]
    front = style.ON_FRONT | {"linestyle": "-", "linewidth": 0.8, "marker": "o", "markerfacecolor": "none"}
    handles.append(Line2D([], [], color=style.INK, **front, label="Pareto front"))
    if points["published_test_accuracy"].notna().any():
        handles.append(Line2D([], [], color=style.INK, marker="o", **style.PUBLISHED_POINT, label="published"))
    notes = _notes(points, "time" in panels)
    if grey := len(everyone) - len(named):
        notes.append(f"In grey, without a name: {grey} more configurations.")
    style.legend_below(figure, handles, notes)
    return figure


def _set_up_axis(axes: Axes, cost: "pd.Series[float]") -> None:
    decades = math.log10(cost.max() / cost.min()) if cost.min() > 0 else 0
    if decades > 1:
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 3) if decades < 1.5 else (1,)))
        axes.xaxis.set_minor_locator(NullLocator())
    else:
        axes.xaxis.set_major_locator(MaxNLocator(4, steps=[1, 2, 5, 10]))
    axes.margins(x=0.12, y=0.15)
    axes.grid()


def _draw(axes: Axes, cost: str, point: "pd.Series[Any]", identity: Any, on_front: bool) -> None:
    """Draw one configuration, with its published accuracy if it is not grey."""
    x, y, named = point[cost], point["accuracy"], identity["color"] != style.FAINT
    error = None if is_absent(point["error"]) else point["error"]
    mark = style.ON_FRONT if on_front else style.POINT
    axes.errorbar(x, y, error, elinewidth=0.9, zorder=2 + named + 2 * on_front, **identity, **mark)
    published = point["published_test_accuracy"]
    if named and cost != "time" and not is_absent(published):
        there = x if cost == "macs" or is_absent(point["published_params"]) else point["published_params"]
        axes.plot([x, there], [y, published], color=identity["color"], linewidth=0.6, linestyle=":", zorder=1)
        axes.plot(there, published, **identity, **style.PUBLISHED_POINT, zorder=2)


def _notes(points: pd.DataFrame, with_time: bool) -> list[str]:
    """What a reader must know of the points."""
    notes = ["Pareto front: the highest accuracy for at most that cost."]
    if points["error"].notna().any():
        notes.append("Means over seeds; error bars: standard error of the mean.")
    known = points.dropna(subset=["epochs", "published_epochs"]).astype({"epochs": str, "published_epochs": str})
    differing = known[known["epochs"] != known["published_epochs"]]
    for (here, published), labels in differing.groupby(["epochs", "published_epochs"], sort=False)["label"]:
        names = ", ".join(labels) if len(labels) <= 4 else f"{len(labels)} configurations"
        notes.append(f"{names}: {here} epochs here, {published} published.")
    if with_time and points["device"].nunique() > 1:
        notes.append("Training times are from different devices.")
    return notes
