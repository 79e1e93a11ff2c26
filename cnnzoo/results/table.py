"""From runs to rows: all seeds of one configuration make one row, with notes on what the rows do not show. No torch."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from cnnzoo.results.load import MEASURED, SETTING, settings_of
from cnnzoo.results.settings import as_key, as_text, class_name, differing, is_absent, short_names
from cnnzoo.results.stats import t_half_width

GROUP = ["dataset", "model", "settings"]  # runs that share these differ by their seed alone
LISTED = 20  # folders named in a note before it says how many more there are
INTERNAL = ["settings", "folders", "published_epochs"]  # columns of a table's rows that are not printed


@dataclass
class Table:
    """The comparison of completed runs.

    rows: one row a configuration, in the order of their folders. The columns are the keys of the JSON output
        (accuracies 0..1, std the sample standard deviation) and INTERNAL: `folders` and `seeds` are lists, by seed.
    runs: the runs that were counted, by row and seed, with a column `row`, which is the row's index in `rows`.
    notes: sentences on what a reader of the rows must know.
    """

    rows: pd.DataFrame
    runs: pd.DataFrame
    notes: list[str]


def build_table(runs: pd.DataFrame) -> Table:
    """Group the completed runs of `load_results` by everything but the seed; all others end up in the notes."""
    completed = runs[runs["status"] == "completed"]
    completed = completed.assign(row=completed.groupby(GROUP, sort=False).ngroup())
    # The latest of each seed: copies would make the spread too small.
    latest = completed.sort_values("finished", kind="stable", na_position="first")
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

    Columns: `label`, such as `resnet (lr=0.1)`, and `differs`, such as `{"optimizer.lr": 0.1}`; the index is GROUP.
    """
    named: dict[Any, tuple[str, dict[str, Any]]] = {}
    for (dataset, model), family in runs.drop_duplicates(GROUP).groupby(["dataset", "model"], sort=False):
        named[dataset, model, ""] = f"{model} (configuration unknown)", {}
        known = family[family["settings"] != ""]
        settings = settings_of(known)
        for digest, found in zip(known["settings"], label(str(model), settings[differing(settings)]), strict=True):
            named[dataset, model, digest] = found
    index = pd.MultiIndex.from_tuples(list(named), names=GROUP)
    return pd.DataFrame(list(named.values()), index=index, columns=["label", "differs"], dtype=object)


def label(model: str, settings: pd.DataFrame) -> Iterator[tuple[str, dict[str, Any]]]:
    """Name each row of `settings` by all of its columns; also yields the row as a dict, with classes by their names."""
    values, texts = {}, {}
    for key in settings.columns.tolist():
        whole = settings[key].tolist()
        values[key] = _if_distinct([class_name(key, value) for value in whole], whole)
        texts[key] = _if_distinct([as_text(v, digits=4) for v in values[key]], [as_text(v) for v in values[key]])
    names = short_names(values)
    for i in range(len(settings)):
        differs = {key: found[i] for key, found in values.items() if not is_absent(found[i])}
        words = ", ".join(f"{names[key]}={texts[key][i]}" for key in differs)
        yield f"{model} ({words})" if words else model, differs


def _if_distinct(short: list[Any], whole: list[Any]) -> list[Any]:
    return short if len(set(map(as_key, short))) == len(set(map(as_key, whole))) else whole


def _summarize(runs: pd.DataFrame, names: pd.DataFrame) -> pd.DataFrame:
    groups = runs.drop(columns=runs.filter(regex=f"^{SETTING}").columns).groupby("row")
    first = groups.first().join(names, on=GROUP)
    mean = groups.mean(numeric_only=True)
    accuracy = groups[MEASURED].agg(["mean", "std"])
    accuracy.columns = accuracy.columns.map("_".join)
    n, center = groups["test_accuracy"].count(), mean["test_accuracy"]
    half_width = t_half_width(accuracy["test_accuracy_std"], n).where(n > 2)
    ranked = runs.dropna(subset="test_accuracy").sort_values("test_accuracy", kind="stable").set_index("row")
    ranked = ranked.loc[ranked.index.duplicated(keep=False), ["seed", "test_accuracy"]]  # one run alone is no best
    seeds = runs["seed"].astype(object).where(runs["seed"].notna(), None)
    parts: list[Any] = [
        first[["model", "label", "dataset", "differs"]],
        groups.size().rename("n"),
        seeds.groupby(runs["row"]).agg(list).rename("seeds"),
        accuracy,
        (center - half_width).clip(lower=0).rename("test_accuracy_ci95_low"),
        (center + half_width).clip(upper=1).rename("test_accuracy_ci95_high"),
        ranked[~ranked.index.duplicated(keep="last")].add_prefix("best_"),
        ranked[~ranked.index.duplicated(keep="first")].add_prefix("worst_"),
        first[["published_source", "published_val_accuracy", "published_test_accuracy"]],
        (center - first["published_test_accuracy"]).rename("test_accuracy_difference"),
        mean[["val_loss", "test_loss"]].add_suffix("_mean"),
        first[["params", "macs", "published_params"]],
        _joined(groups["epochs"]),
        mean[["train_seconds", "images_per_second"]].add_suffix("_mean"),
        groups["peak_memory_bytes"].max().rename("peak_memory_bytes_max"),
        _joined(groups["device"]),
        _joined(groups["precision"]),
        first["settings"],
        groups["folder"].agg(list).rename("folders"),
        first["published_epochs"],
    ]
    rows: pd.DataFrame = pd.concat(parts, axis="columns")
    return rows


