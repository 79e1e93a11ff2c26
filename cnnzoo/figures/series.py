"""What the figures of a sweep show of each configuration, read from the folders of its runs. No torch."""

import os
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import pandas as pd

from cnnzoo.figures.classes import class_names
from cnnzoo.figures.published import curve_folders, read_curves
from cnnzoo.results import columns
from cnnzoo.results.load import SETTING
from cnnzoo.results.run_folder import RunFileError, read_metrics, read_predictions
from cnnzoo.results.settings import is_absent
from cnnzoo.results.table import GROUP, build_table, listed, name_configurations, status_notes

T = TypeVar("T")
Problems = dict[str, list[str]]  # what is wrong → where


@dataclass
class Series:
    """One configuration of a sweep.

    Curves have the columns `val_accuracy` and `train_accuracy`, 0..1, NaN in an epoch without validation; their index
    is the epoch, from 1.

    test_accuracy: the mean over the completed runs, NaN without one.
    max_epochs: as configured; None if that is not known.
    completed, begun: the curves of its runs.
    published: name and curves of the authors' training.
    class_accuracy: one row per completed run, one column per class: the share of a class's test images that the run
        classifies correctly, NaN if there are none.
    """

    name: str
    dataset: str
    test_accuracy: float
    max_epochs: Any = None
    completed: list[pd.DataFrame] = field(default_factory=list)
    begun: list[pd.DataFrame] = field(default_factory=list)
    published: tuple[str, pd.DataFrame] | None = None
    class_accuracy: pd.DataFrame = field(default_factory=pd.DataFrame)


def load_series(
    runs: pd.DataFrame, weights: Path, published: Path | None = None
) -> tuple[list[Series], pd.DataFrame, list[str]]:
    """Read what figures show of `runs`, which are those of `load_results`.

    Args:
        weights: the folder of published weights.
        published: the folder of their authors' curves; None: `tensorboards` next to the weights.

    Returns:
        The configurations in the order of the comparison, those without a completed run last; the comparison's rows
        under the same names; a note on everything that is left out.
    """
    is_completed, is_begun = runs["status"] == "completed", runs["status"].isin(["running", "unfinished"])
    table = build_table(runs[is_completed])
    rows = columns.order(table.rows, table.runs)
    shown = pd.concat([table.runs.set_index("row").loc[rows.index], runs[is_begun & (runs["settings"] != "")]])
    names = name_configurations(shown)["label"].to_dict()
    rows["label"] = [names[key] for key in rows[GROUP].itertuples(index=False, name=None)]
    problems: Problems = defaultdict(list)
    series, seen = [], []
    for key, members in shown.groupby(GROUP, sort=False):
        series.append(_read(names[key], members, problems))
        folders = curve_folders(members["folder"].iloc[0], weights, published)
        if folders and (key[0], folders) not in seen:  # once for all rows of a search
            seen.append((key[0], folders))
            series[-1].published = _published(folders, problems)
    notes = table.notes + status_notes(runs[~is_completed & ~is_begun], "not shown")
    notes += [f"left out, {reason}: {listed(list(dict.fromkeys(where)))}" for reason, where in problems.items()]
    if published is not None and not seen:
        notes.append(f"--published {published}: no run here is of a network with published weights")
    return series, rows, notes


def _read(name: str, runs: pd.DataFrame, problems: Problems) -> Series:
    """Read the runs of one configuration."""
    first, is_completed = runs.iloc[0].to_dict(), runs["status"] == "completed"
    shares = pd.DataFrame(_each(_class_shares, runs[is_completed], problems))
    source = [first.get(f"{SETTING}dataset.source.{key}") for key in ("_target_", "name", "root")]
    max_epochs = first.get(f"{SETTING}trainer.max_epochs")
    return Series(
        name,
        first["dataset"],
        test_accuracy=runs.loc[is_completed, "test_accuracy"].mean(),
        max_epochs=None if is_absent(max_epochs) else max_epochs,
        completed=_each(_curves, runs[is_completed], problems),
        begun=_each(_curves, runs[~is_completed], problems),
        class_accuracy=shares.set_axis(class_names(shares.shape[1], *source), axis="columns"),
    )


def _each(read: Callable[[Any], T], runs: pd.DataFrame, problems: Problems) -> list[T]:
    """Return what `read` finds for each run, without those whose files cannot be used."""
    found = []
    for run in runs.itertuples():
        try:
            found.append(read(run))
        except RunFileError as error:
            problems[str(error)].append(str(run.folder))
    return found


def _curves(run: Any) -> pd.DataFrame:
    metrics = read_metrics(run.folder)
    if metrics.empty:
        raise RunFileError("no epoch done")
    try:
        curves = metrics[["val_accuracy", "train_accuracy"]].set_axis(metrics["epoch"].astype(int) + 1)
    except (KeyError, ValueError):
        raise RunFileError("metrics.csv lacks columns") from None
    return curves[~curves.index.duplicated(keep="last")]


def _class_shares(run: Any) -> "pd.Series[float]":
    logits, labels = read_predictions(run.folder, None if is_absent(run.test_accuracy) else run.test_accuracy)
    classes = logits.shape[1]
    if labels.max() >= classes:
        raise RunFileError("the labels in predictions.npz are no class numbers")
    return pd.Series(logits.argmax(axis=1) == labels).groupby(labels).mean().reindex(range(classes))


def _published(folders: list[Path], problems: Problems) -> tuple[str, pd.DataFrame] | None:
    where = next((folder for folder in folders if os.path.isdir(folder)), None)  # noqa: PTH112  (any text is a name here)
    try:
        if where is None:
            raise RunFileError("published curves not found (--published DIR names the folder that they are in)")
        return where.name, read_curves(where)
    except RunFileError as error:
        problems[str(error)].append(str(where or " or ".join(map(str, folders))))
        return None
