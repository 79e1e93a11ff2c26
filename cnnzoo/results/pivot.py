"""Networks × data sets: one row a network, one column a data set. No torch."""

from typing import Any

import pandas as pd

from cnnzoo.results.columns import mean_std
from cnnzoo.results.load import settings_of
from cnnzoo.results.render import Grid
from cnnzoo.results.settings import as_key, differing
from cnnzoo.results.table import Table, label

_SHOWN = ["n", "test_accuracy_mean", "test_accuracy_std"]


def pivot(table: Table, rows: pd.DataFrame) -> tuple[list[dict[Any, Any]], Grid, list[str]]:
    """Spread ordered `rows` over data sets.

    Rows of one model on several data sets are the same network if their settings differ only in what each data set has
    one value of (its own images, the number of classes, an augmentation that is always used with it).

    Returns records with the keys `label`, `model`, and for each data set `<data set>.n`,
    `<data set>.test_accuracy_mean` and `<data set>.test_accuracy_std`, the same as a table, and notes.
    """
    datasets = rows["dataset"].unique().tolist()
    records, body = [], []
    for name, network in rows.groupby(rows.index.map(_names(table)), sort=False):
        cells = network.set_index("dataset")[_SHOWN].astype(object).reindex(datasets)
        body.append([name, *map(mean_std, cells["test_accuracy_mean"], cells["test_accuracy_std"])])
        record = {"label": name, "model": network["model"].iloc[0]}
        for dataset, values in cells.where(cells.notna(), None).to_dict("index").items():
            record |= {f"{dataset}.{key}": value for key, value in values.items()}
        records.append(record)
    low, high = rows["n"].min(), rows["n"].max()
    seeds = f"n = {low}" if low == high else f"n = {low} to {high}"
    grid = Grid("", ["network", *datasets], body, [True] + [False] * len(datasets))
    return records, grid, [f"test accuracy in %, mean ± standard deviation over seeds ({seeds})"]


def _names(table: Table) -> dict[Any, str]:
    """Names of the rows that are the same on every data set that a network was trained on."""
    names: dict[Any, str] = table.rows["label"].to_dict()
    firsts = table.runs.drop_duplicates("row").set_index("row")
    for model, family in firsts[firsts["settings"] != ""].groupby("model"):
        settings = settings_of(family)
        by_dataset = settings.map(as_key).groupby(family["dataset"]).nunique()
        keys = [key for key in differing(settings) if (by_dataset[key] > 1).any()]
        found = label(str(model), settings[keys])
        names |= {row: name for row, (name, _) in zip(family.index, found, strict=True)}
    return names
