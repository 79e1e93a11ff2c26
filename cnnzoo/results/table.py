"""From runs to rows: all seeds of one configuration make one row, with notes on what the rows do not show. No torch."""

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from cnnzoo.results.load import SETTING, setting_keys
from cnnzoo.results.settings import as_key, as_text, class_name, differing, is_absent, short_names
from cnnzoo.results.stats import t_half_width

GROUP = ["dataset", "model", "settings"]  # runs that share these differ by their seed alone
LISTED = 20  # folders named in a note before it says how many more there are
INTERNAL = ["settings", "folders", "published_epochs"]  # columns of a table's rows that are not printed


@dataclass
class Table:
    """The comparison of completed runs.

    rows: one row a configuration, in the order in which their folders were found. The columns are the keys of the JSON
        output (accuracies 0..1, std the sample standard deviation, `differs` a dict of the settings that tell the row
        from others of its model, `seeds` a list), and `folders`, the list of its runs' folders, by seed; `settings` as
        in `load_results`; `published_epochs`. What is not known is missing (NaN, NA).
    runs: the runs that were counted, by row and seed, with a column `row`, which is the row's index in `rows`.
    notes: sentences on what a reader of the rows must know.
    """

    rows: pd.DataFrame
    runs: pd.DataFrame
    notes: list[str]


def build_table(runs: pd.DataFrame) -> Table:
    """Group the completed runs of `load_results` by everything but the seed; all others end up in the notes."""
    completed = runs[runs["status"] == "completed"]
    row = completed.groupby(GROUP, sort=False).ngroup()
    # The latest of each seed: copies would make the spread too small.
    latest = completed.assign(row=row).sort_values("finished", kind="stable", na_position="first")
    copied = latest.duplicated(["row", "seed"], keep="last")
    counted = latest[~copied].sort_values(["row", "seed"], kind="stable")
    rows = _summarize(counted, name_configurations(completed))
    notes = [note for find in _NOTES for note in find(rows, counted)]
    if copied.any():
        folders = latest.loc[copied, "folder"].tolist()
        notes.append(f"the same configuration and seed more than once, not counted: {listed(folders)}")
    return Table(rows, counted, notes + status_notes(runs))


def name_configurations(runs: pd.DataFrame) -> pd.DataFrame:
    """Name every configuration: the network and what tells it from its others on the same data set.

    Returns:
        Columns `label`, such as `resnet (lr=0.1)`, and `differs`, a dict such as `{"optimizer.lr": 0.1}`; the index is
        (dataset, model, settings).
    """
    firsts = runs.drop_duplicates(GROUP)
    named: dict[Any, tuple[str, dict[str, Any]]] = {}
    for (dataset, model), family in firsts.groupby(["dataset", "model"], sort=False):
        known = family[family["settings"] != ""]
        keys = differing(settings_of(known)) if len(known) > 1 else []
        for digest, found in zip(known["settings"], label(str(model), settings_of(known)[keys]), strict=True):
            named[dataset, model, digest] = found
        if len(known) < len(family):
            named[dataset, model, ""] = f"{model} (configuration unknown)", {}
    index = pd.MultiIndex.from_tuples(list(named), names=GROUP)
    return pd.DataFrame(list(named.values()), index=index, columns=["label", "differs"], dtype=object)


def settings_of(runs: pd.DataFrame) -> pd.DataFrame:
    """The settings without the seed, one column a dotted key."""
    keys = setting_keys(runs)
    return runs[[f"{SETTING}{key}" for key in keys]].set_axis(keys, axis="columns")


def label(model: str, settings: pd.DataFrame) -> Iterator[tuple[str, dict[str, Any]]]:
    """Name each row of `settings` by all of its columns; also yields the row as a dict, with classes by their names."""
    columns = {}
    texts = {}
    for key in settings.columns.tolist():
        values = settings[key].tolist()
        columns[key] = _if_distinct([class_name(key, value) for value in values], values)
        texts[key] = _if_distinct(
            [as_text(value, digits=4) for value in columns[key]], list(map(as_text, columns[key]))
        )
    names = short_names(columns)
    for i in range(len(settings)):
        differs = {key: values[i] for key, values in columns.items() if not is_absent(values[i])}
        words = ", ".join(f"{names[key]}={texts[key][i]}" for key in differs)
        yield f"{model} ({words})" if words else model, differs


