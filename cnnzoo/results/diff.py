"""Which settings two configurations differ in. No torch."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from cnnzoo.errors import UserError, nearest
from cnnzoo.results.load import SETTING, load_results, select
from cnnzoo.results.render import Grid
from cnnzoo.results.settings import ABSENT, Filter, as_key, as_text, is_absent
from cnnzoo.results.table import Table, listed


def diff(names: Sequence[str], table: Table) -> tuple[list[dict[Any, Any]], Grid, list[str]]:
    """Compare two rows of a table, or two runs.

    Each name is a row's label, filters that leave one row (`model=resnet optimizer.lr=0.1`), or a run's folder.

    Returns records with the keys `setting`, `a` and `b` (None is `null`, or a setting that is not there), the same as
    a table, and notes; raises UserError if a name does not mean one row or one run.
    """
    one, other = (_resolve(name, table).iloc[0] for name in names)
    runs = pd.DataFrame({"a": one, "b": other}, dtype=object)
    notes = []
    for column, what in (("git_commit", "code versions"), ("device", "devices"), ("precision", "precisions")):
        if runs.loc[column].notna().all() and one[column] != other[column]:
            notes.append(f"different {what}: {one[column]}, {other[column]}")
    if runs.loc["seed"].isna().any():
        runs = runs.drop("seed")
    settings = runs[[key == "seed" or key.startswith(SETTING) for key in runs.index]]
    settings = settings.rename(lambda key: key.removeprefix(SETTING)).sort_index().rename_axis("setting")
    settings = settings[settings["a"].map(as_key) != settings["b"].map(as_key)]
    if settings.empty:
        notes.insert(0, f"{names[0]} and {names[1]}: no setting differs")
    texts = settings.map(lambda value: "–" if is_absent(value) else as_text(value)).reset_index()
    records = settings.where(~settings.map(is_absent), None).reset_index().to_dict("records")
    return records, Grid("", ["setting", *names], texts.to_numpy().tolist(), [True, True, True]), notes


def _resolve(name: str, table: Table) -> pd.DataFrame:
    """The run that `name` means, or the first one of that row, without its seed."""
    rows = table.rows[table.rows["label"] == name]
    if rows.empty and Path(name).is_dir():
        runs = load_results(name)
        runs = runs[runs["settings"] != ""]
        if len(runs) != 1:
            count = f"there are {len(runs)} with settings in it"
            raise UserError(f"--diff {name}: expected the folder of one run, {count}.")
        return runs
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
    runs = table.runs[table.runs["row"].eq(rows.index[0])]
    return runs.assign(seed=ABSENT)  # a row is all seeds
