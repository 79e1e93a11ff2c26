"""Delete what failed, debugging and broken-off runs have left, after a question.

    python -m cnnzoo.clean outputs
    python -m cnnzoo.clean outputs --dry-run
    python -m cnnzoo.clean outputs model=resnet status=failed,unfinished --yes

These are failed runs, those of debug=default (in the folder .debug), and unfinished ones without a checkpoint. An
unfinished run that has one would resume from it, and goes only if status=unfinished is typed. Completed and running
ones stay, and so does what cannot be read.
"""

import os
import shutil
import sys
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path

import pandas as pd

from cnnzoo.arguments import Parser
from cnnzoo.errors import UserError, exit_code
from cnnzoo.results.load import find_runs
from cnnzoo.results.render import magnitude
from cnnzoo.results.run_folder import locked, read_result
from cnnzoo.text import clean

_DEBUG = ".debug"  # where conf/debug/ has its runs
_DELETABLE = ("failed", "unfinished", "pruned")


def main(argv: Sequence[str] | None = None) -> int:
    return exit_code(lambda: _run(argv))


def parser() -> Parser:
    parser = Parser("cnnzoo clean", __doc__)
    words = "folders that runs lie under, and filters: model, dataset, seed, status or any key of the configuration"
    parser.add_argument("where", nargs="+", metavar="FOLDER or KEY=VALUE[,VALUE…]", help=words)
    parser.add_argument("--dry-run", action="store_true", help="list them, and delete nothing")
    parser.add_argument("--yes", action="store_true", help="do not ask")
    return parser


def _run(argv: Sequence[str] | None) -> int:
    arguments = parser().parse(argv)
    debug = [text for where in arguments.where if os.path.isdir(text := os.path.join(where, _DEBUG))]  # noqa: PTH112, PTH118
    folders, runs = find_runs([*arguments.where, *debug])
    roots = [Path(folder).resolve() for folder in folders if folder not in debug]
    is_debug = runs["folder"].map(lambda folder: _is_below(Path(folder), debug)).astype(bool)
    found = runs[is_debug & (runs["status"] != "running") | _left_over(runs, arguments.where)]
    found = found[found["folder"].map(lambda folder: _is_below(Path(folder), roots)).astype(bool)]
    if found.empty:
        print("Nothing to delete: no run has failed, was for debugging, or broke off before its first checkpoint.")
        return 0
    for run in found.to_dict("records"):
        reason = str(run["problem"]).partition("\n")[0]
        checkpoint = " (with a checkpoint)" if run["status"] != "completed" and _has_checkpoint(run["folder"]) else ""
        print(clean(f"{run['status']:11} {run['folder']}{checkpoint}{reason and f': {reason}'}"))
    size = sum(_size(Path(folder)) for folder in found["folder"])
    count = f"{len(found)} {'folder' if len(found) == 1 else 'folders'} ({magnitude(size, 'B')})"
    if arguments.dry_run:
        print(f"{count} would be deleted.")
        return 0
    if not arguments.yes:
        if not sys.stdin.isatty():
            raise UserError(f"{count} would be deleted, and nobody can be asked here: add --yes, or --dry-run.")
        if input(f"Delete {count}? [y/N] ").strip().lower() not in ("y", "yes"):
            print("Nothing was deleted.")
            return 0
    debugging = set(runs["folder"][is_debug])
    deleted = sum(delete(Path(folder), roots, folder in debugging) for folder in found["folder"])
    print(f"Deleted: {deleted} of {len(found)}.")
    return 0


def _left_over(runs: pd.DataFrame, where: Sequence[str]) -> "pd.Series[bool]":
    """Which runs may go, but for debugging ones."""
    known = runs["status"].isin(_DELETABLE) & ((runs["settings"] != "") | (runs["status"] == "failed"))
    if not any(text.startswith("status=") for text in where):
        known &= (runs["status"] == "failed") | (
            (runs["status"] == "unfinished") & ~runs["folder"].map(_has_checkpoint)
        )
    return known & ~runs["folder"].map(_holds_results).astype(bool)


def _holds_results(folder: str) -> bool:
    """Whether a run's folder has results but its own: of other runs, or the last ones of a run that is repeated."""
    return any(Path(folder).glob("*/**/result.json"))


def _has_checkpoint(folder: str) -> bool:
    return any(Path(folder, "checkpoints").glob("*.ckpt"))


def _is_below(folder: Path, roots: Iterable[str | Path]) -> bool:
    """Whether a folder lies below one of `roots`, links followed, and is none of them."""
    return any(Path(root).resolve() in folder.resolve().parents for root in roots)


def delete(folder: Path, roots: Sequence[Path], completed: bool = False) -> bool:
    """Delete a run's folder, and those above it up to `roots` that are empty then.

    Returns False if the run has gone on since it was listed: a process is at it, or it is completed, where that is not
    to be deleted.

    Raises:
        UserError: it cannot be deleted.
    """
    try:
        with locked(folder):
            if not completed and (read_result(folder) or {}).get("status") == "completed":
                return False
            shutil.rmtree(folder)
    except OSError as error:
        raise UserError(f"{error.filename or folder} cannot be deleted: {error.strerror}.") from error
    except UserError:  # a process is at it
        return False
    for parent in folder.resolve().parents:
        if parent in roots:
            break
        with suppress(OSError):
            parent.rmdir()
    return True


def _size(folder: Path) -> int:
    return sum(path.lstat().st_size for path in folder.rglob("*"))


if __name__ == "__main__":
    sys.exit(main())
