"""Tables as text: aligned Markdown, LaTeX (booktabs), one HTML page, CSV, JSON, or in colour on a terminal."""

import csv
import html
import io
import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

FORMATS = ("md", "csv", "json", "tex", "html")


@dataclass
class Grid:
    """A table of text; `left` says which columns are aligned left."""

    title: str
    header: list[str]
    body: list[list[str]]
    left: list[bool]

    def transposed(self) -> "Grid":
        """Rows as columns; the first column becomes the header."""
        cells = [list(column) for column in zip(self.header, *self.body, strict=True)]
        return Grid(self.title, cells[0], cells[1:], [True] + [False] * len(self.body))

    def split(self, width: int) -> "list[Grid]":
        """The columns in as many tables as it takes to fit `width` characters, the first column in each."""
        widths = [max(map(len, column)) + 3 for column in zip(self.header, *self.body, strict=True)]
        widths = [min(w, 30) if left else w for w, left in zip(widths, self.left, strict=True)]  # text may be folded
        parts: list[list[int]] = [[]]
        for k in range(1, len(widths)):
            if parts[-1] and widths[0] + sum(widths[i] for i in parts[-1]) + widths[k] > width:
                parts.append([])
            parts[-1].append(k)
        return [
            Grid(
                self.title if number == 0 else "",
                [self.header[k] for k in (0, *part)],
                [[row[k] for k in (0, *part)] for row in self.body],
                [self.left[k] for k in (0, *part)],
            )
            for number, part in enumerate(parts)
        ]


def markdown(grids: Sequence[Grid], notes: Sequence[str]) -> str:
    parts = [(f"**{grid.title}**\n\n" if grid.title else "") + _tabulate(grid, "pipe") for grid in grids]
    parts += ["\n".join(f"- {note}" for note in notes)] if notes else []
    return "\n\n".join(parts) + "\n"


def latex(grids: Sequence[Grid], notes: Sequence[str]) -> str:
    """For `\\input` in a paper that loads the package booktabs; the notes are comments."""
    parts = [(f"% {grid.title}\n" if grid.title else "") + _tabulate(grid, "latex_booktabs") for grid in grids]
    text = "\n\n".join(parts).replace("±", r"$\pm$").replace("×", r"$\times$").replace("–", "--")
    text = re.sub(r"(?<=& )( *)-(?=\d)", r"\1$-$", text)
    comments = "".join(f"% {' '.join(note.split())}\n" for note in notes)
    return f"% needs \\usepackage{{booktabs}}\n{text}\n{comments}"


def _tabulate(grid: Grid, style: str) -> str:
    from tabulate import tabulate

    body = [[cell.replace("|", r"\|") for cell in row] for row in grid.body] if style == "pipe" else grid.body
    align = ["left" if left else "right" for left in grid.left]
    return tabulate(body, grid.header, tablefmt=style, disable_numparse=True, colalign=align)


_STYLE = """
:root { color-scheme: light dark; }
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; padding: 0 1rem; max-width: max-content; }
h1 { font-size: 1.3rem; } h2 { font-size: 1.05rem; margin-top: 2rem; }
div { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; border-block: 2px solid; }
th, td { padding: .3rem .7rem; text-align: right; white-space: nowrap; }
th.left, td.left { text-align: left; }
thead th { border-bottom: 1px solid; } tbody tr:nth-child(even) { background: #8881; }
ul { padding-left: 1.2rem; max-width: 60rem; font-size: .9rem; overflow-wrap: anywhere; }
"""


def page(grids: Sequence[Grid], notes: Sequence[str]) -> str:
    """One HTML page that needs nothing else."""
    parts = ['<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">']
    parts += ['<meta name="viewport" content="width=device-width">\n<title>Comparison of networks</title>']
    parts += [f"<style>{_STYLE}</style>\n</head>\n<body>\n<h1>Comparison of networks</h1>"]
    for grid in grids:
        parts += [f"<h2>{html.escape(grid.title)}</h2>"] if grid.title else []
        parts += [f"<div><table>\n<thead>{_html_row('th', grid.header, grid.left)}</thead>\n<tbody>"]
        parts += [_html_row("td", row, grid.left) for row in grid.body]
        parts += ["</tbody>\n</table></div>"]
    if notes:
        parts += ["<h2>Notes</h2>\n<ul>", *(f"<li>{html.escape(note)}</li>" for note in notes), "</ul>"]
    return "\n".join([*parts, "</body>\n</html>\n"])


def _html_row(tag: str, cells: Sequence[str], left: Sequence[bool]) -> str:
    marks = (' class="left"' if is_left else "" for is_left in left)
    return "<tr>" + "".join(f"<{tag}{m}>{html.escape(c)}</{tag}>" for m, c in zip(marks, cells, strict=True)) + "</tr>"


def as_json(rows: Sequence[Mapping[str, Any]]) -> str:
    return json.dumps([_finite(dict(row)) for row in rows], indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def as_csv(rows: Sequence[Mapping[str, Any]], transpose: bool = False) -> str:
    """Full precision, one line a row; lists and mappings as JSON, unknown values empty."""
    table = [list(rows[0]) if rows else []] + [[_cell(value) for value in row.values()] for row in rows]
    file = io.StringIO()
    csv.writer(file, lineterminator="\n").writerows(zip(*table, strict=True) if transpose else table)
    return file.getvalue()


def _cell(value: Any) -> Any:
    value = _finite(value)
    return json.dumps(value, ensure_ascii=False) if isinstance(value, list | dict | bool) else value


def _finite(value: Any) -> Any:
    """JSON has no NaN and no infinity: null."""
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def terminal(grids: Sequence[Grid], notes: Sequence[str]) -> None:
    """Prints with rich; a table too wide for the window goes on in another one below."""
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console()
    for grid in (part for whole in grids for part in whole.split(console.width)):
        table = Table(box=box.SIMPLE_HEAD, title=Text(grid.title) if grid.title else None, title_justify="left")
        for name, left in zip(grid.header, grid.left, strict=True):
            table.add_column(Text(name), justify="left" if left else "right", no_wrap=not left, overflow="fold")
        for row in grid.body:
            table.add_row(*map(Text, row))
        console.print(table)
    for note in notes:
        console.print(Text(f"- {note}", style="dim"))
