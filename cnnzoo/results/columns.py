"""The columns of the comparison as a reader sees them: title, and how a row's figures are written."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cnnzoo.errors import UserError, nearest
from cnnzoo.results.configurations import ABSENT, Configurations, as_text
from cnnzoo.results.table import Row, setting

Values = Mapping[str, Any]


@dataclass(frozen=True)
class Column:
    """`fields` are the keys of a row's values that it shows; the first one sorts."""

    key: str
    title: str
    fields: tuple[str, ...]
    show: Callable[[Values], str]
    best_is_highest: bool = False
    is_text: bool = False


def percent(share: float | None) -> str:
    """0.91063 → `91.06`."""
    return "" if share is None else f"{100 * share:.2f}"


def duration(seconds: float | None) -> str:
    """`8.3 s`, `4 min 12 s`, `1 h 23 min`, `2 d 5 h`."""
    if seconds is None:
        return ""
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    minutes, s = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {s:02d} s"
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{hours} h {minutes:02d} min" if hours < 24 else f"{hours // 24} d {hours % 24} h"


def count(value: float | None) -> str:
    """272378 → `272,378`."""
    return "" if value is None else f"{value:,.0f}"


def magnitude(value: float | None, unit: str = "") -> str:
    """40813184 → `40.8 M`."""
    if value is None:
        return ""
    for size, prefix in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= 0.9995 * size:
            return f"{value / size:.3g} {prefix}{unit}"
    return f"{value:.0f} {unit}".strip()


def _mean_std(name: str) -> Callable[[Values], str]:
    def show(row: Values) -> str:
        mean, std = row[f"{name}_mean"], row[f"{name}_std"]
        return percent(mean) if std is None else f"{percent(mean)} ± {percent(std)}"

    return show


def _interval(row: Values) -> str:
    low, high = row["test_accuracy_ci95_low"], row["test_accuracy_ci95_high"]
    return "" if low is None else f"{percent(low)} to {percent(high)}"


def _extreme(which: str) -> Callable[[Values], str]:
    def show(row: Values) -> str:
        accuracy = row[f"{which}_test_accuracy"]
        return "" if accuracy is None else f"{percent(accuracy)} ({row[f'{which}_seed']})"

    return show


def _difference(row: Values) -> str:
    difference = row["test_accuracy_difference"]
    return "" if difference is None else f"{100 * difference:+.2f}"


def _as(name: str, show: Callable[[Any], str]) -> Callable[[Values], str]:
    return lambda row: show(row.get(name))


def _text(value: Any) -> str:
    return "" if value is None else str(value)


def _one(key: str, title: str, name: str, show: Callable[[Any], str], **kwargs: bool) -> Column:
    return Column(key, title, (name,), _as(name, show), **kwargs)


_VAL, _TEST = ("val_accuracy_mean", "val_accuracy_std"), ("test_accuracy_mean", "test_accuracy_std")
COLUMNS = {
    column.key: column
    for column in (
        Column("model", "network", ("label", "model", "differs"), _as("label", _text), is_text=True),
        _one("dataset", "dataset", "dataset", _text, is_text=True),
        _one("n", "n", "n", _text),
        Column("val", "val %", _VAL, _mean_std("val_accuracy"), best_is_highest=True),
        _one("published_val", "published val %", "published_val_accuracy", percent, best_is_highest=True),
        Column("test", "test %", _TEST, _mean_std("test_accuracy"), best_is_highest=True),
        Column("ci", "95% CI", ("test_accuracy_ci95_low", "test_accuracy_ci95_high"), _interval, best_is_highest=True),
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
_ON_REQUEST = ("memory",)
_SAID_ONCE = ("device", "precision", "epochs")  # in a line below the table where all rows agree


def choose(names: Sequence[str] | None, rows: Sequence[Row], configurations: Configurations) -> list[Column]:
    """The named columns, else those that have something to say.

    A name is a column's key, a key of the JSON output, or a key of the configuration such as `optimizer.lr`.

    Raises:
        UserError: there is no such column.
    """
    if names is None:
        agreed = [key for key in _SAID_ONCE if len({row.values[key] for row in rows}) == 1]
        return [
            column
            for column in COLUMNS.values()
            if column.key not in (*agreed, *_ON_REQUEST) and any(column.show(row.values) for row in rows)
        ]
    return [_find(name, rows, configurations) for name in names]


def _find(name: str, rows: Sequence[Row], configurations: Configurations) -> Column:
    if name in COLUMNS:
        if COLUMNS[name].fields[0] not in rows[0].values:
            raise UserError(f"{name}: this column needs --tests.")
        return COLUMNS[name]
    if name in rows[0].values and name not in ("seeds", "differs", "tests"):
        return _one(name, name, name, lambda v: f"{v:.6g}" if isinstance(v, float) else _text(v))
    values = [setting(row.runs[0], name, configurations) for row in rows]
    if all(value is ABSENT for value in values):
        known = [*COLUMNS, *configurations.keys()]
        raise UserError(
            f"{name}: no such column.{nearest(name, known)} There are {', '.join(COLUMNS)},"
            " and every key of the configuration, such as optimizer.lr."
        )
    for row, value in zip(rows, values, strict=True):
        row.values[name] = None if value is ABSENT else value
    return _one(name, name, name, lambda value: "" if value is None else as_text(value), is_text=True)


def order(rows: Sequence[Row], by: str | None, reverse: bool, configurations: Configurations) -> list[Row]:
    """Rows sorted by a column: accuracy and speed from the highest, all else from the smallest; unknown ones last.

    The default is by dataset, then by test accuracy.
    """
    column = _find(by or "test", rows, configurations) if rows else COLUMNS["test"]
    field, descending = column.fields[0], column.best_is_highest != reverse
    known = [row for row in rows if row.values.get(field) is not None]
    unknown = [row for row in rows if row.values.get(field) is None]
    known.sort(key=lambda row: str(row.values["label"]))
    numeric = all(isinstance(row.values[field], int | float) for row in known)
    known.sort(key=lambda row: row.values[field] if numeric else str(row.values[field]), reverse=descending)
    result = known + unknown
    return result if by else sorted(result, key=lambda row: str(row.values["dataset"]))


def said_once(rows: Sequence[Row], shown: Sequence[Column]) -> list[str]:
    """A note with the device, precision and epochs that all rows share and no column shows."""
    keys = [key for key in _SAID_ONCE if key not in {column.key for column in shown}]
    parts = []
    for key in keys:
        found = {row.values[key] for row in rows}
        if len(found) == 1 and (value := found.pop()) is not None:
            parts.append(f"{value} epochs" if key == "epochs" else str(value))
    return [f"all rows: {', '.join(parts)}"] if parts else []
