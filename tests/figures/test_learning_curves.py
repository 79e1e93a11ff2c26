"""Learning curves, against means and standard deviations of the files' numbers."""

import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from matplotlib.colors import to_hex

from cnnzoo.figures import style
from cnnzoo.figures.learning_curves import learning_curves
from cnnzoo.figures.series import Series

Read = Callable[..., list[Series]]
Write = Callable[..., Path]
PANELS = ("val_accuracy", "train_accuracy")


def column(folder: Path, name: str) -> list[float]:
    values: list[float] = pd.read_csv(folder / "metrics.csv")[name].tolist()
    return values


def draw(series: list[Series]) -> Any:
    figure = learning_curves(series)
    assert figure is not None
    return figure


def lines(axes: Any, colour: str, linestyle: str = "-") -> list[Any]:
    return [line for line in axes.lines if to_hex(line.get_color()) == colour and line.get_linestyle() == linestyle]


def legend(figure: Any) -> list[str]:
    return [text.get_text() for text in figure.legends[0].get_texts()]


def notes(figure: Any) -> str:
    return " ".join(figure.legends[0].get_title().get_text().split())


def test_means_and_bands_of_standard_deviations(sweep: Path, series: Read) -> None:
    found = series(sweep)
    figure = draw(found)
    for axes, key in zip(figure.axes, PANELS, strict=True):
        assert len(axes.collections) == 2
        for one, colour in zip(found, style.COLOURS, strict=False):
            columns = [column(sweep / f"{one.name}-0.1" / f"seed{seed}", key) for seed in (1, 2, 3)]
            mean = [statistics.fmean(values) for values in zip(*columns, strict=True)]
            std = [statistics.stdev(values) for values in zip(*columns, strict=True)]
            (line,) = lines(axes, colour)
            assert list(line.get_xdata()) == [1, 2, 3, 4, 5, 6]
            assert line.get_ydata() == pytest.approx(mean)
            (band,) = [band for band in axes.collections if to_hex(band.get_facecolor()[0]) == colour]
            edge = {(round(x), y) for x, y in band.get_paths()[0].vertices}
            for epoch in range(6):
                heights = [y for x, y in edge if x == epoch + 1]
                assert min(heights) == pytest.approx(mean[epoch] - std[epoch])
                assert max(heights) == pytest.approx(mean[epoch] + std[epoch])
    assert legend(figure) == [one.name for one in found]
    assert "means over 3 seeds, bands ± 1 standard deviation" in notes(figure)


def test_axis_is_in_percent(sweep: Path, series: Read) -> None:
    figure = draw(series(sweep))
    figure.draw_without_rendering()
    axis = figure.axes[0].yaxis
    for share, label in zip(axis.get_majorticklocs(), axis.get_majorticklabels(), strict=True):
        assert float(label.get_text()) == pytest.approx(100 * share)


def test_a_mean_ends_with_its_shortest_run(tmp_path: Path, write: Write, series: Read) -> None:
    folders = [write(tmp_path / "runs", "resnet", seed, epochs=epochs) for seed, epochs in ((1, 4), (2, 6), (3, 9))]
    figure = draw(series(tmp_path / "runs"))
    mean, *rest = sorted(lines(figure.axes[0], style.COLOURS[0]), key=lambda line: -line.get_linewidth())
    assert list(mean.get_xdata()) == [1, 2, 3, 4]
    assert sorted(max(line.get_xdata()) for line in rest) == [6, 9]
    for line, folder in zip(sorted(rest, key=lambda line: max(line.get_xdata())), folders[1:], strict=True):
        assert line.get_ydata() == pytest.approx(column(folder, "val_accuracy")[3:])
    assert "seeds that trained for longer" in notes(figure)


