"""Which settings two configurations differ in. No torch."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from cnnzoo.errors import UserError, nearest
from cnnzoo.results.load import SETTING, load_results, select
from cnnzoo.results.render import Grid
from cnnzoo.results.settings import Filter, as_key, as_text, is_absent
from cnnzoo.results.table import Table, listed


def diff(names: Sequence[str], table: Table) -> tuple[list[dict[Any, Any]], Grid, list[str]]:
    """Compare two rows of a table, or two runs.

    Each name is a row's label, filters that leave one row (`model=resnet optimizer.lr=0.1`), or a run's folder.

    Returns:
        Records with the keys `setting`, `a` and `b` (None is `null`, or a setting that is not there); the same as a
        table; notes.

    Raises:
        UserError: a name does not mean one row or one run.
    """
    one, other = (_resolve(name, table) for name in names)
    runs = pd.DataFrame({"a": one, "b": other}, dtype=object)
    notes = []
    for column, what in (("git_commit", "code versions"), ("device", "devices"), ("precision", "precisions")):
        if runs.loc[column].notna().all() and one[column] != other[column]:
            notes.append(f"different {what}: {one[column]}, {other[column]}")
    if runs.loc["seed"].isna().any():
        runs = runs.drop("seed")
    runs = runs[runs["a"].map(as_key) != runs["b"].map(as_key)]
    settings = runs[[key == "seed" or key.startswith(SETTING) for key in runs.index]]
    settings = settings.rename(lambda key: key.removeprefix(SETTING)).sort_index().rename_axis("setting")
    if settings.empty:
        notes.insert(0, f"{names[0]} and {names[1]}: no setting differs")
    body = [
        [key, *("–" if is_absent(v) else as_text(v) for v in pair)] for key, *pair in settings.itertuples(name=None)
    ]
    records = settings.where(~settings.map(is_absent), None).reset_index().to_dict("records")
    return records, Grid("", ["setting", *names], body, [True, True, True]), notes


def _resolve(name: str, table: Table) -> "pd.Series[Any]":
    """The run that `name` means, or the first one of that row, without its seed."""
    rows = table.rows[table.rows["label"] == name]
    if rows.empty and Path(name).is_dir():
        runs = load_results(name)
        runs = runs[runs["settings"] != ""]
        if len(runs) != 1:
            raise UserError(
                f"--diff {name}: expected the folder of one run, there are {len(runs)} with settings in it."
            )
        return runs.iloc[0]
    words = name.split()
    if rows.empty and words and all(map(Filter.FORM.fullmatch, words)):
        rows = table.rows.loc[select(table.runs, words)["row"].unique()]
    if rows.empty:
        known = table.rows["label"].tolist()
        raise UserError(
            f"--diff {name}: no row, no filter and no run's folder.{nearest(name, known)} There are {listed(known)}."
        )
    if len(rows) > 1:
        found = listed((rows["label"] + " on " + rows["dataset"]).tolist())
        raise UserError(f"--diff {name}: expected one row, there are {len(rows)}: {found}. Add filters.")
    return table.runs[table.runs["row"] == rows.index[0]].assign(seed=pd.NA).iloc[0]
