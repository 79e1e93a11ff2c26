"""Accuracy by class: cells and their numbers."""

import itertools
import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from cnnzoo.figures import style
from cnnzoo.figures.class_accuracy import class_accuracy
from cnnzoo.figures.series import Series

Read = Callable[..., list[Series]]


def invented(name: str, shares: Any, overall: float = 0.5) -> Series:
    """A configuration with these accuracies of each run and class."""
    return Series(name, "cifar10", overall, class_accuracy=pd.DataFrame(shares).rename(columns=str))


def draw(series: list[Series]) -> Any:
    figure = class_accuracy(series)
    assert figure is not None
    return figure


def cells(figure: Any) -> Any:
    """Of classes, the gap, and all images; NaN where nothing is drawn."""
    return np.ma.filled(figure.axes[0].collections[0].get_array(), np.nan)


def numbers(figure: Any, row: int) -> list[str]:
    return [text.get_text() for text in figure.axes[0].texts if text.get_position()[1] == row]


def notes(figure: Any) -> str:
    return " ".join(figure.legends[0].get_title().get_text().split())


def test_means_over_seeds(sweep: Path, series: Read) -> None:
    found = series(sweep)
    figure = draw(found)
    for row, one in enumerate(found):
        expected = [statistics.fmean(one.class_accuracy[name]) for name in one.class_accuracy]
        assert cells(figure)[row, :10].tolist() == pytest.approx(expected)
        assert cells(figure)[row, 11] == one.test_accuracy
        assert numbers(figure, row) == [f"{100 * value:.1f}" for value in [*expected, one.test_accuracy]]
    ticks = [label.get_text() for label in figure.axes[0].get_xticklabels()]
    assert ticks[2:4] == ["bird", "cat"]
    assert ticks[-1] == "all"
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == [one.name for one in found]
    assert "Test accuracy in %, means over 3 seeds; the highest of each column in bold." in notes(figure)


def test_the_highest_of_a_column_is_bold() -> None:
    figure = draw([invented("a", [[0.9, 0.1]], 0.5), invented("b", [[0.8, 0.2]], 0.5)])
    weights = [[t.get_weight() for t in figure.axes[0].texts if t.get_position()[1] == row] for row in (0, 1)]
    assert weights == [["bold", "normal", "bold"], ["normal", "bold", "bold"]]


def test_a_class_without_test_images_is_left_white() -> None:
    figure = draw([invented("a", [[0.9, np.nan, 0.5]])])
    assert np.isnan(cells(figure)[0]).tolist() == [False, True, False, True, False]
    assert numbers(figure, 0) == ["90.0", "50.0", "50.0"]


def test_a_hundred_classes_are_sorted_by_accuracy() -> None:
    shares = np.random.default_rng(0).random((2, 100))
    figure = draw([invented("resnet", shares)])
    expected = sorted((a + b) / 2 for a, b in shares.T.tolist())
    assert cells(figure)[0, :100].tolist() == pytest.approx(expected)
    assert numbers(figure, 0) == ["50.0"]
    assert figure.axes[0].get_xlabel() == "100 classes, from the hardest to the easiest"


def test_different_numbers_of_seeds_and_classes() -> None:
    figure = draw([invented("a", [[0.5, 0.25], [0.75, 0.25]]), invented("b", [[0.5, 0.5, 0.5]])])
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == ["a (n = 2)", "b (n = 1)"]
    assert cells(figure)[0, :2].tolist() == [0.625, 0.25]
    assert np.isnan(cells(figure)[0, 2])
    assert "means over n seeds" in notes(figure)


def test_long_names_do_not_overlap() -> None:
    name = "resnet (flip=0.7609, padding=0, widths=[32,32], lr=0.02411, weight_decay=4.914e-05, momentum=0.9123)"
    with style.look():
        figure = draw([invented(name, np.full((1, 10), 0.5))] * 50)
        figure.draw_without_rendering()
        boxes = [label.get_window_extent() for label in figure.axes[0].get_yticklabels()]
        assert len(boxes) == 40, "as many as fit a page"
        assert all(lower.y1 <= upper.y0 + 1 for upper, lower in itertools.pairwise(boxes))
        assert figure.axes[0].get_window_extent().width > 0.4 * figure.bbox.width
        assert min(box.x0 for box in boxes) >= 0
    assert "The 40 of 50 configurations with the highest test accuracy." in notes(figure)


def test_nothing_to_draw() -> None:
    assert class_accuracy([Series("resnet", "cifar10", 0.5)]) is None
