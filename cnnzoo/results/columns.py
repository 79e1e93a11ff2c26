"""The columns of the comparison: titles, how values are written, which ones are shown, and the order of rows."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from cnnzoo.errors import UserError, nearest
from cnnzoo.results.load import setting, setting_keys
from cnnzoo.results.render import Grid, count, duration, magnitude, percent
from cnnzoo.results.settings import as_text, is_absent

Values = Mapping[str, Any]


@dataclass(frozen=True)
class Column:
    """A column that is shown.

    fields: the columns of a `Table`'s rows that it is made of; the rows are sorted by the first one.
    """

    key: str
    title: str
    fields: tuple[str, ...]
    show: Callable[[Values], str]
    best_is_highest: bool = False
    is_text: bool = False


def mean_std(mean: Any, std: Any) -> str:
    """`91.06 ± 0.12`, in percent."""
    return f"{percent(mean)} ± {percent(std)}" if percent(std) else percent(mean)


def _mean_std(name: str) -> Callable[[Values], str]:
    return lambda row: mean_std(row[f"{name}_mean"], row[f"{name}_std"])


def _interval(row: Values) -> str:
    low, high = percent(row["test_accuracy_ci95_low"]), percent(row["test_accuracy_ci95_high"])
    return f"{low} to {high}" if low else ""


def _extreme(which: str) -> Callable[[Values], str]:
    def show(row: Values) -> str:
        accuracy = percent(row[f"{which}_test_accuracy"])
        return f"{accuracy} ({_text(row[f'{which}_seed'])})" if accuracy else ""

    return show


def _difference(row: Values) -> str:
    difference = row["test_accuracy_difference"]
    return "" if is_absent(difference) else f"{100 * difference:+.2f}"


def _text(value: Any) -> str:
    return "" if value is None or is_absent(value) else str(value)


def _one(key: str, title: str, name: str, show: Callable[[Any], str], **kwargs: bool) -> Column:
    return Column(key, title, (name,), lambda row: show(row[name]), **kwargs)


_VAL, _TEST = ("val_accuracy_mean", "val_accuracy_std"), ("test_accuracy_mean", "test_accuracy_std")
_CI = ("test_accuracy_ci95_low", "test_accuracy_ci95_high")
COLUMNS = {
    column.key: column
    for column in (
        Column("model", "network", ("label", "model", "differs"), lambda row: _text(row["label"]), is_text=True),
        _one("dataset", "dataset", "dataset", _text, is_text=True),
        _one("n", "n", "n", _text),
        Column("val", "val %", _VAL, _mean_std("val_accuracy"), best_is_highest=True),
        _one("published_val", "published val %", "published_val_accuracy", percent, best_is_highest=True),
        Column("test", "test %", _TEST, _mean_std("test_accuracy"), best_is_highest=True),
        Column("ci", "95% CI", _CI, _interval, best_is_highest=True),
        _one("published", "published test %", "published_test_accuracy", percent, best_is_highest=True),
        Column("difference", "difference", ("test_accuracy_difference",), _difference, best_is_highest=True),
        _one("letters_t", "t-test", "letters_t", _text, is_text=True),
        _one("letters_mcnemar", "McNemar", "letters_mcnemar", _text, is_text=True),
        Column("best", "best (seed)", ("best_test_accuracy", "best_seed"), _extreme("best"), best_is_highest=True),
        Column("worst", "worst (seed)", ("worst_test_accuracy", "worst_seed"), _extreme("worst"), best_is_highest=True),
        _one("params", "parameters", "params", count),
        _one("macs", "MACs", "macs", magnitude),
        _one("epochs", "epochs", "epochs", _text),
        _one("time", "training time", "train_seconds_mean", duration),
        _one("speed", "images/s", "images_per_second_mean", count, best_is_highest=True),
        _one("memory", "peak memory", "peak_memory_bytes_max", lambda value: magnitude(value, "B")),
        _one("device", "device", "device", _text, is_text=True),
        _one("precision", "precision", "precision", _text, is_text=True),
    )
}
ALL = "all"  # the name of all columns together
_ON_REQUEST = ("memory",)
_ONCE = ("dataset", "device", "precision", "epochs")  # in a line below the table if all rows agree
# in a window that is too narrow for all
_FIRST = ("model", "dataset", "n", "test", "ci", "letters_t", "letters_mcnemar", "published", "difference", "params")


def as_dicts(rows: pd.DataFrame) -> list[dict[str, Any]]:
    """The rows one by one, with Python's own numbers."""
    return [{str(key): value for key, value in row.items()} for row in rows.to_dict("records")]


