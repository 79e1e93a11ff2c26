"""Tables as text: aligned Markdown, LaTeX (booktabs), one HTML page, CSV, JSON, or in colour on a terminal.

Texts come from files that others wrote, so nothing in them may act as a command, in whatever format.
"""

import csv
import html
import io
import json
import math
import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from numbers import Real
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text
from tabulate import tabulate

from cnnzoo.text import clean, clean_lines

FORMATS = ("md", "csv", "json", "tex", "html")
LATEX_WIDTH = 72  # characters, as `Grid.widths` counts them, in the 345 pt of a page of LaTeX's article at 10 pt

# Numbers; what is not known (None, NaN, NA) is an empty text.


def percent(share: Any) -> str:
    """0.91063 → `91.06`."""
    return "" if _unknown(share) else f"{100 * share:.2f}"


def duration(seconds: Any) -> str:
    """`8.3 s`, `4 min 12 s`, `1 h 23 min`, `2 d 5 h`."""
    if _unknown(seconds):
        return ""
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    minutes, s = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {s:02d} s"
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{hours} h {minutes:02d} min" if hours < 24 else f"{hours // 24} d {hours % 24} h"


def count(value: Any) -> str:
    """272378 → `272,378`."""
    return "" if _unknown(value) else f"{value:,.0f}"


def magnitude(value: Any, unit: str = "") -> str:
    """40813184 → `40.8 M`."""
    if _unknown(value):
        return ""
    for size, prefix in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= 0.9995 * size:
            return f"{value / size:.3g} {prefix}{unit}"
    return f"{value:.0f} {unit}".strip()


def _unknown(value: Any) -> bool:
    return not isinstance(value, Real) or value != value or value in (math.inf, -math.inf)


@dataclass
class Grid:
    """A table of text, as it is shown.

    left: which columns are aligned left; the others hold numbers.
    """

    title: str
    header: list[str]
    body: list[list[str]]
    left: list[bool]

    def __post_init__(self) -> None:
        self.title = clean(self.title)
        self.header, *self.body = [[clean(cell) for cell in row] for row in (self.header, *self.body)]

    @property
    def widths(self) -> list[int]:
        """Characters that each column takes on a terminal; long texts are folded."""
        widths = [max(map(len, column)) + 3 for column in zip(self.header, *self.body, strict=True)]
        return [min(width, 30) if left else width for width, left in zip(widths, self.left, strict=True)]

    def transposed(self) -> "Grid":
        """Rows as columns; the first column becomes the header."""
        header, *body = map(list, zip(self.header, *self.body, strict=True))
        return Grid(self.title, header, body, [True] + [False] * len(self.body))

    def split(self, width: int) -> "list[Grid]":
        """The columns in as many tables as it takes to fit `width` characters, the first column in each."""
        first, *others = self.widths
        parts, room = [[0]], width - first
        for k, needed in enumerate(others, 1):
            if needed > room and len(parts[-1]) > 1:
                parts.append([0])
                room = width - first
            parts[-1].append(k)
            room -= needed
        grids: list[Grid] = []
        for part in parts:
            header, *body = [[row[k] for k in part] for row in (self.header, *self.body)]
            grids.append(Grid("" if grids else self.title, header, body, [self.left[k] for k in part]))
        return grids


def markdown(grids: Sequence[Grid], notes: Sequence[str]) -> str:
    parts = [(f"**{_inert(grid.title)}**\n\n" if grid.title else "") + _tabulate(grid, "pipe") for grid in grids]
    parts += ["\n".join(f"- {_inert(clean(note))}" for note in notes)] if notes else []
    return "\n\n".join(parts) + "\n"


def _inert(text: str) -> str:
    """Markdown without HTML, links and pictures."""
    return re.sub(r"<(?=[a-zA-Z/!?])", "&lt;", text).replace("](", "]\\(")


def latex(grids: Sequence[Grid], notes: Sequence[str]) -> str:
    """For `\\input` in a paper that loads the package booktabs; the notes are comments."""
    parts = [(f"% {grid.title}\n" if grid.title else "") + _tabulate(grid, "latex_booktabs") for grid in grids]
    text = "\n\n".join(parts).replace("±", r"$\pm$").replace("×", r"$\times$").replace("–", "--")
    text = re.sub(r"(?<=& )( *)-(?=\d)", r"\1$-$", text)
    comments = "".join(f"% {clean(note)}\n" for note in notes)
    return f"% needs \\usepackage{{booktabs}}\n{text}\n{comments}"


def _tabulate(grid: Grid, style: str) -> str:
    lines = [grid.header, *grid.body]
    if style == "pipe":
        lines = [[re.sub(r"(\\*)\|", r"\1\1\|", _inert(cell)) for cell in line] for line in lines]
    align = ["left" if left else "right" for left in grid.left]
    return tabulate(lines[1:], lines[0], tablefmt=style, disable_numparse=True, colalign=align)


_PAGE_HEAD = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>Comparison of networks</title>
<style>
:root { color-scheme: light dark; }
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; padding: 0 1rem; max-width: max-content; }
h1 { font-size: 1.3rem; } h2 { font-size: 1.05rem; margin-top: 2rem; }
div { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; border-block: 2px solid; }
th, td { padding: .3rem .7rem; text-align: right; white-space: nowrap; }
th.left, td.left { text-align: left; }
thead th { border-bottom: 1px solid; } tbody tr:nth-child(even) { background: #8881; }
ul { padding-left: 1.2rem; max-width: 60rem; font-size: .9rem; overflow-wrap: anywhere; }
</style>
<h1>Comparison of networks</h1>"""


def page(grids: Sequence[Grid], notes: Sequence[str]) -> str:
    """One HTML page that needs nothing else."""
    parts = []
    for grid in grids:
        parts += [f"<h2>{html.escape(grid.title)}</h2>"] if grid.title else []
        parts += [f"<div><table>\n<thead>{_html_row('th', grid.header, grid.left)}</thead>\n<tbody>"]
        parts += [_html_row("td", row, grid.left) for row in grid.body]
        parts += ["</tbody>\n</table></div>"]
    if notes:
        parts += ["<h2>Notes</h2>\n<ul>", *(f"<li>{html.escape(clean(note))}</li>" for note in notes), "</ul>"]
    return "\n".join([_PAGE_HEAD, *parts, "</html>\n"])


def _html_row(tag: str, cells: Sequence[str], left: Sequence[bool]) -> str:
    marks = (' class="left"' if is_left else "" for is_left in left)
    return "<tr>" + "".join(f"<{tag}{m}>{html.escape(c)}</{tag}>" for m, c in zip(marks, cells, strict=True)) + "</tr>"


def as_json(rows: Sequence[Mapping[Any, Any]]) -> str:
    return clean_lines(json.dumps(_plain(rows), indent=2, ensure_ascii=False)) + "\n"


def as_csv(rows: Sequence[Mapping[Any, Any]], transpose: bool = False) -> str:
    """Full precision, one line a row; lists and mappings as JSON, unknown values empty."""
    records = _plain(rows)
    lines = [list(records[0]) if records else [], *(row.values() for row in records)]
    table = [[_csv_cell(cell) for cell in line] for line in lines]
    file = io.StringIO()
    csv.writer(file, lineterminator="\n").writerows(zip(*table, strict=True) if transpose else table)
    return file.getvalue()


def _csv_cell(value: Any) -> Any:
    if isinstance(value, str):  # a spreadsheet takes a text that begins like this to be a formula
        start = unicodedata.normalize("NFKC", value).lstrip()[:1]
        return f"'{clean(value)}" if start in tuple("=+-@") else clean(value)
    return clean(json.dumps(value, ensure_ascii=False)) if isinstance(value, list | dict | bool) else value


def _plain(rows: Sequence[Mapping[Any, Any]]) -> Any:
    """The rows in JSON's types; NaN and infinity are None."""
    return json.loads(json.dumps(rows), parse_constant=lambda name: None)


def terminal(grids: Sequence[Grid], notes: Sequence[str]) -> None:
    """Print with rich; a table too wide for the window goes on in another one below."""
    console = Console()
    for grid in (part for whole in grids for part in whole.split(console.width)):
        table = Table(box=box.SIMPLE_HEAD, title=Text(grid.title) if grid.title else None, title_justify="left")
        for name, left in zip(grid.header, grid.left, strict=True):
            table.add_column(Text(name), justify="left" if left else "right", no_wrap=not left, overflow="fold")
        for row in grid.body:
            table.add_row(*map(Text, row))
        console.print(table)
    for note in notes:
        console.print(Text(f"- {clean(note)}", style="dim"))
