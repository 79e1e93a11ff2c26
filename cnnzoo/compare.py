"""From a folder of runs to a comparison table, at any time, also while they run.

    python -m cnnzoo.compare outputs
    python -m cnnzoo.compare outputs dataset=cifar10 model=resnet,densenet --columns model,test,params,optimizer.lr
    python -m cnnzoo.compare outputs --tests --out table.tex
    python -m cnnzoo.compare outputs --pivot dataset
    python -m cnnzoo.compare outputs --diff 'model=resnet optimizer.lr=0.1' 'model=resnet optimizer.lr=0.01'
    python -m cnnzoo.compare outputs --status

All seeds of one configuration make one row. Reads plain files only: no torch.
"""

import argparse
import os
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cnnzoo.errors import UserError
from cnnzoo.io import write_atomically
from cnnzoo.results import columns, render
from cnnzoo.results.diff import diff
from cnnzoo.results.load import find_runs
from cnnzoo.results.pairwise import compare_pairs
from cnnzoo.results.pivot import pivot
from cnnzoo.results.status import status
from cnnzoo.results.table import INTERNAL, Table, build_table
from cnnzoo.sweep.progress import unfinished_sweeps

Output = tuple[list[dict[Any, Any]], list[render.Grid], list[str]]  # records for programs, tables for people, notes


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit code, 1 with a message on stderr if the user can put something right."""
    try:
        _run(_parser().parse_intermixed_args(argv))  # options may stand between folders and filters
        return 0
    except UserError as error:
        print("error:", "\n".join(map(render.clean, str(error).splitlines())), file=sys.stderr)
    except BrokenPipeError:  # … | head
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="cnnzoo compare", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    filters = "filters: model, dataset, seed, status, device or any key of the configuration"
    names = f"{', '.join(columns.COLUMNS)}, or keys of the configuration; {columns.ALL}: every one of these"
    differ = "settings that differ between two rows (label or filters) or runs"
    add = parser.add_argument
    add("where", nargs="*", metavar="FOLDER or KEY=VALUE[,VALUE…]", help=f"folders that runs lie under, and {filters}")
    add("--format", choices=render.FORMATS, help="default: by the suffix of --out, else a table")
    add("--out", type=Path, metavar="FILE", help="write there instead of on stdout")
    add("--columns", metavar="A,B,…", help=names)
    add("--sort", metavar="COLUMN", help="accuracy and speed from the highest, others from the smallest")
    add("--reverse", action="store_true", help="turn the order round")
    add("--transpose", action="store_true", help="networks side by side")
    add("--tests", action="store_true", help="is a difference more than chance? every pair is tested")
    add = parser.add_mutually_exclusive_group().add_argument
    add("--pivot", choices=["dataset"], help="networks × data sets")
    add("--diff", nargs=2, metavar=("A", "B"), help=differ)
    add("--status", action="store_true", help="which runs are done, running, failed or unfinished, and what is left")
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
    on_terminal = style is None and sys.stdout.isatty()
    folders, runs = find_runs(arguments.where or [name for name in arguments.diff or () if Path(name).is_dir()])
    if arguments.status:
        records, grids, notes = status(runs)
        notes += [line for folder in folders for line in unfinished_sweeps(Path(folder))]
    else:
        table = build_table(runs)
        if table.rows.empty and not arguments.diff:
            raise UserError("\n  ".join([f"{', '.join(folders)}: no completed run to compare.", *table.notes]))
        records, grids, notes = _table(table, arguments, shutil.get_terminal_size().columns if on_terminal else None)
    if arguments.transpose and grids:
        grids[0] = grids[0].transposed()
    if on_terminal:
        return render.terminal(grids, notes)
    if style in ("json", "csv"):  # stdout is for programs, so what a reader must know goes to stderr
        print(*map(render.clean, notes), sep="\n", end="\n" if notes else "", file=sys.stderr)
        text = render.as_json(records) if style == "json" else render.as_csv(records, arguments.transpose)
    else:
        text = {"tex": render.latex, "html": render.page}.get(style, render.markdown)(grids, notes)
    if out is None:
        return print(text, end="")
    try:
        write_atomically(out, text)
    except OSError as error:
        raise UserError(f"--out {out}: cannot be written: {error.strerror}.") from error


def _table(table: Table, arguments: argparse.Namespace, width: int | None) -> Output:
    """The table that was asked for. `width` is that of the terminal, if there is one."""
    if arguments.diff:
        records, grid, notes = diff(arguments.diff, table)
        return records, [grid], notes
    rows = columns.order(table.rows, table.runs, arguments.sort, arguments.reverse)
    if arguments.pivot:
        records, grid, notes = pivot(table, rows)
        return records, [grid], notes + table.notes
    matrices: list[render.Grid] = []
    notes = table.notes
    if arguments.tests:
        tested, matrices, remarks = compare_pairs(rows, table.runs)
        rows, notes = rows.join(tested), remarks + notes
    names = [name.strip() for name in arguments.columns.split(",")] if arguments.columns else None
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


if __name__ == "__main__":
    sys.exit(main())
