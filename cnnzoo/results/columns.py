"""The columns of the comparison: titles, how values are written, which ones are shown, and the order of rows."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from cnnzoo.errors import UserError, nearest
from cnnzoo.results.load import setting, settings_of
from cnnzoo.results.render import Grid, count, duration, magnitude, percent
from cnnzoo.results.settings import as_text, is_absent


@dataclass(frozen=True)
class Column:
    """A column that is shown.

    fields: the columns of a `Table`'s rows that `write` makes a text of; rows are sorted by the first one, and have an
        empty cell where that is missing.
    """

    key: str
    title: str
    fields: tuple[str, ...]
    write: Callable[..., str]
    best_is_highest: bool = False
    is_text: bool = False

    def show(self, row: Mapping[Any, Any]) -> str:
        values = [row[field] for field in self.fields]
        return "" if is_absent(values[0]) else self.write(*values)


def text(value: Any) -> str:
    return "" if value is None or is_absent(value) else str(value)


def mean_std(mean: Any, std: Any) -> str:
    """`91.06 ± 0.12`, in percent."""
    return f"{percent(mean)} ± {percent(std)}" if percent(std) else percent(mean)


def _of_seed(accuracy: Any, seed: Any) -> str:
    return f"{percent(accuracy)} ({text(seed)})"


_VAL, _TEST = ("val_accuracy_mean", "val_accuracy_std"), ("test_accuracy_mean", "test_accuracy_std")
_TTA = ("test_accuracy_tta_mean", "test_accuracy_tta_std")
_CORRUPTION = ("corruption_accuracy_mean", "corruption_accuracy_std")
_CI = ("test_accuracy_ci95_low", "test_accuracy_ci95_high")
_COLUMNS = (
    Column("model", "network", ("label", "model", "differs"), lambda label, *_: label, is_text=True),
    Column("dataset", "dataset", ("dataset",), text, is_text=True),
    Column("n", "n", ("n",), text),
    Column("val", "val %", _VAL, mean_std, best_is_highest=True),
    Column("published_val", "published val %", ("published_val_accuracy",), percent, best_is_highest=True),
    Column("test", "test %", _TEST, mean_std, best_is_highest=True),
    Column("test_tta", "augmented test %", _TTA, mean_std, best_is_highest=True),
    Column("corruption", "corruption %", _CORRUPTION, mean_std, best_is_highest=True),
    Column("ci", "95% CI", _CI, lambda low, high: f"{percent(low)} to {percent(high)}", best_is_highest=True),
    Column("published", "published test %", ("published_test_accuracy",), percent, best_is_highest=True),
    Column(
        "difference", "difference", ("test_accuracy_difference",), lambda d: f"{100 * d:+.2f}", best_is_highest=True
    ),
    Column("letters_t", "t-test", ("letters_t",), text, is_text=True),
    Column("letters_mcnemar", "McNemar", ("letters_mcnemar",), text, is_text=True),
    Column("best", "best (seed)", ("best_test_accuracy", "best_seed"), _of_seed, best_is_highest=True),
    Column("worst", "worst (seed)", ("worst_test_accuracy", "worst_seed"), _of_seed, best_is_highest=True),
    Column("ece", "ECE %", ("ece",), percent),
    Column("nll", "NLL", ("nll",), lambda value: f"{value:.3f}"),
    Column("brier", "Brier", ("brier",), lambda value: f"{value:.3f}"),
    Column("params", "parameters", ("params",), count),
    Column("macs", "MACs", ("macs",), magnitude),
    Column("epochs", "epochs", ("epochs",), text),
    Column("time", "training time", ("train_seconds_mean",), duration),
    Column("speed", "images/s", ("images_per_second_mean",), count, best_is_highest=True),
    Column("memory", "peak memory", ("peak_memory_bytes_max",), lambda value: magnitude(value, "B")),
    Column("device", "device", ("device",), text, is_text=True),
    Column("precision", "precision", ("precision",), text, is_text=True),
)
COLUMNS = {column.key: column for column in _COLUMNS}
FROM_PREDICTIONS = ("ece", "nll", "brier")
ALL = "all"  # the name of all columns together
_ON_REQUEST = ("best", "worst", "memory", *FROM_PREDICTIONS)
_ONCE = ("dataset", "device", "precision", "epochs")  # in a line below the table if all rows agree
# in a window that is too narrow for all
_FIRST = ("model", "dataset", "n", "test", "ci", "letters_t", "letters_mcnemar", "published", "difference", "params")


def choose(names: Sequence[str] | None, rows: pd.DataFrame, runs: pd.DataFrame) -> list[Column]:
    """The named columns, else those that are not empty. Settings that are named become columns of `rows`.

    A name is a column's key, a key of the JSON output, or a key of the configuration such as `optimizer.lr`; raises
    UserError if it is none of them.
    """
    available = [column for column in _COLUMNS if column.fields[0] in rows]
    if names == [ALL]:
        return available
    if names is not None:
        return [_find(name, rows, runs) for name in names]
    left_out = (*_ON_REQUEST, *_agreed(rows))
    records = rows.to_dict("records")
    return [column for column in available if column.key not in left_out and any(map(column.show, records))]


def _find(name: str, rows: pd.DataFrame, runs: pd.DataFrame) -> Column:
    if name in COLUMNS:
        if COLUMNS[name].fields[0] not in rows:
            raise UserError(f"{name}: this column needs --tests.")
        return COLUMNS[name]
    if name in rows and name not in ("seeds", "differs", "tests", "folders", "settings"):
        return Column(name, name, (name,), lambda value: f"{value:.6g}" if isinstance(value, float) else text(value))
    values = setting(runs.drop_duplicates("row").set_index("row").loc[rows.index], name)
    if all(map(is_absent, values)):
        raise UserError(
            f"{name}: no such column.{nearest(name, [*COLUMNS, *rows, *settings_of(runs)])} There are"
            f" {', '.join(COLUMNS)}, and every key of the configuration, such as optimizer.lr."
        )
    rows[name] = pd.Series(values, index=rows.index, dtype=object)
    return Column(name, name, (name,), as_text, is_text=True)


def as_grid(columns: Sequence[Column], rows: pd.DataFrame) -> Grid:
    body = [[column.show(row) for column in columns] for row in rows.to_dict("records")]
    return Grid("", [column.title for column in columns], body, [column.is_text for column in columns])


def fit(columns: Sequence[Column], grid: Grid, width: int) -> tuple[list[Column], list[Column]]:
    """The columns of `grid` that fit `width` characters side by side, the most important first, and the others."""
    widths = {column.key: needed for column, needed in zip(columns, grid.widths, strict=True)}
    left, kept = width, set[str]()
    for key in dict.fromkeys((*_FIRST, *widths)):
        if key in widths and (widths[key] <= left or not kept):
            kept.add(key)
            left -= widths[key]
    return [c for c in columns if c.key in kept], [c for c in columns if c.key not in kept]


def order(rows: pd.DataFrame, runs: pd.DataFrame, by: str | None = None, reverse: bool = False) -> pd.DataFrame:
    """Rows sorted by a column: accuracy and speed from the highest, all else from the smallest; unknown ones last.

    The default is by data set, then by test accuracy. The index stays with the rows.
    """
    rows = rows.copy()
    column = _find(by or "test", rows, runs)
    keys, ascending = [column.fields[0], "label"], [column.best_is_highest == reverse, True]
    if by is None:
        keys, ascending = ["dataset", *keys], [True, *ascending]
    return rows.sort_values(keys, ascending=ascending, key=_sortable)


def _sortable(values: "pd.Series[Any]") -> "pd.Series[Any]":
    values = values.convert_dtypes()
    return values.map(str, na_action="ignore") if values.dtype == object else values


def _agreed(rows: pd.DataFrame) -> list[str]:
    return [key for key in _ONCE if rows[key].nunique(dropna=False) == 1]


def agreements(rows: pd.DataFrame, shown: Sequence[Column]) -> list[str]:
    """A note with the data set, device, precision and epochs that all rows share and no column shows."""
    hidden = set(_agreed(rows)) - {column.key for column in shown}
    values = {key: text(rows[key].iloc[0]) for key in _ONCE if key in hidden}
    if values.get("epochs"):
        values["epochs"] += " epoch" if values["epochs"] == "1" else " epochs"
    return [f"all rows: {', '.join(filter(None, values.values()))}"] if any(values.values()) else []
