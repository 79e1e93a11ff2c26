"""Numbers and tables as text; texts from files act as nothing but text."""

import csv
import io
import json
import math
import re
from html.parser import HTMLParser
from typing import Any

import pytest

from cnnzoo.results.render import (
    Grid,
    as_csv,
    as_json,
    count,
    duration,
    latex,
    magnitude,
    markdown,
    page,
    percent,
    terminal,
)


@pytest.mark.parametrize(
    ("function", "value", "text"),
    [
        (percent, 0.91063, "91.06"),
        (percent, None, ""),
        (percent, math.nan, ""),
        (count, 272378, "272,378"),
        (magnitude, 40813184, "40.8 M"),
        (magnitude, 999_600, "1 M"),
        (magnitude, 12, "12"),
        (duration, 8.31, "8.3 s"),
        (duration, 59.96, "1 min 00 s"),
        (duration, 252, "4 min 12 s"),
        (duration, 4980, "1 h 23 min"),
        (duration, 190800, "2 d 5 h"),
        (duration, math.nan, ""),
        (duration, math.inf, ""),
    ],
)
def test_numbers(function: Any, value: Any, text: str) -> None:
    assert function(value) == text


def test_magnitude_of_bytes() -> None:
    assert magnitude(10**9, "B") == "1 GB"


def grid(cell: str, title: str = "") -> Grid:
    return Grid(title, ["network", "test %"], [[cell, "-5.00"], ["b", "90.50 ± 0.71"]], [True, False])


def test_markdown_is_aligned() -> None:
    lines = markdown([grid("a|b\n| c")], ["note\n# title"]).splitlines()
    table = [line for line in lines if line.startswith("|")]
    assert len({len(line) for line in table}) == 1
    assert r"a\|b \| c" in table[2]
    assert lines[-1] == "- note # title"


def test_markdown_has_no_html_and_no_links() -> None:
    text = markdown([grid("<img src=x> ![a](http://b)", title="<b>")], ["</div> [c](d) <0.001"])
    assert text.startswith("**&lt;b>**")
    assert r"&lt;img src=x> ![a]\(http://b)" in text
    assert text.endswith("- &lt;/div> [c]\\(d) <0.001\n")


def test_a_backslash_before_a_bar_ends_no_cell() -> None:
    """CommonMark takes an even number of backslashes to be characters, and the bar after them to be a bar."""
    assert r"| a\\\|b " in markdown([grid(r"a\|b")], [])


def test_latex_escapes_everything() -> None:
    text = latex([grid(r"\input{/etc/passwd} 50% & my_net", title="a\n\\input{b}")], ["c\n\\input{d}"])
    assert r"\textbackslash{}input\{/etc/passwd\} 50\% \& my\_net" in text
    assert not any(r"\input" in line for line in text.splitlines() if not line.startswith("%"))
    assert r"90.50 $\pm$ 0.71" in text
    assert "$-$5.00" in text
    assert [text.count(rule) for rule in (r"\toprule", r"\midrule", r"\bottomrule")] == [1, 1, 1]
    body = text[text.index(r"\midrule") : text.index(r"\bottomrule")].strip().splitlines()[1:]
    columns = re.search(r"begin\{tabular\}\{([lr]+)\}", text)
    assert columns is not None
    assert {len(re.findall(r"(?<!\\)&", line)) for line in body} == {len(columns[1]) - 1}


def test_html_escapes_everything() -> None:
    cells: list[str] = []

    class Parser(HTMLParser):
        def handle_data(self, data: str) -> None:
            cells.append(data)

    Parser().feed(page([grid("<script>alert(1)</script>")], ["<b>"]))
    assert "<script>alert(1)</script>" in cells
    assert "<b>" in cells


def test_csv_cells_are_no_formulas() -> None:
    texts = ("=1+1", "+a", "-b", "@c", " =d", "\t=e", "＝f", "g=h")
    rows = [{"label": text, "change": -0.5, "seeds": [1], "unknown": None} for text in texts]
    lines = list(csv.DictReader(io.StringIO(as_csv(rows))))
    assert [line["label"] for line in lines] == ["'=1+1", "'+a", "'-b", "'@c", "' =d", "' =e", "'＝f", "g=h"]
    assert {(line["change"], line["seeds"], line["unknown"]) for line in lines} == {("-0.5", "[1]", "")}


def test_csv_transposed() -> None:
    assert as_csv([{"a": 1, "b": "x"}, {"a": 2, "b": "y"}], transpose=True) == "a,1,2\nb,x,y\n"


def test_json_is_json_whatever_the_values() -> None:
    rows = [{"label": "é \udcff \x9b \u202e", "mean": math.nan, "list": [math.inf, None]}]
    text = as_json(rows)
    assert text.encode()
    assert "\x9b" not in text
    assert "é" in text
    assert json.loads(text) == [{"label": "é \udcff \x9b \u202e", "mean": None, "list": [None, None]}]


def test_terminal_output_has_no_control_characters(capsys: pytest.CaptureFixture[str]) -> None:
    terminal([grid("\x1b[2J[bold]a")], ["\x1b]0;b\x07"])
    out = capsys.readouterr().out
    assert r"\u001b[2J[bold]a" in out
    assert "\x1b" not in out
    assert "\x07" not in out


def test_a_narrow_window_cuts_no_number() -> None:
    wide = Grid(
        "t", ["network", *"abc"], [["resnet", "91.06 ± 0.12", "91.06 ± 0.12", "1"]], [True, False, False, False]
    )
    assert [part.header for part in wide.split(40)] == [["network", "a", "b"], ["network", "c"]]
    assert [part.header for part in wide.split(10)] == [["network", letter] for letter in "abc"]
    assert wide.split(200) == [wide]


def test_transposed() -> None:
    assert Grid("t", ["network", "n"], [["a", "1"], ["b", "2"]], [True, False]).transposed() == Grid(
        "t", ["network", "a", "b"], [["n", "1", "2"]], [True, False, False]
    )
