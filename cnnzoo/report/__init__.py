"""One page that shows a comparison: `cnnzoo.compare ... --out report.html`.

It is a single file that needs no network: the table, sortable and filterable; tests of all pairs; learning curves with
the authors' own; accuracy against cost; classes, confusions and mistakes of a row; settings; how to repeat each row.
plotly draws, because it has zooming, hovering and parallel coordinates ready, and its script can be embedded.
"""

import base64
import io
import json
from collections.abc import Mapping, Sequence
from numbers import Real
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from omegaconf import OmegaConf

from cnnzoo.config import CONF_DIR
from cnnzoo.errors import UserError
from cnnzoo.figures.classes import class_names
from cnnzoo.figures.published import curve_folders, read_curves
from cnnzoo.figures.style import COLOURS
from cnnzoo.results import columns, render
from cnnzoo.results.load import SETTING, settings_of
from cnnzoo.results.run_folder import RunFileError, read_metrics, read_predictions
from cnnzoo.results.settings import as_key, as_text, differing, is_absent
from cnnzoo.results.table import Table, listed
from cnnzoo.text import clean

CURVES = ("val_accuracy", "train_accuracy", "val_loss", "train_loss", "learning_rate")
_MOST_CONFUSIONS = 60  # rows whose classes are shown; of 200 with 100 classes each, the page would be too large
_MOST_MISTAKES = 24  # of a row
_COSTS = ("params", "macs", "train_seconds_mean", "images_per_second_mean")