def _if_distinct(short: list[Any], whole: list[Any]) -> list[Any]:
    return short if len(set(map(as_key, short))) == len(set(map(as_key, whole))) else whole


def _summarize(runs: pd.DataFrame, names: pd.DataFrame) -> pd.DataFrame:
    groups = runs.groupby("row")
    known = [*GROUP, "params", "macs", *(key for key in runs.columns.tolist() if key.startswith("published_"))]
    first = groups[known].first()
    mean = groups[
        ["val_accuracy", "test_accuracy", "val_loss", "test_loss", "train_seconds", "images_per_second"]
    ].mean()
    std = groups[["val_accuracy", "test_accuracy"]].std()
    half_width = _half_width(std["test_accuracy"], groups["test_accuracy"].count())
    ranked = runs.dropna(subset="test_accuracy").sort_values("test_accuracy", kind="stable")
    ranked = ranked[ranked.duplicated("row", keep=False)]  # of one run there is no best and no worst
    best = ranked.drop_duplicates("row", keep="last").set_index("row")
    worst = ranked.drop_duplicates("row", keep="first").set_index("row")
    named = names.reindex(pd.MultiIndex.from_frame(first[GROUP])).set_index(first.index)
    return pd.DataFrame(
        {
            "model": first["model"],
            "label": named["label"],
            "dataset": first["dataset"],
            "differs": named["differs"],
            "n": groups.size(),
            "seeds": [[None if is_absent(seed) else seed for seed in seeds] for seeds in _lists(groups, "seed")],
            "val_accuracy_mean": mean["val_accuracy"],
            "val_accuracy_std": std["val_accuracy"],
            "test_accuracy_mean": mean["test_accuracy"],
            "test_accuracy_std": std["test_accuracy"],
            "test_accuracy_ci95_low": (mean["test_accuracy"] - half_width).clip(lower=0),
            "test_accuracy_ci95_high": (mean["test_accuracy"] + half_width).clip(upper=1),
            "best_seed": best["seed"],
            "best_test_accuracy": best["test_accuracy"],
            "worst_seed": worst["seed"],
            "worst_test_accuracy": worst["test_accuracy"],
            "published_source": first["published_source"],
            "published_val_accuracy": first["published_val_accuracy"],
            "published_test_accuracy": first["published_test_accuracy"],
            "test_accuracy_difference": mean["test_accuracy"] - first["published_test_accuracy"],
            "val_loss_mean": mean["val_loss"],
            "test_loss_mean": mean["test_loss"],
            "params": first["params"],
            "macs": first["macs"],
            "published_params": first["published_params"],
            "epochs": _joined(groups["epochs"]),
            "train_seconds_mean": mean["train_seconds"],
            "images_per_second_mean": mean["images_per_second"],
            "peak_memory_bytes_max": groups["peak_memory_bytes"].max(),
            "device": _joined(groups["device"]),
            "precision": _joined(groups["precision"]),
            "settings": first["settings"],
            "folders": _lists(groups, "folder"),
            "published_epochs": first["published_epochs"],
        },
        index=first.index,
    )


def _lists(groups: Any, key: str) -> list[list[Any]]:
    return [values.tolist() for _, values in groups[key]]


def _half_width(std: "pd.Series[float]", n: "pd.Series[int]") -> "pd.Series[float]":
    """Of the 95 % confidence interval of the mean, from three values on."""
    half = t_half_width(std, n) if (n > 2).any() else std  # scipy: only if there is something to estimate
    return pd.Series(half, index=n.index).where(n > 2)


def _joined(groups: Any) -> "pd.Series[Any]":
    """Each group's value; `a / b` where there are several."""
    found: pd.Series[Any] = groups.first().astype(object)
    for row, values in _several(groups):
        found[row] = " / ".join(sorted(set(map(str, values.dropna()))))
    return found


def _several(groups: Any, dropna: bool = True) -> Iterator[tuple[int, "pd.Series[Any]"]]:
    """The groups that have more than one value."""
    mixed = groups.nunique(dropna=dropna) > 1
    if mixed.any():
        yield from ((row, values) for row, values in groups if mixed[row])


# Notes.


def describe(run: Any) -> str:
    """A run's folder, and its problem; `run` has the columns of `load_results` as attributes."""
    return f"{run.folder} ({run.problem.splitlines()[0]})" if run.problem else str(run.folder)


def listed(items: Sequence[str]) -> str:
    """The first LISTED items, and how many more there are."""
    more = f"; and {len(items) - LISTED} more" if len(items) > LISTED else ""
    return "; ".join(items[:LISTED]) + more


