"""How far runs are."""

import fcntl
from pathlib import Path
from typing import Any

import pytest

from cnnzoo.results.load import load_results
from cnnzoo.results.status import status
from tests.factories import config, result, write_completed, write_run, write_two_networks, write_unfinished


def test_states(tmp_path: Path) -> None:
    runs = write_two_networks(tmp_path / "outputs")
    failed = write_run(runs / "failed", result(config("vgg"), status="failed", error="ValueError: no\nmore"))
    going = write_unfinished(runs / "going", config("nin", seed=7))
    rows = ["epoch,val_accuracy,epoch_seconds", "0,0.61,10.0", "1,0.6,10.0", "2,1"]  # the last one is being written
    (going / "metrics.csv").write_text("\n".join(rows))
    with (going / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        records, grids, notes = status(load_results(runs))
    assert records == [
        {
            "state": "running",
            "model": "nin",
            "dataset": "cifar10",
            "seed": 7,
            "epoch": 2,
            "epochs": 180,
            "val_accuracy": 0.61,
            "seconds_left": 1780.0,
            "folder": str(going),
            "problem": None,
            "command": None,
        },
        {
            "state": "failed",
            "model": "vgg",
            "dataset": "cifar10",
            "seed": 1,
            "epoch": 0,
            "epochs": 180,
            "val_accuracy": None,
            "seconds_left": None,
            "folder": str(failed),
            "problem": "ValueError: no\nmore",
            "command": "python -m cnnzoo.run model=vgg seed=1",
        },
    ]
    assert grids[0].header == ["folder", "state", "network", "dataset", "seed", "epoch", "best val %", "left (about)"]
    assert grids[0].body == [
        [str(going), "running", "nin", "cifar10", "7", "2/180", "61.00", "29 min 40 s"],
        [str(failed), "failed", "vgg", "cifar10", "1", "0/180", "", ""],
    ]
    assert notes == [
        "8 runs: 6 done, 1 running, 1 failed",
        f"{failed}: ValueError: no; again with: python -m cnnzoo.run model=vgg seed=1",
    ]
    records, grids, notes = status(load_results(runs))
    assert notes[0] == "8 runs: 6 done, 1 failed, 1 unfinished", "the lock goes with its process"
    assert grids[0].body[1][-3:] == ["2/180", "61.00", "29 min 40 s"], "what is left of an unfinished run"


def test_all_done(tmp_path: Path) -> None:
    write_completed(tmp_path, "resnet", 1, 0.9)
    assert status(load_results(tmp_path)) == ([], [], ["1 run: 1 done"])


def test_what_cannot_be_read_is_listed(tmp_path: Path) -> None:
    (tmp_path / "damaged").mkdir()
    (tmp_path / "damaged" / "result.json").write_text("[")
    begun = write_unfinished(tmp_path / "begun", config("nin"))
    (begun / "metrics.csv").write_text("epoch,loss\n0,x\n")
    odd = config("nin", seed=2)
    odd["trainer"]["max_epochs"] = "many"
    write_unfinished(tmp_path / "odd", odd)
    _, grids, notes = status(load_results(tmp_path))
    assert [row[1:] for row in grids[0].body] == [
        ["unfinished", "nin", "cifar10", "1", "0/180", "", ""],
        ["unfinished", "nin", "cifar10", "2", "", "", ""],
        ["not readable", "", "", "", "", "", ""],
    ]
    assert notes == [
        "3 runs: 0 done, 2 unfinished, 1 not readable",
        f"{tmp_path}/damaged: result.json is cut off or not JSON",
    ]


@pytest.mark.parametrize("row", ["inf,1", "1e300,1", "0,inf", "0,1e308", "nan,1"])
@pytest.mark.parametrize("epochs", [10, 1e308, 10**400, "x", [1]])
def test_odd_numbers_are_no_estimate(row: str, epochs: Any, tmp_path: Path) -> None:
    settings = config("vgg")
    folder = write_unfinished(tmp_path / "odd", settings | {"trainer": settings["trainer"] | {"max_epochs": epochs}})
    (folder / "metrics.csv").write_text(f"epoch,epoch_seconds\n{row}\n")
    records, _, _ = status(load_results(tmp_path))
    assert [record["state"] for record in records] == ["unfinished"]


@pytest.mark.parametrize("cell", ["inf", "7", "-1", "nan", ""])
def test_what_is_no_accuracy_is_not_shown(cell: str, tmp_path: Path) -> None:
    folder = write_unfinished(tmp_path / "odd", config("vgg"))
    (folder / "metrics.csv").write_text(f"epoch,val_accuracy,epoch_seconds\n0,{cell},1\n")
    assert status(load_results(tmp_path))[0][0]["val_accuracy"] is None