def report(
    table: Table,
    rows: pd.DataFrame,
    shown: Sequence[columns.Column],
    tests: Sequence[render.Grid],
    notes: Sequence[str],
) -> str:
    """Return the page of a comparison.

    Args:
        table: the comparison.
        rows: its rows in the order of the page, with the columns of `compare_pairs` if there were tests.
        shown: the columns that the page shows first; all others can be chosen there.
        tests: matrices of adjusted p-values, one a data set.
        notes: what a reader of the rows must know.
    """
    from plotly.offline import get_plotlyjs

    runs = table.runs.set_index("row").loc[rows.index]
    found = [_Row(number, row, runs.loc[[number]]) for number, row in rows.iterrows()]
    notes = [*notes]
    data = {
        "columns": _columns(rows, table.runs, shown),
        "rows": [row.facts() for row in found],
        "settings": _settings(runs),
        "tests": [{"title": grid.title, "header": grid.header, "body": grid.body} for grid in tests],
        "curves": [row.curves() for row in found],
        "published": _published(runs, notes),
        "classes": [row.classes() for row in found[:_MOST_CONFUSIONS]],
        "sprites": _sprites(found[:_MOST_CONFUSIONS], notes),
        "colours": COLOURS,
    }
    problems = pd.DataFrame([pair for row in found for pair in row.problems], columns=["reason", "folder"])
    for reason, folders in problems.groupby("reason", sort=False)["folder"]:
        notes.append(f"{reason}: {listed(folders.tolist())}")
    data["notes"] = [clean(note) for note in dict.fromkeys(notes)]
    text = json.dumps(_plain(data), ensure_ascii=True, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")
    page = Path(__file__).with_name("page.html").read_text(encoding="utf-8")
    before, between, after = page.replace("{{script}}", "{{data}}").split("{{data}}")
    return "".join([before, text, between, get_plotlyjs(), after])


def _plain(value: Any) -> Any:
    """In JSON's types, with five significant digits of each number; NaN, infinity and what is absent become None."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, str | bool) or value is None:
        return clean(value) if isinstance(value, str) else value
    if is_absent(value) or value is pd.NaT:
        return None
    if not isinstance(value, Real):
        return clean(str(value))
    number = float(value)
    if not np.isfinite(number):
        return None
    return int(number) if number.is_integer() else float(f"{number:.5g}")


def _columns(rows: pd.DataFrame, runs: pd.DataFrame, shown: Sequence[columns.Column]) -> list[dict[str, Any]]:
    """All columns that hold something."""
    records = rows.to_dict("records")
    first = [column.key for column in shown]
    others = [column for column in columns.choose([columns.ALL], rows, runs) if column.key not in first]
    return [
        {
            "key": column.key,
            "title": column.title,
            "text": column.is_text,
            "highest": column.best_is_highest,
            "shown": column.key in first,
            "cells": [column.show(row) for row in records],
            "values": [_sortable(row[column.fields[0]]) for row in records],
        }
        for column in [*shown, *others]
        if any(map(column.show, records))
    ]


def _sortable(value: Any) -> Any:
    return value if isinstance(value, str | int | float) and not is_absent(value) else None


class _Row:
    """One row of the comparison, and the folders of its runs."""

    def __init__(self, number: Any, row: "pd.Series[Any]", runs: pd.DataFrame) -> None:
        self.number, self.row, self.runs = number, row, runs
        self.problems: list[tuple[str, str]] = []  # what a run lacks, and its folder
        self._mistakes: list[dict[str, Any]] = []
        self._predictions = self._read_predictions()

    def facts(self) -> dict[str, Any]:
        """Numbers for the plots, and how to repeat each run."""
        runs: list[dict[str, Any]] = [
            {
                "seed": run.seed,
                "folder": run.folder,
                "command": run.command,
                "accuracy": run.test_accuracy,
                "device": run.device,
                "precision": run.precision,
                "commit": run.git_commit,
                "finished": run.finished,
                "versions": run.versions if isinstance(run.versions, dict) else {},
            }
            for run in self.runs.itertuples()
        ]
        accuracy = {"mean": self.row["test_accuracy_mean"], "std": self.row["test_accuracy_std"], "n": self.row["n"]}
        costs = {cost: self.row[cost] for cost in _COSTS}
        return {"label": self.row["label"], "dataset": self.row["dataset"], "runs": runs, **accuracy, **costs}

    def curves(self) -> dict[str, Any]:
        """Of each metric: epochs, mean over the seeds as far as all of them go, and standard deviation."""
        found = [metrics for folder in self.runs["folder"] if (metrics := self._metrics(folder)) is not None]
        result: dict[str, Any] = {}
        for name in CURVES:
            series = [metrics[name].dropna() for metrics in found if name in metrics]
            if not series:
                continue
            shared = pd.concat(series, axis="columns", join="inner")
            if len(shared):
                std = shared.std(axis="columns") if len(series) > 1 else None
                result[name] = {
                    "epochs": shared.index.tolist(),
                    "mean": shared.mean(axis="columns").tolist(),
                    "std": None if std is None else std.tolist(),
                    "n": len(series),
                }
        return result

    def _metrics(self, folder: str) -> pd.DataFrame | None:
        try:
            metrics = read_metrics(folder)
            metrics = metrics.set_axis(metrics["epoch"].astype(int) + 1)
            return metrics[~metrics.index.duplicated(keep="last")]
        except (RunFileError, KeyError, ValueError) as error:
            self.problems.append((f"without a learning curve, {error}", folder))
            return None

    def _read_predictions(self) -> list[tuple[Any, Any]]:
        found = []
        for run in self.runs.itertuples():
            accuracy = None if is_absent(run.test_accuracy) else float(run.test_accuracy)  # type: ignore[arg-type]
            try:
                found.append(read_predictions(str(run.folder), accuracy))
            except RunFileError as error:
                self.problems.append((f"without classes and mistakes, {error}", str(run.folder)))
        same = found and all(logits.shape[1] == found[0][0].shape[1] for logits, _ in found)
        return found if same else []

    def classes(self) -> dict[str, Any] | None:
        """Confusion of all seeds together, test images `[true class][predicted class]`, and the mistakes of one run."""
        if not self._predictions:
            return None
        count = self._predictions[0][0].shape[1]
        confusion = np.zeros((count, count), dtype=int)
        for logits, labels in self._predictions:
            inside = labels < count
            np.add.at(confusion, (labels[inside], logits.argmax(axis=1)[inside]), 1)
        first = self.runs.iloc[0].to_dict()
        names = class_names(
            count, *(first.get(f"{SETTING}dataset.source.{key}") for key in ("_target_", "name", "root"))
        )
        return {"names": names, "confusion": confusion.tolist(), "mistakes": self.mistakes()}

    def mistakes(self) -> list[dict[str, Any]]:
        """The wrong predictions of the first seed that it is surest of."""
        if self._predictions and not self._mistakes:
            logits, labels = self._predictions[0]
            shares = np.exp(logits - logits.max(axis=1, keepdims=True).astype(float))
            shares /= shares.sum(axis=1, keepdims=True)
            predicted, surest = logits.argmax(axis=1), shares.max(axis=1)
            wrong = np.flatnonzero(predicted != labels)
            chosen = wrong[np.argsort(-surest[wrong], kind="stable")][:_MOST_MISTAKES]
            self._mistakes = [
                {"image": int(i), "true": int(labels[i]), "predicted": int(predicted[i]), "probability": surest[i]}
                for i in chosen
            ]
        return self._mistakes


def _settings(runs: pd.DataFrame) -> dict[str, Any]:
    """The settings in which the rows differ: texts for the table, and numbers or texts for parallel coordinates."""
    first = runs[~runs.index.duplicated()]
    settings = settings_of(first)
    keys = differing(settings)
    values = {key: settings[key].tolist() for key in keys}
    plain = {
        key: [None if is_absent(v) or isinstance(v, list | dict) else v if _is_number(v) else as_text(v) for v in found]
        for key, found in values.items()
    }
    distinct = {key: len({as_key(v) for v in found}) for key, found in values.items()}
    texts = {}
    for key, found in values.items():
        short, exact = (["–" if is_absent(v) else as_text(v, digits) for v in found] for digits in (6, None))
        texts[key] = short if len(set(short)) == distinct[key] else exact
    return {"keys": keys, "texts": texts, "values": plain, "distinct": distinct}


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _published(runs: pd.DataFrame, notes: list[str]) -> list[dict[str, Any]]:
    """The authors' own curves of rows with published weights, each once."""
    weights = Path(OmegaConf.load(CONF_DIR / "paths" / "default.yaml").weights)
    result, seen = [], set()
    for position, folder in enumerate(runs[~runs.index.duplicated()]["folder"]):
        folders = curve_folders(folder, weights, None)
        where = next((candidate for candidate in folders if candidate.is_dir()), None)
        if where is None or where in seen:
            continue
        seen.add(where)
        try:
            curves = read_curves(where)
        except RunFileError as error:
            notes.append(f"{where}: {error}")
            continue
        named = {name: {"epochs": curves.index.tolist(), "mean": curves[name].tolist()} for name in curves}
        result.append({"row": position, "name": f"{where.name}, published", "curves": named})
    return result


def _sprites(rows: Sequence[_Row], notes: list[str]) -> dict[str, Any]:
    """For each data set that is on this machine, one picture of all test images among the mistakes, side by side."""
    result = {}
    by_dataset: dict[str, list[_Row]] = {}
    for row in rows:
        if row.mistakes():
            by_dataset.setdefault(str(row.row["dataset"]), []).append(row)
    for dataset, members in by_dataset.items():
        wanted = sorted({mistake["image"] for row in members for mistake in row.mistakes()})
        try:
            images, total = _test_images(members[0].runs["folder"].iloc[0], wanted)
        except (UserError, ImportError, IndexError) as error:
            notes.append(f"{dataset}: the wrongly classified images are not shown: {error}")
            continue
        if total != len(members[0]._predictions[0][1]):
            notes.append(f"{dataset}: the wrongly classified images are not shown: this machine has another test set")
            continue
        sheet = images.transpose(1, 0, 2, 3).reshape(images.shape[1], -1, images.shape[3])
        result[dataset] = {
            "images": wanted,
            "width": images.shape[2],
            "height": images.shape[1],
            "url": _data_url(sheet),
        }
    return result


def _test_images(folder: str, index: Sequence[int]) -> tuple[Any, int]:
    """The test images `[N, H, W, 3] uint8` of a run's data set at `index`, and how many there are; never downloaded."""
    from dataclasses import replace

    import torch

    from cnnzoo.data.dataset import load_dataset
    from cnnzoo.results.received import received_config

    config = received_config(Path(folder)).dataset
    if str(config.source.get("_target_")).endswith(".torchvision_set"):
        config = replace(config, source={**config.source, "download": False})
    test = load_dataset(config).test
    ((images, _),) = test.fetch(torch.tensor(index), [slice(None)])
    pixels = images.permute(0, 2, 3, 1).numpy()
    return (np.repeat(pixels, 3, axis=3) if pixels.shape[3] == 1 else pixels), len(test)


def _data_url(pixels: Any) -> str:
    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(pixels)).save(file, "PNG", optimize=True)
    return f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"
