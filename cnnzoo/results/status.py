"""How far the runs below a folder are: done, running, failed, begun and not finished. No torch."""

from typing import Any

import pandas as pd

from cnnzoo.results.columns import text
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
    counts = runs["status"].value_counts().reindex(list(_NAMES), fill_value=0)
    parts = [f"{count} {_NAMES[status]}" for status, count in counts.items() if count or status == "completed"]
    notes = [f"{len(runs)} {'run' if len(runs) == 1 else 'runs'}: {', '.join(parts)}"]
    open_runs = runs[runs["status"] != "completed"]
    open_runs = open_runs.sort_values("status", key=lambda found: found.map(list(_NAMES).index), kind="stable")
    records, body = [], []
    for run in open_runs.to_dict("records"):
        record = _record({key: None if is_absent(value) else value for key, value in run.items()})
        records.append(record)
        epochs = "" if record["epochs"] is None else f"{record['epoch']}/{as_text(record['epochs'])}"
        left = duration(record["seconds_left"]) if run["status"] in ("running", "unfinished") else ""
        body.append([*(text(record[key]) for key in ("folder", "state", "model", "dataset", "seed")), epochs, left])
        if record["problem"]:
            again = f"; again with: {record['command']}" if record["command"] else ""
            notes.append(f"{record['folder']}: {record['problem'].splitlines()[0]}{again}")
    grids = [Grid("", _HEADER, body, [True, True, True, True, False, False, False])] if body else []
    return records, grids, notes


def _record(run: dict[Any, Any]) -> dict[str, Any]:
    epoch, seconds = 0, None
    try:
        metrics = read_metrics(run["folder"])
        epoch, seconds = int(metrics["epoch"].iloc[-1]) + 1, float(metrics["epoch_seconds"].mean())
    except (RunFileError, KeyError, IndexError, ValueError):
        pass  # no epoch done
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
        "seconds_left": None if epochs is None or seconds is None else seconds * max(0, epochs - epoch),
        "folder": run["folder"],
        "problem": run["problem"] or None,
        "command": run["command"],
    }