def _joined(groups: Any) -> "pd.Series[Any]":
    """Each group's value; `a / b` where there are several."""
    found: pd.Series[Any] = groups.first().astype(object)
    for row, values in _several(groups):
        found[row] = " / ".join(sorted(map(str, values.dropna().unique())))
    return found


def _several(groups: Any, dropna: bool = True) -> Iterator[tuple[int, "pd.Series[Any]"]]:
    """The groups that have more than one value."""
    mixed = groups.nunique(dropna=dropna) > 1
    for row in mixed.index[mixed]:
        yield row, groups.get_group(row)


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
        pairs = runs.loc[runs["status"] == status, ["folder", "problem"]].itertuples(index=False)
        found = [f"{folder} ({problem.splitlines()[0]})" if problem else folder for folder, problem in pairs]
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
    for key, plural in kinds.items():
        for row, values in _several(runs.groupby("row")[key], dropna=False):
            texts = values.astype(object).where(values.notna(), "unknown").astype(str)
            texts = texts.str.replace(r"\b([0-9a-f]{10})[0-9a-f]{30}\b", r"\1", regex=True)  # a git commit
            parts = ", ".join(f"{text} (n={n})" for text, n in Counter(texts).most_common())
            yield f"{rows['label'][row]}: mixed {plural}: {parts}"


def _mixed_versions(rows: pd.DataFrame, runs: pd.DataFrame) -> Iterator[str]:
    for row, found in _mixed_entries(runs, "versions"):
        parts = ", ".join(f"{name} {' / '.join(sorted(found[name].dropna().unique()))}" for name in found)
        yield f"{rows['label'][row]}: mixed versions: {parts}"


def _mixed_sources(rows: pd.DataFrame, runs: pd.DataFrame) -> Iterator[str]:
    for row, found in _mixed_entries(runs, "source_digests"):
        counts = (found[name].value_counts().to_dict().values() for name in found)
        parts = ", ".join(
            f"{name} ({' + '.join(map(str, sizes))} runs)" for name, sizes in zip(found, counts, strict=True)
        )
        yield f"{rows['label'][row]}: its runs were made with different code of {parts}: rerun=true trains them again"


def _mixed_entries(runs: pd.DataFrame, key: str) -> Iterator[tuple[int, pd.DataFrame]]:
    """Each row whose runs differ in a column of dicts, and the entries that differ."""
    entries = pd.DataFrame(runs[key].tolist(), index=runs.index).sort_index(axis="columns")
    groups = entries.groupby(runs["row"])
    mixed = groups.nunique() > 1
    for row in mixed.index[mixed.any(axis="columns")]:
        yield row, groups.get_group(row).loc[:, mixed.loc[row]]


def _differs_from_published(rows: pd.DataFrame, runs: pd.DataFrame) -> Iterator[str]:
    for row in rows[(rows["params"] != rows["published_params"]).fillna(False)].itertuples():
        yield f"{row.label}: {row.params:,} parameters, published are {row.published_params:,}"
    labels, published = rows["label"], rows["published_epochs"]
    other_length = (runs["epochs"] != runs["row"].map(published)).fillna(False)
    for number, epochs in runs[other_length].groupby("row")["epochs"]:
        lengths = " / ".join(map(str, sorted(epochs.unique())))
        yield f"{labels[number]}: trained for {lengths} epochs, the published figures are after {published[number]}"


def _two_seeds(rows: pd.DataFrame, runs: pd.DataFrame) -> Iterator[str]:
    if found := rows.loc[rows["n"] == 2, "label"].tolist():
        why = "two seeds give no useful 95% interval (it would be the mean ± 9 standard deviations), so none is shown"
        yield f"{why}: {listed(found)}"


def _partly_corrupted(rows: pd.DataFrame, runs: pd.DataFrame) -> Iterator[str]:
    known = runs.groupby("row")["corruption_accuracy"].count()
    for row in known.index[(known > 0) & (known < rows["n"])]:
        found = f"{known[row]} of {rows['n'][row]} runs"
        yield f"{rows['label'][row]}: corruption accuracy of {found} (evaluate computes it)"


def _networks_also_differ(rows: pd.DataFrame, runs: pd.DataFrame) -> Iterator[str]:
    firsts = runs[runs["settings"] != ""].drop_duplicates("row")
    for dataset, family in firsts.groupby("dataset"):
        shown = {key for differs in rows["differs"][family["row"]] for key in differs}
        keys = differing(settings_of(family))
        hidden = [key for key in keys if not key.startswith("model.") and key not in shown]
        if hidden:
            names = ", ".join(key.removesuffix("._target_") for key in hidden)
            yield f"networks on {dataset} also differ in: {names} (compare --columns shows them)"


_NOTES = (
    _mixed_within_row,
    _mixed_versions,
    _mixed_sources,
    _differs_from_published,
    _two_seeds,
    _partly_corrupted,
    _networks_also_differ,
)
