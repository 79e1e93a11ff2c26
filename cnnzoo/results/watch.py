"""How far the runs of sweeps are, redrawn in the terminal until Ctrl-C. No torch."""

import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

import pandas as pd
from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from cnnzoo.errors import UserError
from cnnzoo.results.columns import text
from cnnzoo.results.render import percent
from cnnzoo.results.status import epochs_done, status, time_left
from cnnzoo.results.table import GROUP, name_configurations
from cnnzoo.text import clean

_SECONDS = 2.0  # between two looks
_STYLES = {"running": "green", "failed": "red", "not readable": "red"}


def watch(look: Callable[[], tuple[pd.DataFrame, Sequence[str]]]) -> None:
    """Show the runs and the lines on sweeps that `look` returns, again and again, until Ctrl-C.

    Raises:
        UserError: stdout is no terminal, or what `look` raises.
    """
    console = Console()
    if not console.is_terminal:
        raise UserError(
            "--watch redraws a terminal, and the output goes elsewhere; --status alone lists the runs once."
        )
    with suppress(KeyboardInterrupt), Live(console=console, auto_refresh=False) as live:
        while True:
            began = time.monotonic()
            live.update(view(*look(), console), refresh=True)
            time.sleep(max(_SECONDS, 5 * (time.monotonic() - began)))  # thousands of runs are looked at less often


def view(runs: pd.DataFrame, sweeps: Sequence[str], console: Console) -> Group:
    """Counts, the best validation accuracy on each data set, and as many runs as the console has lines for.

    Runs stand below the name of their configuration, those that are running first, done ones last.

    Args:
        runs: those of `load_results`.
        sweeps: a line on each sweep that is not finished.
    """
    rows, _, (counts, *_) = status(runs)
    done = runs[runs["status"] == "completed"].sort_values("val_accuracy", ascending=False, kind="stable")
    columns = ["folder", "dataset", "seed", "val_accuracy"]
    rows += [{str(k): v for k, v in row.items()} | {"state": "done"} for row in done[columns].to_dict("records")]
    names = name_configurations(runs)["label"].to_dict()
    keys = {folder: tuple(key) for folder, *key in runs[["folder", *GROUP]].itertuples(index=False)}
    several = len({row["dataset"] for row in rows if row["dataset"]}) > 1
    best: dict[str, dict[str, Any]] = {}
    members: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        row["name"] = names[keys[row["folder"]]] if row["dataset"] else row["folder"]  # all that is known
        where = f" on {row['dataset']}" if several and row["dataset"] else ""
        members.setdefault(row["name"] + where, []).append(row)
        former = best.get(row["dataset"], {"val_accuracy": -1})
        if percent(row["val_accuracy"]) and row["val_accuracy"] > former["val_accuracy"]:
            best[row["dataset"]] = row
    lines = [counts]
    for dataset, row in best.items():
        accuracy = f"{percent(row['val_accuracy'])} % validation accuracy"
        lines.append(f"best on {dataset} so far: {accuracy}, {row['name']}, seed {row['seed']}")
    lines += sweeps
    notes = [Text(clean(line)) for line in lines]
    room = console.height - 1 - sum(len(console.render_lines(note)) for note in notes)
    shown = Group(*notes)
    for name, own in members.items():
        if room < 3:
            break
        shown.renderables.append(Text(clean(name), "bold", no_wrap=True, overflow="ellipsis"))
        shown.renderables.append(_table(own[: room - 1]))
        room -= 1 + len(own)
    return shown


def _table(rows: Sequence[dict[str, Any]]) -> Table:
    """The runs of one configuration; widths are fixed, so that all tables align."""
    table = Table(box=None, padding=(0, 0, 0, 2), expand=True, show_header=False)
    for width in (8, None, 9, 7, 11):
        table.add_column(width=width, ratio=None if width else 1, justify="right" if width else "left", no_wrap=True)
    for row in rows:
        goes_on = row["state"] in ("running", "unfinished") and row["epochs"]
        running = goes_on and row["state"] == "running"
        bar = ProgressBar(row["epochs"], min(row["epoch"], row["epochs"])) if running else row["state"]
        epochs, left = (epochs_done(row), time_left(row)) if goes_on else ("", "")
        accuracy = f"{shown} %" if (shown := percent(row["val_accuracy"])) else ""
        seed = f"seed {row['seed']}" if text(row["seed"]) else ""
        table.add_row(seed, bar, epochs, accuracy, left, style=_STYLES.get(row["state"], ""))
    return table
