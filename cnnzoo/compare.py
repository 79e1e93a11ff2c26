"""From a folder of runs to a comparison table, at any time, also while they run.

    python -m cnnzoo.compare outputs
    python -m cnnzoo.compare outputs dataset=cifar10 model=resnet,densenet --columns model,test,params,optimizer.lr
    python -m cnnzoo.compare outputs --tests --out table.tex
    python -m cnnzoo.compare outputs --status

All seeds of one configuration make one row. Reads plain files only: no torch.
"""

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cnnzoo.errors import UserError
from cnnzoo.results import columns, render
from cnnzoo.results.configurations import Configurations
from cnnzoo.results.progress import progress
from cnnzoo.results.record import write_atomically
from cnnzoo.results.scan import Run
from cnnzoo.results.sweeps import unfinished_sweeps
from cnnzoo.results.table import compare, find


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command; returns its exit code, 1 with a message on stderr where the user can put something right."""
    try:
        return _run(_parser().parse_intermixed_args(argv))  # options may stand between folders and filters
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except BrokenPipeError:  # … | head
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="cnnzoo compare", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "where",
        nargs="+",
        metavar="FOLDER or KEY=VALUE[,VALUE…]",
        help="folders that runs lie under, and filters: model, dataset, seed, device or any key of the configuration",
    )
    parser.add_argument("--format", choices=render.FORMATS, help="default: by the suffix of --out, else a table")
    parser.add_argument("--out", type=Path, metavar="FILE", help="write there instead of on stdout")
    parser.add_argument(
        "--columns", metavar="A,B,…", help=f"{', '.join(columns.COLUMNS)}, or keys of the configuration"
    )
    parser.add_argument(
        "--sort", metavar="COLUMN", help="accuracy and speed from the highest, others from the smallest"
    )
    parser.add_argument("--reverse", action="store_true", help="turn the order round")
    parser.add_argument("--tests", action="store_true", help="is a difference more than chance? every pair is tested")
    parser.add_argument("--status", action="store_true", help="which runs are done, running, failed or unfinished")
    parser.add_argument("--transpose", action="store_true", help="networks side by side")
    return parser


def _run(arguments: argparse.Namespace) -> int:
    style = arguments.format or _format_of(arguments.out)
    if arguments.transpose and style == "json":
        raise UserError("--transpose: JSON is a list of rows; use another --format.")

    configurations = Configurations()
    folders, runs = find(arguments.where, configurations)
    if arguments.status:
        records, grids, notes = progress(runs)
        notes += [line for folder in folders for line in unfinished_sweeps(Path(folder))]
    else:
        records, grids, notes = _table(runs, configurations, arguments, ", ".join(folders))
    _output(records, grids, notes, style, arguments)
    return 0


def _table(
    runs: Sequence[Run], configurations: Configurations, arguments: argparse.Namespace, where: str
) -> tuple[list[dict[str, Any]], list[render.Grid], list[str]]:
    comparison = compare(runs, configurations)
    if not comparison.rows:
        raise UserError("\n  ".join([f"{where}: no completed run to compare.", *comparison.notes]))
    rows = columns.order(comparison.rows, arguments.sort, arguments.reverse, configurations)
    matrices: list[render.Grid] = []
    notes = comparison.notes
    if arguments.tests:
        from cnnzoo.results.significance import compare_pairs  # numpy and scipy: only where they are needed

        matrices, remarks = compare_pairs(rows)
        notes = remarks + notes
    names = [name.strip() for name in arguments.columns.split(",")] if arguments.columns else None
    shown = columns.choose(names, rows, configurations)
    grid = render.Grid(
        "",
        [column.title for column in shown],
        [[column.show(row.values) for column in shown] for row in rows],
        [column.is_text for column in shown],
    )
    fields = [field for column in shown for field in column.fields] if names else list(rows[0].values)
    records = [{field: row.values.get(field) for field in fields} for row in rows]
    notes = columns.said_once(rows, shown) + notes
    return records, [grid.transposed() if arguments.transpose else grid, *matrices], notes


def _output(
    records: Sequence[dict[str, Any]],
    grids: Sequence[render.Grid],
    notes: Sequence[str],
    style: str | None,
    arguments: argparse.Namespace,
) -> None:
    if style in ("json", "csv"):  # stdout is for programs, so what a reader must know goes to stderr
        text = render.as_json(records) if style == "json" else render.as_csv(records, arguments.transpose)
        for note in notes:
            print(note, file=sys.stderr)
    elif style is None and sys.stdout.isatty():
        return render.terminal(grids, notes)
    else:
        text = {"tex": render.latex, "html": render.page}.get(style or "md", render.markdown)(grids, notes)
    if arguments.out is None:
        print(text, end="")
        return
    try:
        write_atomically(arguments.out, text)
    except OSError as error:
        raise UserError(f"--out {arguments.out}: cannot be written: {error.strerror}.") from error


def _format_of(out: Path | None) -> str | None:
    """The format that a file's suffix asks for; None without a file.

    Raises:
        UserError: the suffix is not a format's.
    """
    if out is None:
        return None
    suffix = {"markdown": "md", "htm": "html"}.get(out.suffix[1:], out.suffix[1:])
    if suffix not in render.FORMATS:
        raise UserError(f"--out {out}: cannot tell the format from the name; add --format {'|'.join(render.FORMATS)}.")
    return suffix


if __name__ == "__main__":
    sys.exit(main())