def test_epochs_without_validation_are_bridged(tmp_path: Path, write: Write, series: Read) -> None:
    folder = write(tmp_path / "runs", "resnet", 1)
    (folder / "metrics.csv").write_text("epoch,val_accuracy,train_accuracy\n0,,0.5\n1,0.5,0.6\n2,,0.7\n3,0.75,0.8\n")
    (line,) = lines(draw(series(tmp_path / "runs")).axes[0], style.COLOURS[0])
    assert list(line.get_xdata()) == [2, 4]
    assert list(line.get_ydata()) == [0.5, 0.75]


def test_unfinished_runs_are_lines_of_their_own(sweep: Path, write_unfinished: Write, series: Read) -> None:
    begun = [write_unfinished(sweep, "resnet", 7, epochs=2), write_unfinished(sweep, "googlenet", 1, epochs=3)]
    found = series(sweep)
    assert [one.name for one in found][2:] == ["googlenet"]
    resnet = next(i for i, one in enumerate(found) if one.name == "resnet")
    figure = draw(found)
    for i, folder, done in ((resnet, begun[0], 2), (2, begun[1], 3)):
        dotted = [
            line for line in figure.axes[0].lines if line.is_dashed() and to_hex(line.get_color()) == style.COLOURS[i]
        ]
        assert [len(line.get_xdata()) for line in dotted] == [done]
        assert dotted[0].get_ydata() == pytest.approx(column(folder, "val_accuracy")[:done])
    (mean,) = lines(figure.axes[0], style.COLOURS[resnet])
    assert len(mean.get_xdata()) == 6, "the unfinished run is no part of the mean"
    assert "googlenet (epoch 3 of 180)" in legend(figure)
    assert "Dotted: a run that is not finished" in notes(figure)


def test_different_numbers_of_seeds_are_written(tmp_path: Path, write: Write, series: Read) -> None:
    for model, seed in (("resnet", 1), ("resnet", 2), ("densenet", 1)):
        write(tmp_path / "runs", model, seed)
    figure = draw(series(tmp_path / "runs"))
    assert set(legend(figure)) == {"resnet (n = 2)", "densenet (n = 1)"}
    assert "means over n seeds" in notes(figure)
    assert notes(draw(series(tmp_path / "runs", "model=densenet"))) == "Single runs."


def test_published_curves_are_dashed(tmp_path: Path, write: Write, series: Read) -> None:
    write(tmp_path / "runs", "resnet", 1, epochs=3)
    write(tmp_path / "runs", "densenet", 1, epochs=3)
    found = series(tmp_path / "runs")
    values = [0.5 + i / 64 for i in range(20)]
    curves = pd.DataFrame({"val_accuracy": values, "train_accuracy": values[::-1]}, index=range(1, 21))
    assert draw(found).axes[0].get_xscale() == "linear"
    index = next(i for i, one in enumerate(found) if one.name == "resnet")
    found[index].published = "ResNet", curves
    figure = draw(found)
    for axes, expected in zip(figure.axes, (values, values[::-1]), strict=True):
        (line,) = lines(axes, style.COLOURS[index], "--")
        assert list(line.get_xdata()) == list(range(1, 21))
        assert list(line.get_ydata()) == expected
        assert axes.get_xscale() == "log", "3 epochs beside 20"
    assert "ResNet, published, 20 epochs" in legend(figure)


def test_of_forty_configurations_ten_are_named(tmp_path: Path, write: Write, series: Read) -> None:
    for i in range(40):
        write(tmp_path / "runs", "resnet", 1, lr=round(0.01 * (i + 1), 2), test_accuracy=0.5 + i / 100)
    found = series(tmp_path / "runs")
    assert [one.test_accuracy for one in found][:2] == [0.89, 0.88], "the table's order"
    figure = draw(found)
    assert legend(figure) == [*(one.name for one in found[:10]), "30 others"]
    assert "first 10 of 40 configurations" in notes(figure)
    assert len(lines(figure.axes[0], style.FAINT)) == 30


def test_nothing_to_draw() -> None:
    assert learning_curves([Series("resnet", "cifar10", 0.5)]) is None
