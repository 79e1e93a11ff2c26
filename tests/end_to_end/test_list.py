"""The command `list`: everything in conf/ is in it, with the figures of its files."""

from collections.abc import Callable

import pytest

from cnnzoo.config import CONF_DIR
from cnnzoo.config.hydra_errors import choices
from cnnzoo.list import main

Listing = Callable[..., dict[str, list[str]]]


@pytest.fixture
def listing(capsys: pytest.CaptureFixture[str]) -> Listing:
    """Run the command; returns the cells of each row by its first one."""

    def run(*arguments: str) -> dict[str, list[str]]:
        assert main(arguments) == 0
        lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("|")][2:]
        rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
        return {row[0]: row[1:] for row in rows}

    return run


def test_models(listing: Listing) -> None:
    rows = listing("models")
    assert [*rows] == choices(CONF_DIR / "model")
    assert rows["resnet"][:5] == ["272,378", "40.8 M", "3×32×32", "cifar10", "91.06"]
    assert rows["inception_a"][2:4] == ["1×28×28", "mnist"], "the data set of its experiment"
    assert all(row[0] for row in rows.values()), "each can be built"


def test_models_for_another_data_set(listing: Listing, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cnnzoo.list.choices", lambda group: ["resnet"])
    monkeypatch.setattr("cnnzoo.list._composed_experiments", dict)
    (row,) = listing("models", "dataset=digits").values()
    assert row[2:5] == ["1×32×32", "digits", ""]


def test_data_sets(listing: Listing) -> None:
    rows = listing("datasets")
    assert [*rows] == choices(CONF_DIR / "dataset")
    assert rows["cifar100"] == ["3×32×32", "100", "CIFAR-100 (Krizhevsky 2009)"]
    assert rows["image_folder"][0] == ""


def test_experiments(listing: Listing) -> None:
    rows = listing("experiments")
    assert [*rows] == choices(CONF_DIR / "experiment")
    assert rows["keras/cnn"] == ["keras_cnn", "cifar10", "10", "73.79", "70.50 ± 0.38"]


def test_mistakes(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["datasets", "seed=1"]) == 1
    assert "takes no settings" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["modles"])
    assert "Did you mean 'models'?" in capsys.readouterr().err
