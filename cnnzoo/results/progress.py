"""How far the runs below a folder are: done, running, failed, begun and not finished."""

from collections import Counter
from collections.abc import Sequence
from statistics import fmean
from typing import Any

from cnnzoo.results.columns import duration
from cnnzoo.results.files import Unreadable, read_metrics
from cnnzoo.results.render import Grid
from cnnzoo.results.scan import Run, read_config

_NAMES = {"completed": "done", "running": "running", "failed": "failed", "unfinished": "unfinished"}
_NAMES |= {"pruned": "pruned", "damaged": "not readable"}


def progress(runs: Sequence[Run]) -> tuple[list[dict[str, Any]], list[Grid], list[str]]:
    """Records of the runs that are not done, the same as a table, and notes: counts and problems."""
    order = list(_NAMES)
    open_runs = sorted((run for run in runs if run.state != "completed"), key=lambda run: order.index(run.state))
    records = [_record(run) for run in open_runs]
    body = [
        [
            record["folder"],
            record["state"],
            *(("" if record[key] is None else str(record[key])) for key in ("model", "dataset", "seed")),
            "" if record["epochs"] is None else f"{record['epoch']}/{record['epochs']}",
            duration(record["seconds_left"]) if record["state"] == "running" else "",
        ]
        for record in records
    ]
    header = ["folder", "state", "network", "dataset", "seed", "epoch", "left (about)"]
    grids = [Grid("", header, body, [True, True, True, True, False, False, False])] if body else []
    counts = Counter(run.state for run in runs)
    parts = [f"{counts[state]} {name}" for state, name in _NAMES.items() if counts[state] or state == "completed"]
    notes = [f"{len(runs)} {'run' if len(runs) == 1 else 'runs'}: {', '.join(parts)}"]
    for run in open_runs:
        if run.problem:
            again = f"; again with: {run.command}" if run.command else ""
            notes.append(f"{run.folder}: {run.problem.splitlines()[0]}{again}")
    return records, grids, notes


def _record(run: Run) -> dict[str, Any]:
    config = read_config(run.folder) if run.state != "damaged" else None
    config = config or {}
    epoch, seconds = _epochs_done(run.folder)
    epochs = (config.get("trainer") or {}).get("max_epochs")
    return {
        "state": _NAMES[run.state],
        "model": run.model or config.get("name"),
        "dataset": run.dataset or (config.get("dataset") or {}).get("name"),
        "seed": config.get("seed") if run.seed is None else run.seed,
        "epoch": epoch,
        "epochs": epochs,
        # training time alone: validation comes on top
        "seconds_left": seconds * max(0, epochs - epoch) if epochs is not None and seconds is not None else None,
        "folder": run.folder,
        "problem": run.problem or None,
        "command": run.command or None,
    }


def _epochs_done(folder: str) -> tuple[int, float | None]:
    """Number of epochs in metrics.csv, and their mean seconds."""
    try:
        rows = read_metrics(folder)
        return (rows[-1]["epoch"] + 1, fmean(row["epoch_seconds"] for row in rows)) if rows else (0, None)
    except (Unreadable, KeyError, TypeError):
        return 0, None
