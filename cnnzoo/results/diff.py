"""Which settings two configurations differ in. No torch."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cnnzoo.errors import UserError, nearest
from cnnzoo.results.columns import as_dicts
from cnnzoo.results.load import SETTING, load_results, select
from cnnzoo.results.render import Grid
from cnnzoo.results.settings import Filter, as_key, as_text, differences, is_absent
from cnnzoo.results.table import Table, listed

NOT_SET = "–"


def diff(names: Sequence[str], table: Table) -> tuple[list[dict[str, Any]], Grid, list[str]]:
    """Compare two rows of a table, or two runs.

    Each name is a row's label, filters that leave one row (`model=resnet optimizer.lr=0.1`), or a run's folder.

    Returns:
        Records with the keys `setting`, `a` and `b` (None is `null`, or a setting that is not there); the same as a
        table; notes.

    Raises:
        UserError: a name does not mean one row or one run.
    """
    one, other = (_resolve(name, table) for name in names)
    a, b = _settings(one), _settings(other)
    if "seed" not in a or "seed" not in b:  # a row, which is all seeds
        a.pop("seed", None), b.pop("seed", None)
    keys = differences({k: as_key(v) for k, v in a.items()}, {k: as_key(v) for k, v in b.items()})
    records = [{"setting": key, "a": a.get(key), "b": b.get(key)} for key in keys]
    body = [[key, *(as_text(found[key]) if key in found else NOT_SET for found in (a, b))] for key in keys]
    grid = Grid("", ["setting", *names], body, [True, True, True])
    notes = [] if keys else [f"{names[0]} and {names[1]}: no setting differs"]
    for column, what in (("git_commit", "code versions"), ("device", "devices"), ("precision", "precisions")):
        if (x := one[column]) != (y := other[column]) and not (is_absent(x) or is_absent(y)):
            notes.append(f"different {what}: {x}, {y}")
    return records, grid, notes


def _resolve(name: str, table: Table) -> dict[str, Any]:
    """The run that `name` means, or the first one of that row, without its seed."""
    firsts = table.runs.drop_duplicates("row").set_index("row")
    rows = table.rows[table.rows["label"] == name]
    if rows.empty and Path(name).is_dir():
        runs = load_results(name)
        runs = runs[runs["settings"] != ""]
        if len(runs) != 1:
            raise UserError(
                f"--diff {name}: expected the folder of one run, there are {len(runs)} with settings in it."
            )
        return as_dicts(runs)[0]
    words = name.split()
    if rows.empty and words and all(Filter.FORM.fullmatch(word) for word in words):
        rows = table.rows.loc[select(table.runs, [Filter(word) for word in words])["row"].unique()]
    if rows.empty:
        known = table.rows["label"].tolist()
        raise UserError(
            f"--diff {name}: no row, no filter and no run's folder.{nearest(name, known)} There are {listed(known)}."
        )
    if len(rows) > 1:
        found = listed([f"{row.label} on {row.dataset}" for row in rows.itertuples()])
        raise UserError(f"--diff {name}: expected one row, there are {len(rows)}: {found}. Add filters.")
    return as_dicts(firsts.loc[rows.index].drop(columns="seed"))[0]


def _settings(run: Mapping[str, Any]) -> dict[str, Any]:
    """A run's settings, and its seed if it has one."""
    found = {key.removeprefix(SETTING): v for key, v in run.items() if key.startswith(SETTING) or key == "seed"}
    return {key: value for key, value in found.items() if not is_absent(value)}
