"""From a folder of runs to a comparison table, at any time, also while they run.

    python -m cnnzoo.compare outputs
    python -m cnnzoo.compare outputs dataset=cifar10 model=resnet,densenet --columns model,test,params,optimizer.lr
    python -m cnnzoo.compare outputs --tests --out table.tex
    python -m cnnzoo.compare outputs --out report.html
    python -m cnnzoo.compare outputs --pivot dataset
    python -m cnnzoo.compare outputs --diff 'model=resnet optimizer.lr=0.1' 'model=resnet optimizer.lr=0.01'
    python -m cnnzoo.compare outputs --status --watch

All seeds of one configuration make one row. Reads plain files only: no torch. HTML is one page with everything: the
table to sort and filter, tests, learning curves, accuracy against cost, classes and mistakes, settings, commands.
"""

import sys

if __name__ == "__main__":  # as `cnnzoo compare`, so that Ctrl-C may come while the following is imported
    from cnnzoo import cli

    sys.argv.insert(1, "compare")
    cli.main()

import argparse
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cnnzoo.arguments import Parser, one_of
from cnnzoo.errors import UserError, exit_code
from cnnzoo.io import write_atomically
from cnnzoo.results import columns, render
from cnnzoo.results.calibration import calibrate
from cnnzoo.results.diff import diff
from cnnzoo.results.load import find_runs
from cnnzoo.results.pairwise import compare_pairs
from cnnzoo.results.pivot import pivot
from cnnzoo.results.status import status
from cnnzoo.results.table import INTERNAL, Table, build_table
from cnnzoo.sweep.progress import unfinished_sweeps
from cnnzoo.text import clean

if TYPE_CHECKING:
    import pandas as pd

