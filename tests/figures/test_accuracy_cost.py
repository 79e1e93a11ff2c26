"""Accuracy against cost, by hand."""

import math
import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.colors import to_hex

from cnnzoo.figures import style
from cnnzoo.figures.accuracy_cost import accuracy_cost

Load = Callable[..., Any]
Write = Callable[..., Path]
PUBLISHED = {"source": "a tutorial", "test_accuracy": 0.97, "params": 260_000, "epochs": 180}


def draw(load: Load, *where: Any) -> Any:
    figure = accuracy_cost(load(*where)[1])
    assert figure is not None
    return figure


def notes(figure: Any) -> str:
    return " ".join(figure.legends[0].get_title().get_text().split())


def legend(figure: Any) -> list[str]:
    return [text.get_text() for text in figure.legends[0].get_texts()]


def marks(axes: Any) -> dict[tuple[float, float], Any]:
    """Single points by their place."""
    return {tuple(line.get_xydata()[0]): line for line in axes.lines if len(line.get_xdata()) == 1}


def front(axes: Any) -> Any:
    """The corners of the Pareto front, without its end."""
    (line,) = [line for line in axes.lines if line.get_drawstyle() == "steps-post"]
    return line.get_xydata()[:-1]


def test_means_with_standard_errors_and_front(tmp_path: Path, write: Write, load: Load) -> None:
    accuracies = {"a": (0.7, 0.72, 0.71), "b": (0.8, 0.82, 0.84), "c": (0.75, 0.75, 0.76), "d": (0.9,)}
    params = {"a": 100_000, "b": 250_000, "c": 300_000, "d": 400_000}
    for model, shares in accuracies.items():
        for seed, share in enumerate(shares):
            write(
                tmp_path / "runs",
                model,
                seed,
                test_accuracy=share,
                params=params[model],
                macs=7,
                published=PUBLISHED if model == "b" else None,
                train_seconds=7200 * (seed + 1),
            )
    figure = draw(load, tmp_path / "runs")
    assert [axes.get_xlabel() for axes in figure.axes] == ["parameters", "MACs", "training time (h)"]
    first, second, third = figure.axes
    means = {model: statistics.fmean(shares) for model, shares in accuracies.items()}
    expected = {(params[model], mean) for model, mean in means.items()} | {(260_000, 0.97)}
    assert np.array(sorted(marks(first))) == pytest.approx(np.array(sorted(expected)))
    bars = {bar[0][0][0]: bar[0][:, 1] for bars in first.collections for bar in [bars.get_segments()]}
    for model in "abc":
        error = statistics.stdev(accuracies[model]) / math.sqrt(3)
        assert bars[params[model]] == pytest.approx([means[model] - error, means[model] + error])
    assert params["d"] not in bars, "a single run has no error"
    assert front(first) == pytest.approx(np.array([(params[m], means[m]) for m in "abd"]))
    assert front(second) == pytest.approx(np.array([(7, means["d"])])), "all cost the same"
    assert {round(x, 6) for x, _ in marks(third)} == {2.0, 4.0}
    edges = {place[0]: to_hex(mark.get_markeredgecolor()) for place, mark in marks(first).items()}
    assert {model for model in "abcd" if edges[params[model]] == style.INK} == set("abd"), "those on the front"
    assert "b: 6 epochs here, 180 published" in notes(figure)
    assert legend(figure) == ["d", "b", "c", "a", "Pareto front", "published"]


def test_published_at_its_own_size(tmp_path: Path, write: Write, load: Load) -> None:
    """Published parameters may differ from those here; MACs are not published, a time would not be comparable."""
    write(tmp_path / "runs", "a", 1, test_accuracy=0.5, params=200_000, macs=7, published=PUBLISHED)
    first, second, third = draw(load, tmp_path / "runs").axes
    assert (260_000, 0.97) in marks(first)
    assert (7, 0.97) in marks(second)
    assert len(marks(third)) == 1


@pytest.mark.parametrize(("seconds", "unit", "shown"), [(30, "s", 30), (600, "min", 10), (9000, "h", 2.5)])
def test_unit_of_time(seconds: float, unit: str, shown: float, tmp_path: Path, write: Write, load: Load) -> None:
    write(tmp_path / "runs", "a", 1, train_seconds=seconds)
    axes = draw(load, tmp_path / "runs").axes[-1]
    assert axes.get_xlabel() == f"training time ({unit})"
    assert [x for x, _ in marks(axes)] == [shown]


def test_costs_of_different_magnitudes_are_logarithmic(tmp_path: Path, write: Write, load: Load) -> None:
    for model, params in (("a", 10_000), ("b", 9_000_000)):
        write(tmp_path / "runs", model, 1, params=params, macs=10)
    assert [axes.get_xscale() for axes in draw(load, tmp_path / "runs").axes] == ["log", "linear", "linear"]


def test_costs_that_are_not_known(tmp_path: Path, write: Write, load: Load) -> None:
    write(tmp_path / "runs", "a", 1, params=None, macs=None)
    write(tmp_path / "runs", "b", 1, params=5, macs=None)
    figure = draw(load, tmp_path / "runs")
    assert [axes.get_xlabel() for axes in figure.axes] == ["parameters", "training time (min)"]
    assert [len(marks(axes)) for axes in figure.axes] == [1, 2]
    write(tmp_path / "other", "a", 1, params=None, macs=None, train_seconds=None)
    assert accuracy_cost(load(tmp_path / "other")[1]) is None


def test_of_forty_configurations_ten_are_named(tmp_path: Path, write: Write, load: Load) -> None:
    for i in range(40):
        accuracy = 0.5 + i / 100
        write(tmp_path / "runs", "resnet", 1, lr=round(0.01 * (i + 1), 2), params=1000 - i, test_accuracy=accuracy)
    rows = load(tmp_path / "runs")[1]
    figure = draw(load, tmp_path / "runs")
    assert legend(figure) == [*rows["label"][:10], "Pareto front"]
    assert "In grey, without a name: 30 more configurations." in notes(figure)
    colours = [to_hex(mark.get_color()) for mark in marks(figure.axes[0]).values()]
    assert colours.count(style.FAINT) == 30


def test_those_on_a_front_are_named_first(tmp_path: Path, write: Write, load: Load) -> None:
    for i in range(20):
        write(
            tmp_path / "runs", f"net{i}", 1, params=100_000, macs=10**6, train_seconds=99, test_accuracy=0.9 - i / 100
        )
    write(tmp_path / "runs", "tiny", 1, params=1_000, macs=10**4, train_seconds=1, test_accuracy=0.3)
    figure = draw(load, tmp_path / "runs")
    assert legend(figure) == [*(f"net{i}" for i in range(9)), "tiny", "Pareto front"]
    assert "11 more configurations" in notes(figure)


def test_times_on_different_devices_are_noted(tmp_path: Path, write: Write, load: Load) -> None:
    write(tmp_path / "runs", "a", 1)
    write(tmp_path / "runs", "b", 1)
    assert "different devices" not in notes(draw(load, tmp_path / "runs"))
    write(tmp_path / "runs", "c", 1, device="NVIDIA H100")
    assert "Training times are from different devices." in notes(draw(load, tmp_path / "runs"))