def choose(names: Sequence[str] | None, rows: pd.DataFrame, runs: pd.DataFrame) -> list[Column]:
    """The named columns, else those that are not empty. Settings that are named become columns of `rows`.

    A name is a column's key, a key of the JSON output, or a key of the configuration such as `optimizer.lr`.

    Raises:
        UserError: there is no such column.
    """
    available = {key: column for key, column in COLUMNS.items() if column.fields[0] in rows}
    if names == [ALL]:
        return list(available.values())
    if names is None:
        agreed = [key for key in _ONCE if rows[key].nunique(dropna=False) == 1]
        shown = [column for key, column in available.items() if key not in (*agreed, *_ON_REQUEST)]
        values = as_dicts(rows)
        return [column for column in shown if any(map(column.show, values))]
    return [_find(name, rows, runs) for name in names]


def _find(name: str, rows: pd.DataFrame, runs: pd.DataFrame) -> Column:
    if name in COLUMNS:
        if COLUMNS[name].fields[0] not in rows:
            raise UserError(f"{name}: this column needs --tests.")
        return COLUMNS[name]
    if name in rows and name not in ("seeds", "differs", "tests", "folders", "settings"):
        return _one(name, name, name, lambda v: f"{v:.6g}" if isinstance(v, float) and v == v else _text(v))
    values = setting(runs.drop_duplicates("row").set_index("row").loc[rows.index], name)
    if all(map(is_absent, values)):
        known = [*COLUMNS, *(key for key in rows if isinstance(key, str)), *setting_keys(runs)]
        raise UserError(
            f"{name}: no such column.{nearest(name, known)} There are {', '.join(COLUMNS)},"
            " and every key of the configuration, such as optimizer.lr."
        )
    rows[name] = pd.Series(values, index=rows.index, dtype=object)
    return _one(name, name, name, lambda value: "" if is_absent(value) else as_text(value), is_text=True)


def fit(columns: Sequence[Column], grid: Grid, width: int) -> tuple[list[Column], list[Column]]:
    """The columns of `grid` that fit `width` characters side by side, the most important first, and the others."""
    keys = [column.key for column in columns]
    left, kept = width, set[str]()
    for key in sorted(keys, key=lambda key: _FIRST.index(key) if key in _FIRST else len(_FIRST)):
        needed = grid.widths[keys.index(key)]
        if needed <= left or not kept:
            kept.add(key)
            left -= needed
    return [c for c in columns if c.key in kept], [c for c in columns if c.key not in kept]


def order(rows: pd.DataFrame, runs: pd.DataFrame, by: str | None = None, reverse: bool = False) -> pd.DataFrame:
    """Rows sorted by a column: accuracy and speed from the highest, all else from the smallest; unknown ones last.

    The default is by data set, then by test accuracy. The index stays with the rows.
    """
    rows = rows.copy()
    if rows.empty:
        return rows
    column = _find(by or "test", rows, runs)
    field, descending = column.fields[0], column.best_is_highest != reverse
    known = rows[rows[field].notna()].sort_values("label", kind="stable")
    numeric = all(isinstance(value, int | float) for value in known[field].tolist())
    key = None if numeric else lambda values: values.map(str)
    known = known.sort_values(field, ascending=not descending, kind="stable", key=key)
    result = rows.loc[[*known.index, *rows.index.difference(known.index, sort=False)]]
    return result if by else result.sort_values("dataset", kind="stable")


def agreements(rows: pd.DataFrame, shown: Sequence[Column]) -> list[str]:
    """A note with the data set, device, precision and epochs that all rows share and no column shows."""
    parts = []
    for key in _ONCE:
        if key not in {column.key for column in shown} and rows[key].nunique(dropna=False) == 1:
            value = _text(rows[key].iloc[0])
            epochs = "epoch" if value == "1" else "epochs"
            parts += [f"{value} {epochs}" if key == "epochs" else value] if value else []
    return [f"all rows: {', '.join(parts)}"] if parts else []