def status_notes(runs: pd.DataFrame, left_out: str = "not in the table") -> list[str]:
    """A note on the runs of each status but `completed`."""
    meanings = {
        "failed": f"failed, {left_out}",
        "running": f"still running, {left_out}",
        "unfinished": f"begun and not finished, {left_out}; the same command goes on with them",
        "pruned": f"stopped early by a search, {left_out}; the same settings by themselves go on to the end",
        "damaged": f"not readable, {left_out}",
    }
    notes = []
    for status, meaning in meanings.items():
        found = [describe(run) for run in runs[runs["status"] == status][["folder", "problem"]].itertuples()]
        if found:
            more = " (--status lists all)" if len(found) > LISTED else ""
            notes.append(f"{len(found)} {'run' if len(found) == 1 else 'runs'} {meaning}: {listed(found)}{more}")
    return notes


def _mixed_within_row(rows: pd.DataFrame, runs: pd.DataFrame) -> Iterator[str]:
    kinds = {
        "device": "devices",
        "precision": "precisions",
        "epochs": "numbers of epochs",
        "git_commit": "code versions",
        "params": "parameter counts",
        "macs": "MACs",
        "published_source": "sources of published figures",
        "published_test_accuracy": "published accuracies",
    }
    labels = rows["label"].to_dict()
    for key, plural in kinds.items():
        for row, values in _several(runs.groupby("row")[key], dropna=False):
            seen = Counter(_abbreviated(value) for value in values)
            parts = ", ".join(f"{value} (n={count})" for value, count in seen.most_common())
            yield f"{labels[row]}: mixed {plural}: {parts}"


def _abbreviated(value: Any) -> str:
    """A value in a sentence; ten digits of a git commit do."""
    return "unknown" if is_absent(value) else re.sub(r"\b([0-9a-f]{10})[0-9a-f]{30}\b", r"\1", str(value))


def _mixed_versions(rows: pd.DataFrame, runs: pd.DataFrame) -> Iterator[str]:
    labels = rows["label"].to_dict()
    items = runs["versions"].map(lambda versions: tuple(sorted(versions.items())))
    for row, found in _several(items.groupby(runs["row"])):
        versions = pd.DataFrame([dict(items) for items in found])
        mixed = {package: sorted(set(versions[package].dropna())) for package in sorted(versions.columns.tolist())}
        parts = ", ".join(f"{p} {' / '.join(several)}" for p, several in mixed.items() if len(several) > 1)
        if parts:
            yield f"{labels[row]}: mixed versions: {parts}"


def _differs_from_published(rows: pd.DataFrame, runs: pd.DataFrame) -> Iterator[str]:
    other_size = (rows["params"] != rows["published_params"]).fillna(False)
    for row in rows[other_size].itertuples():
        yield f"{row.label}: {row.params:,} parameters, published are {row.published_params:,}"
    labels, published = rows["label"].to_dict(), rows["published_epochs"].to_dict()
    other_length = (runs["epochs"] != runs["row"].map(rows["published_epochs"])).fillna(False)
    for number, epochs in runs[other_length].groupby("row")["epochs"]:
        lengths = " / ".join(map(str, sorted(set(epochs))))
        yield f"{labels[number]}: trained for {lengths} epochs, the published figures are after {published[number]}"


def _two_seeds(rows: pd.DataFrame, runs: pd.DataFrame) -> Iterator[str]:
    if found := rows.loc[rows["n"] == 2, "label"].tolist():
        yield (
            f"two seeds give no useful 95% interval (it would be the mean ± 9 standard deviations), so none is shown:"
            f" {listed(found)}"
        )


def _networks_also_differ(rows: pd.DataFrame, runs: pd.DataFrame) -> Iterator[str]:
    firsts = runs.drop_duplicates("row").set_index("row")
    for dataset, family in rows[rows["settings"] != ""].groupby("dataset"):
        shown = {key for differs in family["differs"] for key in differs}
        keys = differing(settings_of(firsts.loc[family.index]))
        hidden = [key for key in keys if not key.startswith("model.") and key not in shown]
        if hidden:
            names = ", ".join(key.removesuffix("._target_") for key in hidden)
            yield f"networks on {dataset} also differ in: {names} (compare --columns shows them)"


_NOTES = (_mixed_within_row, _mixed_versions, _differs_from_published, _two_seeds, _networks_also_differ)
