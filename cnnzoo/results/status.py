"""How far the runs below a folder are: done, running, failed, begun and not finished. No torch."""

from pathlib import Path
from typing import Any

import pandas as pd

from cnnzoo.results.load import SETTING
from cnnzoo.results.render import Grid, duration
from cnnzoo.results.run_folder import RunFileError, read_metrics
from cnnzoo.results.settings import as_text, is_absent

# by status of `load_results`, in the order in which they are listed
_NAMES = {
    "completed": "done",
    "running": "running",
    "failed": "failed",
    "unfinished": "unfinished",
    "pruned": "pruned",
    "damaged": "not readable",
}
_HEADER = ["folder", "state", "network", "dataset", "seed", "epoch", "left (about)"]


def status(runs: pd.DataFrame) -> tuple[list[dict[str, Any]], list[Grid], list[str]]:
    """Records of the runs that are not done, the same as a table, and notes: counts and problems."""
    open_runs = runs[runs["status"] != "completed"]
    rank = open_runs["status"].map(list(_NAMES).index).sort_values(kind="stable")
    open_runs = open_runs.loc[rank.index]
    records = [_record(run) for run in open_runs.to_dict("records")]
    body = [
        [
            record["folder"],
            record["state"],
            *("" if record[key] is None else str(record[key]) for key in ("model", "dataset", "seed")),
            "" if record["epochs"] is None else f"{record['epoch']}/{as_text(record['epochs'])}",
            duration(record["seconds_left"]) if record["state"] in ("running", "unfinished") else "",
        ]
        for record in records
    ]
    grids = [Grid("", _HEADER, body, [True, True, True, True, False, False, False])] if body else []
    counts = runs["status"].value_counts()
    parts = [f"{counts.get(s, 0)} {name}" for s, name in _NAMES.items() if s in counts or s == "completed"]
    notes = [f"{len(runs)} {'run' if len(runs) == 1 else 'runs'}: {', '.join(parts)}"]
    for record in records:
        if record["problem"]:
            again = f"; again with: {record['command']}" if record["command"] else ""
            notes.append(f"{record['folder']}: {record['problem'].splitlines()[0]}{again}")
    return records, grids, notes


def _record(run: dict[Any, Any]) -> dict[str, Any]:
    run = {key: None if is_absent(value) else value for key, value in run.items()}
    epoch, seconds = _epochs_done(run["folder"])
    epochs = run.get(f"{SETTING}trainer.max_epochs")
    epochs = epochs if isinstance(epochs, int | float) else None
    return {
        "state": _NAMES[run["status"]],
        "model": run["model"],
        "dataset": run["dataset"],
        "seed": run["seed"],
        "epoch": epoch,
        "epochs": epochs,
        # training time alone: validation comes on top
        "seconds_left": seconds * max(0, epochs - epoch) if epochs is not None and seconds is not None else None,
        "folder": run["folder"],
        "problem": run["problem"] or None,
        "command": run["command"],
    }


def _epochs_done(folder: str) -> tuple[int, float | None]:
    """Number of epochs in metrics.csv, and their mean seconds."""
    try:
        metrics = read_metrics(Path(folder))
        return int(metrics["epoch"].iloc[-1]) + 1, float(metrics["epoch_seconds"].mean())
    except (RunFileError, KeyError, IndexError, ValueError):
        return 0, None