Output = tuple[list[dict[Any, Any]], list[render.Grid], list[str]]  # records for programs, tables for people, notes


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit code, 1 with a message on stderr if the user can put something right."""
    return exit_code(lambda: _run(parser().parse(argv)))  # options may stand between the others


def parser() -> Parser:
    parser = Parser("cnnzoo compare", __doc__)
    filters = "filters: model, dataset, seed, status, device or any key of the configuration"
    names = f"{', '.join(columns.COLUMNS)}, or keys of the configuration; {columns.ALL}: every one of these"
    differ = "settings that differ between two rows (label or filters) or runs"
    add = parser.add_argument
    add("where", nargs="*", metavar="FOLDER or KEY=VALUE[,VALUE…]", help=f"folders that runs lie under, and {filters}")
    add("--format", **one_of(render.FORMATS), help="default: by the suffix of --out, else a table")
    add("--out", type=Path, metavar="FILE", help="write there instead of on stdout")
    add("--columns", metavar="A,B,…", help=names)
    add("--sort", metavar="COLUMN", help="accuracy and speed from the highest, others from the smallest")
    add("--reverse", action="store_true", help="turn the order round")
    add("--transpose", action="store_true", help="networks side by side")
    add("--tests", action="store_true", help="is a difference more than chance? every pair is tested")
    add = parser.add_mutually_exclusive_group().add_argument
    add("--pivot", **one_of(["dataset"]), help="networks × data sets")
    add("--diff", nargs=2, metavar=("A", "B"), help=differ)
    add("--status", action="store_true", help="which runs are done, running, failed or unfinished, and what is left")
    parser.add_argument("--watch", action="store_true", help="with --status: redraw it until Ctrl-C")
    return parser


def _run(arguments: argparse.Namespace) -> None:
    style, out = arguments.format, arguments.out
    if style is None and out is not None:
        style = {"markdown": "md", "htm": "html"}.get(out.suffix[1:], out.suffix[1:])
        if style not in render.FORMATS:
            formats = "|".join(render.FORMATS)
            raise UserError(f"--out {out}: cannot tell the format from the name; add --format {formats}.")
    if arguments.transpose and style == "json":
        raise UserError("--transpose: JSON is a list of rows; use another --format.")
    for option in ("pivot", "diff", "status"):
        if getattr(arguments, option) and (arguments.tests or arguments.columns):
            raise UserError(f"--{option}: a table of its own; leave out --{'tests' if arguments.tests else 'columns'}.")
    if arguments.watch:
        return _watch(arguments, style)
    on_terminal = style is None and sys.stdout.isatty()
    folders, runs = find_runs(arguments.where or [name for name in arguments.diff or () if Path(name).is_dir()])
    if arguments.status:
        records, grids, notes = status(runs)
        notes += [line for folder in folders for line in unfinished_sweeps(Path(folder))]
    else:
        table = build_table(runs)
        if table.rows.empty and not arguments.diff:
            raise UserError("\n  ".join([f"{', '.join(folders)}: no completed run to compare.", *table.notes]))
        if style == "html" and not (arguments.diff or arguments.pivot or arguments.transpose):
            return _write(_report(table, arguments), out)
        width = shutil.get_terminal_size().columns if on_terminal else render.LATEX_WIDTH if style == "tex" else None
        records, grids, notes = _table(table, arguments, width)
    if arguments.transpose and grids:
        grids[0] = grids[0].transposed()
    if on_terminal:
        return render.terminal(grids, notes)
    if style in ("json", "csv"):  # stdout is for programs, so what a reader must know goes to stderr
        print(*map(clean, notes), sep="\n", end="\n" if notes else "", file=sys.stderr)
        text = render.as_json(records) if style == "json" else render.as_csv(records, arguments.transpose)
    else:
        text = {"tex": render.latex, "html": render.page}.get(style, render.markdown)(grids, notes)
    _write(text, out)


def _watch(arguments: argparse.Namespace, style: str | None) -> None:
    from cnnzoo.results.watch import watch

    if not arguments.status or style is not None or arguments.transpose:
        raise UserError("--watch: goes with --status, folders and filters alone.")

    def look() -> "tuple[pd.DataFrame, list[str]]":
        folders, runs = find_runs(arguments.where)
        return runs, [line for folder in folders for line in unfinished_sweeps(Path(folder))]

    watch(look)


def _write(text: str, out: Path | None) -> None:
    if out is None:
        return print(text, end="")
    try:
        write_atomically(out, text)
    except OSError as error:
        raise UserError(f"--out {out}: cannot be written: {error.strerror}.") from error
    print(f"written: {clean(str(out))}", file=sys.stderr)


def _report(table: Table, arguments: argparse.Namespace) -> str:
    """The page of all rows; `--columns` are those that it shows first."""
    from cnnzoo.report import report  # matplotlib's and plotly's imports take a second

    names = _names(arguments)
    rows, _ = calibrate(table.rows, table.runs)  # the page says itself which runs have no predictions
    rows = columns.order(rows, table.runs, arguments.sort, arguments.reverse)
    matrices, notes = list[render.Grid](), list[str]()
    try:
        tested, matrices, remarks = compare_pairs(rows, table.runs)
        rows, notes = rows.join(tested), remarks + notes
    except UserError as error:  # too many rows, or one alone
        notes.append(f"no pairs were tested: {str(error).removeprefix('--tests: ')}")
    shown = columns.choose(names, rows, table.runs)
    return report(table, rows, shown, matrices, columns.agreements(rows, shown) + table.notes + notes)


def _names(arguments: argparse.Namespace) -> list[str] | None:
    return [name.strip() for name in arguments.columns.split(",")] if arguments.columns else None


def _table(table: Table, arguments: argparse.Namespace, width: int | None) -> Output:
    """The table that was asked for. `width`: characters that there is room for, if there is a limit."""
    if arguments.diff:
        records, grid, notes = diff(arguments.diff, table)
        return records, [grid], notes
    names, rows, remarks = _names(arguments), table.rows, list[str]()
    if {columns.ALL, *columns.FROM_PREDICTIONS} & {*(names or []), arguments.sort}:
        rows, remarks = calibrate(rows, table.runs)
    rows = columns.order(rows, table.runs, arguments.sort, arguments.reverse)
    if arguments.pivot:
        records, grid, notes = pivot(table, rows)
        return records, [grid], notes + table.notes
    matrices: list[render.Grid] = []
    notes = remarks + table.notes
    if arguments.tests:
        tested, matrices, remarks = compare_pairs(rows, table.runs)
        rows, notes = rows.join(tested), remarks + notes
    shown = columns.choose(names, rows, table.runs)
    fields = dict.fromkeys(field for column in shown for field in column.fields)
    values = rows[list(fields)] if names else rows.drop(columns=INTERNAL)
    records = values.astype(object).where(values.notna(), None).to_dict("records")
    grid = columns.as_grid(shown, rows)
    if names is None and width is not None and not arguments.transpose:
        shown, hidden = columns.fit(shown, grid, width)
        grid = columns.as_grid(shown, rows)
        if hidden:
            keys = ", ".join(column.key for column in hidden)
            notes = [f"columns that do not fit here (--columns {columns.ALL} shows them): {keys}", *notes]
    return records, [grid, *matrices], columns.agreements(rows, shown) + notes
