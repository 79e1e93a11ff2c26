"""Which columns are shown, and the order of rows."""

from pathlib import Path

import pytest

from cnnzoo.errors import UserError
from cnnzoo.results.columns import COLUMNS, FROM_PREDICTIONS, agreements, as_grid, choose, fit, order
from cnnzoo.results.load import load_results
from cnnzoo.results.table import Table, build_table
from tests.factories import write_completed, write_two_networks


@pytest.fixture
def table(tmp_path: Path) -> Table:
    write_two_networks(tmp_path)
    write_completed(tmp_path, "vgg", 1, 0.95, params=10, images_per_second=9000.0, device="H100")
    return build_table(load_results(tmp_path))


def labels(table: Table, by: str | None = None, reverse: bool = False) -> list[str]:
    found: list[str] = order(table.rows, table.runs, by, reverse)["label"].tolist()
    return found


def test_order(table: Table) -> None:
    assert labels(table) == ["vgg", "resnet", "densenet"]
    assert labels(table, "params") == ["vgg", "densenet", "resnet"]
    assert labels(table, "test", reverse=True) == ["densenet", "resnet", "vgg"]
    assert labels(table, "model") == ["densenet", "resnet", "vgg"]
    assert labels(table, "speed")[0] == "vgg"
    assert labels(table, "published") == ["resnet", "densenet", "vgg"], "unknown ones last"
    assert labels(table, "published", reverse=True) == ["resnet", "densenet", "vgg"]
    assert labels(table, "optimizer.lr") == ["densenet", "resnet", "vgg"]


def test_columns_that_are_empty_or_alike_are_left_out(table: Table) -> None:
    keys = [column.key for column in choose(None, table.rows, table.runs)]
    assert {"model", "n", "val", "test", "ci", "published", "difference", "device", "params"} <= set(keys)
    assert not {"letters_t", "memory", "dataset", "epochs", "precision"} & set(keys)
    shown = choose(None, table.rows, table.runs)
    assert agreements(table.rows, shown) == ["all rows: cifar10, 32-true, 180 epochs"]
    assert agreements(table.rows, choose(["all"], table.rows, table.runs)) == []


def test_all_columns(table: Table) -> None:
    keys = [column.key for column in choose(["all"], table.rows, table.runs)]
    assert keys == [key for key in COLUMNS if key not in ("letters_t", "letters_mcnemar", *FROM_PREDICTIONS)]


def test_named_columns(table: Table) -> None:
    rows = order(table.rows, table.runs)
    shown = choose(["model", "optimizer.lr", "optimizer", "dataset.mean", "test_loss_mean"], rows, table.runs)
    assert as_grid(shown, rows).body[0] == ["vgg", "0.1", "SGD", "null", "0.32"]
    for name, message in (
        ("modle", "modle: no such column. Did you mean 'model'?"),
        ("optimizer.lrr", "Did you mean 'optimizer.lr'?"),
        ("letters_t", "letters_t: this column needs --tests."),
    ):
        with pytest.raises(UserError) as error:
            choose([name], rows, table.runs)
        assert message in str(error.value)


def test_cells(table: Table) -> None:
    rows = order(table.rows, table.runs)
    shown = {column.key: column for column in choose(["all"], rows, table.runs)}
    vgg, resnet, _ = rows.to_dict("records")
    assert shown["test"].show(resnet) == "91.00 ± 0.20"
    assert shown["test"].show(vgg) == "95.00"
    assert shown["ci"].show(resnet) == "90.50 to 91.50"
    assert shown["published"].show(resnet) == "91.06"
    assert shown["published_val"].show(resnet) == "91.84"
    assert shown["difference"].show(resnet) == "-0.06"
    assert shown["difference"].show(vgg) == ""
    assert shown["best"].show(resnet) == "91.20 (2)"
    assert shown["params"].show(resnet) == "272,378"
    assert shown["macs"].show(resnet) == "40.8 M" if resnet["macs"] == 40_813_184 else "41 M"
    assert shown["memory"].show(resnet) == "1 GB"


def test_a_narrow_window_shows_the_most_important_columns(table: Table) -> None:
    columns = choose(None, table.rows, table.runs)
    grid = as_grid(columns, table.rows)
    kept, hidden = fit(columns, grid, 60)
    keys = [column.key for column in kept]
    assert keys[:4] == ["model", "n", "test", "ci"]
    assert sum(width for column, width in zip(columns, grid.widths, strict=True) if column in kept) <= 60
    assert {column.key for column in hidden} == {column.key for column in columns} - set(keys)
    assert fit(columns, grid, 10_000) == (columns, [])


def test_accuracy_on_corrupted_images_is_shown_once_it_is_known(table: Table) -> None:
    assert "corruption" not in [column.key for column in choose(None, table.rows, table.runs)]
    table.rows.loc[table.rows["model"] == "vgg", "corruption_accuracy_mean"] = 0.7512
    assert "corruption" in [column.key for column in choose(None, table.rows, table.runs)]
    rows = order(table.rows, table.runs, "corruption")
    shown = choose(["model", "corruption"], rows, table.runs)
    assert as_grid(shown, rows).body[0] == ["vgg", "75.12"]
