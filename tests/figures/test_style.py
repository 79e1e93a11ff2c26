"""Names, the legend and files of figures."""

from pathlib import Path
from typing import Any

import pytest
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from cnnzoo.errors import UserError
from cnnzoo.figures import style

LABELS = [
    ["a"],
    ["net"] * 4,
    [f"resnet (lr=0.0{i}123, weight_decay=0.000{i}, dropout=0.{i})" for i in range(12)],
    ["WM" * 40] * 3,
    ["long " * 100] * 2,
    ["_hidden", "$\\frac$", "two\nlines \x1b[2J"],
]


@pytest.mark.parametrize("labels", LABELS, ids=range(len(LABELS)))
def test_legend_is_below_the_axes_and_no_wider_than_the_figure(labels: list[str]) -> None:
    with style.look():
        figure = Figure(figsize=(style.PAGE_WIDTH, 2), layout="constrained")
        axes = figure.subplots()
        before = axes_height(figure, axes)
        style.legend_below(figure, [Line2D([], [], label=label) for label in labels], ["A note on the lines. " * 12])
        after = axes_height(figure, axes)
        (legend,) = figure.legends
        box = legend.get_window_extent()
        assert len(legend.get_texts()) == len(labels)
        assert box.width <= figure.bbox.width
        assert box.y1 <= axes.get_tightbbox().y0  # type: ignore[union-attr]
        assert box.y0 >= 0
        assert after > 0.9 * before, "the legend takes nothing from the axes"


def axes_height(figure: Figure, axes: Any) -> float:
    figure.draw_without_rendering()
    return float(axes.get_window_extent().height)


def test_a_legend_has_as_many_columns_as_fit() -> None:
    for labels, rows in (
        (["net"] * 6, 1),
        (["a network's name"] * 8, 2),
        (["a name as long as half a page" * 2] * 3, 3),
    ):
        with style.look():
            figure = Figure(figsize=(style.PAGE_WIDTH, 2), layout="constrained")
            style.legend_below(figure, [Line2D([], [], label=label) for label in labels], [])
            figure.draw_without_rendering()
            heights = {round(text.get_window_extent().y0) for text in figure.legends[0].get_texts()}
        assert len(heights) == rows


def test_seventy_configurations_look_different() -> None:
    looks = {tuple(style.identity(index).values()) for index in range(70)}
    assert len(looks) == 70
    assert {to_hex(style.identity(index, named=False)["color"]) for index in range(70)} == {style.FAINT}


def test_short() -> None:
    assert style.short("resnet", 6) == "resnet"
    assert style.short("resnet50", 6) == "resne…"
    assert style.short("a\nb\x1b", 20) == "a b\\u001b"


@pytest.mark.parametrize(
    "name",
    ["../..", "..", ".", "", "/etc", "a/../../b", "\\..\\x", "a\0b", "~", "\ud800", "x" * 300, "c:con", ". .", "-rf"],
)
def test_folder_name_stays_inside(name: str, tmp_path: Path) -> None:
    folder = tmp_path / style.folder_name(name)
    folder.mkdir(parents=True)
    assert folder.resolve().parent == tmp_path.resolve()


def test_folder_name_keeps_ordinary_names() -> None:
    for name in ("cifar10", "my images", "CIFAR-10.1", "Tiere_ß", "a+b=c,d (2)"):
        assert style.folder_name(name) == name


def test_formats() -> None:
    style.check_formats(["png", "pdf", "svg"])
    with pytest.raises(UserError, match=r"formats: pgn: expected some of png, pdf, svg. Did you mean 'png'\?"):
        style.check_formats(["pdf", "pgn"])


def test_a_file_is_whole_or_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    figures = {"empty": Figure()}
    (path,) = style.save(figures, tmp_path, ["png"])
    before = path.read_bytes()
    assert before.startswith(b"\x89PNG")

    def full_disk(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", full_disk)
    figures["empty"].text(0.5, 0.5, "more")
    with pytest.raises(UserError, match=f"out={tmp_path}: cannot be written to: no space is left on its disk"):
        style.save(figures, tmp_path, ["png"])
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_the_end_of_a_long_name_is_in_the_legend() -> None:
    """What tells a configuration of a search from others may stand there."""
    words = ", ".join(f"setting_{i}=0.{i}" for i in range(12))
    with style.look():
        figure = Figure(figsize=(style.PAGE_WIDTH, 2), layout="constrained")
        figure.subplots()
        style.legend_below(figure, [Line2D([], [], label=f"net ({words}, lr={lr})") for lr in (0.1, 0.2)], ["A note."])
    texts = [text.get_text() for text in figure.legends[0].get_texts()]
    assert [text.rpartition("lr=")[2] for text in texts] == ["0.1)", "0.2)"]
    assert figure.legends[0].get_window_extent().width <= figure.bbox.width
