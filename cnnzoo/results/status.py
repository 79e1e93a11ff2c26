"""How far the runs below a folder are: done, running, failed, begun and not finished. No torch."""

from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import pandas as pd

from cnnzoo.results.columns import text
from cnnzoo.results.load import SETTING
from cnnzoo.results.render import Grid, duration, percent
from cnnzoo.results.run_folder import RunFileError, read_metrics
from cnnzoo.results.settings import as_text, is_absent

_STATES = ["done", "running", "failed", "unfinished", "pruned", "not readable"]  # in the order of the list
_OF_RUN = ["state", "model", "dataset", "seed"]
_RECORD = [*_OF_RUN, "epoch", "epochs", "val_accuracy", "seconds_left", "folder", "problem", "command"]
_HEADER = ["folder", "state", "network", "dataset", "seed", "epoch", "best val %", "left (about)"]


def status(runs: pd.DataFrame) -> tuple[list[dict[str, Any]], list[Grid], list[str]]:
    """Records of the runs that are not done, the same as a table, and notes: counts and problems.

    `val_accuracy` of a record is the best one so far, 0..1.
    """
    state = runs["status"].replace({"completed": "done", "damaged": "not readable"})
    counts = state.value_counts()
    parts = [f"{counts.get(name, 0)} {name}" for name in _STATES if name in counts or name == "done"]
    notes = [f"{len(runs)} {'run' if len(runs) == 1 else 'runs'}: {', '.join(parts)}"]
    open_runs = runs.assign(state=state)[state != "done"]
    open_runs = open_runs.sort_values("state", key=lambda found: found.map(_STATES.index), kind="stable")
    records, body = [], []
    for run in open_runs.to_dict("records"):
        record = _record({str(key): None if is_absent(value) else value for key, value in run.items()})
        records.append(record)
        names = [text(record[key]) for key in ("folder", *_OF_RUN)]
        body.append([*names, epochs_done(record), percent(record["val_accuracy"]), time_left(record)])
        if record["problem"]:
            again = f"; again with: {record['command']}" if record["command"] else ""
            notes.append(f"{record['folder']}: {record['problem'].splitlines()[0]}{again}")
    grids = [Grid("", _HEADER, body, [True] * 4 + [False] * 4)] if body else []
    return records, grids, notes


def epochs_done(record: Mapping[str, Any]) -> str:
    """`12/180`."""
    return "" if record["epochs"] is None else f"{record['epoch']}/{as_text(record['epochs'])}"


def time_left(record: Mapping[str, Any]) -> str:
    """About how long a run that may go on still takes."""
    return duration(record["seconds_left"]) if record["state"] in ("running", "unfinished") else ""


def _record(run: dict[str, Any]) -> dict[str, Any]:
    epoch, epochs = 0, run.get(f"{SETTING}trainer.max_epochs")
    if not isinstance(epochs, int | float):
        epochs = None
    left = best = None
    with suppress(RunFileError, KeyError, IndexError, ValueError, OverflowError):  # no epoch done, or odd numbers
        metrics = read_metrics(run["folder"])
        if "val_accuracy" in metrics and (known := metrics["val_accuracy"][lambda v: v.between(0, 1)]).size:
            best = float(known.max())
        epoch, seconds = int(metrics["epoch"].iloc[-1]) + 1, float(metrics["epoch_seconds"].mean())
        if epochs is not None:  # training time alone: validation comes on top
            left = seconds * max(0, epochs - epoch)
    run |= {
        "epoch": epoch,
        "epochs": epochs,
        "val_accuracy": best,
        "seconds_left": left,
        "problem": run["problem"] or None,
    }
    return {key: run[key] for key in _RECORD}
