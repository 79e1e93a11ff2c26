"""Networks × data sets."""

from pathlib import Path
from typing import Any

import pytest

from cnnzoo.results.columns import order
from cnnzoo.results.load import load_results
from cnnzoo.results.pivot import pivot
from cnnzoo.results.render import latex
from cnnzoo.results.table import build_table
from tests.factories import config, write_completed


def settings(model: str, dataset: str, seed: int, lr: float = 0.1) -> dict[str, Any]:
    """On MNIST there is one channel, and no flip."""
    found = config(model, dataset, seed, lr)
    if dataset == "mnist":
        found["dataset"]["channels"] = found["model"]["in_channels"] = 1
        found["augmentation"]["flip"] = 0.0
    return found


@pytest.fixture
def sweep(tmp_path: Path) -> Path:
    """A ResNet on both data sets, with two learning rates on CIFAR-10; a VGG on MNIST."""
    accuracies = {
        ("resnet", "cifar10", 0.1): (0.9, 0.92),
        ("resnet", "cifar10", 0.01): (0.8, 0.82),
        ("resnet", "mnist", 0.1): (0.99, 0.992),
        ("vgg", "mnist", 0.1): (0.98,),
    }
    for (model, dataset, lr), found in accuracies.items():
        for seed, accuracy in enumerate(found):
            write_completed(tmp_path / dataset, model, seed, accuracy, lr, config=settings(model, dataset, seed, lr))
    return tmp_path


def test_a_network_is_one_row_over_data_sets(sweep: Path) -> None:
    table = build_table(load_results(sweep))
    records, grid, notes = pivot(table, order(table.rows, table.runs))
    assert grid.header == ["network", "cifar10", "mnist"]
    assert grid.body == [
        ["resnet (lr=0.1)", "91.00 ± 1.41", "99.10 ± 0.14"],
        ["resnet (lr=0.01)", "81.00 ± 1.41", ""],
        ["vgg", "", "98.00"],
    ]
    assert records[0] == {
        "label": "resnet (lr=0.1)",
        "model": "resnet",
        "cifar10.n": 2,
        "cifar10.test_accuracy_mean": pytest.approx(0.91),
        "cifar10.test_accuracy_std": pytest.approx(0.02 / 2**0.5),
        "mnist.n": 2,
        "mnist.test_accuracy_mean": pytest.approx(0.991),
        "mnist.test_accuracy_std": pytest.approx(0.002 / 2**0.5),
    }
    assert records[2]["cifar10.n"] is None
    assert notes == ["test accuracy in %, mean ± standard deviation over seeds (n = 1 to 2)"]
    assert r"resnet (lr=0.1)  & 91.00 $\pm$ 1.41 & 99.10 $\pm$ 0.14 \\" in latex([grid], notes)


def test_pivot_of_one_data_set(sweep: Path) -> None:
    table = build_table(load_results(sweep, ["dataset=mnist"]))
    _, grid, _ = pivot(table, order(table.rows, table.runs))
    assert grid.body == [["resnet", "99.10 ± 0.14"], ["vgg", "98.00"]]
