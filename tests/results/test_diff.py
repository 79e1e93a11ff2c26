"""Which settings two configurations differ in."""

from pathlib import Path

import pytest

from cnnzoo.errors import UserError
from cnnzoo.results.diff import diff
from cnnzoo.results.load import load_results
from cnnzoo.results.table import Table, build_table
from tests.factories import config, write_completed, write_two_networks, write_unfinished


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    write_two_networks(tmp_path / "runs")
    changed = config("resnet", seed=4, lr=0.01)
    changed["trainer"]["gradient_clip_val"] = 1.5
    changed["optimizer"]["nesterov"] = True
    changed["optimizer"]["momentum"] = None
    changed["optimizer"]["weight_decay"] = 0.0001
    write_completed(tmp_path / "runs", "resnet", 4, 0.9, 0.01, config=changed, device="H100", git_commit="b" * 40)
    return tmp_path / "runs"


@pytest.fixture
def table(runs: Path) -> Table:
    return build_table(load_results(runs))


CHANGED = "resnet (lr=0.01, momentum=null, nesterov=true, gradient_clip_val=1.5)"
SAME = "resnet (lr=0.1, momentum=0.9, gradient_clip_val=null)"


@pytest.mark.parametrize(
    "names", [(SAME, CHANGED), ("model=resnet optimizer.lr=0.1", "optimizer.lr=0.01"), (SAME, "seed=4 model=res*")]
)
def test_rows(names: tuple[str, str], table: Table) -> None:
    records, grid, notes = diff(names, table)
    assert grid.header == ["setting", *names]
    assert grid.body == [
        ["optimizer.lr", "0.1", "0.01"],
        ["optimizer.momentum", "0.9", "null"],
        ["optimizer.nesterov", "–", "true"],
        ["trainer.gradient_clip_val", "null", "1.5"],
    ]
    assert records[2] == {"setting": "optimizer.nesterov", "a": None, "b": True}
    assert notes == [f"different code versions: {'0' * 40}, {'b' * 40}", "different devices: cpu, H100"]


def test_run_folders(runs: Path, table: Table) -> None:
    names = [str(runs / "resnet-0.1" / f"seed{seed}") for seed in (1, 2)]
    assert diff(names, table)[1].body == [["seed", "1", "2"]]
    begun = write_unfinished(runs / "begun", config("resnet", seed=1, lr=0.5))
    assert diff([names[0], str(begun)], table)[1].body == [["optimizer.lr", "0.1", "0.5"]]


def test_nothing_differs(table: Table) -> None:
    _, grid, notes = diff(("densenet", "model=densenet"), table)
    assert grid.body == []
    assert notes == ["densenet and model=densenet: no setting differs"]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("densnet", "--diff densnet: no row, no filter and no run's folder. Did you mean 'densenet'?"),
        ("model=resnet", "--diff model=resnet: expected one row, there are 2: "),
        ("model=vgg", "model=vgg: no run has that."),
        (".", "--diff .: expected the folder of one run, there are 0 with settings in it."),
    ],
)
def test_mistakes(name: str, message: str, table: Table, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path / "empty")
    with pytest.raises(UserError) as error:
        diff((name, "densenet"), table)
    assert message in str(error.value)
