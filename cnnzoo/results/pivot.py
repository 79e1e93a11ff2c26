"""Networks × data sets: one row a network, one column a data set. No torch."""

from typing import Any

import pandas as pd

from cnnzoo.results.columns import as_dicts, mean_std
from cnnzoo.results.render import Grid
from cnnzoo.results.settings import as_key, differing
from cnnzoo.results.table import Table, label, settings_of

_SHOWN = ("n", "test_accuracy_mean", "test_accuracy_std")


def pivot(table: Table, rows: pd.DataFrame) -> tuple[list[dict[str, Any]], Grid, list[str]]:
    """Spread ordered `rows` over data sets.

    Rows of one model on several data sets are the same network if their settings differ only in what each data set has
    one value of (its own images, the number of classes, an augmentation that is always used with it).

    Returns:
        Records with the keys `label`, `model`, and for each data set `<data set>.n`, `<data set>.test_accuracy_mean`
        and `<data set>.test_accuracy_std`; the same as a table; notes.
    """
    names = _names(table)
    datasets = list(dict.fromkeys(rows["dataset"]))
    networks: dict[str, dict[str, dict[str, Any]]] = {}  # name → data set → row
    for row, values in zip(rows.index, as_dicts(rows), strict=True):
        networks.setdefault(names[row], {})[values["dataset"]] = values
    records, body = [], []
    for name, cells in networks.items():
        record = {"label": name, "model": next(iter(cells.values()))["model"]}
        for dataset in datasets:
            record |= {f"{dataset}.{key}": cells.get(dataset, {}).get(key) for key in _SHOWN}
        records.append(record)
        means = [(record[f"{d}.test_accuracy_mean"], record[f"{d}.test_accuracy_std"]) for d in datasets]
        body.append([name, *(mean_std(mean, std) for mean, std in means)])
    sizes = sorted(set(rows["n"]))
    seeds = f"n = {sizes[0]}" if len(sizes) == 1 else f"n = {sizes[0]} to {sizes[-1]}"
    grid = Grid("", ["network", *datasets], body, [True] + [False] * len(datasets))
    return records, grid, [f"test accuracy in %, mean ± standard deviation over seeds ({seeds})"]


def _names(table: Table) -> dict[Any, str]:
    """Names of the rows that are the same on every data set that a network was trained on."""
    firsts = table.runs.drop_duplicates("row").set_index("row")
    names: dict[Any, str] = table.rows["label"].to_dict()
    for model, family in table.rows[table.rows["settings"] != ""].groupby("model"):
        settings = settings_of(firsts.loc[family.index])
        keys = [key for key in differing(settings) if not _follows_from(family["dataset"], settings[key])]
        found = label(str(model), settings[keys])
        names |= {row: name for row, (name, _) in zip(family.index, found, strict=True)}
    return names


def _follows_from(dataset: "pd.Series[Any]", values: "pd.Series[Any]") -> bool:
    return bool((values.map(as_key).groupby(dataset).nunique() == 1).all())
