"""The script that measures the speed recipes reports what its runs measured."""

import json
import math
import runpy
from pathlib import Path

import numpy as np
import pytest

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "speedrun.py"


def test_report_of_two_runs(tmp_path: Path) -> None:
    out = tmp_path / "speedrun.json"
    runpy.run_path(str(SCRIPT))["main"](
        [
            "--runs",
            "2",
            "--out",
            str(out),
            "dataset=digits",
            "dataset.val_size=0",
            "dataset.batch_size=200",
            "image_size=16",
            "model.widths=[8,16,16]",
            "trainer=cpu",
            "trainer.precision=32-true",
            "trainer.max_epochs=2",
            "trainer.checkpoint_every_n_epochs=2",
        ]
    )
    report = json.loads(out.read_text())
    runs = report["runs"]
    assert [entry["seed"] for entry in runs] == [1, 2]
    for key in ("test_accuracy", "test_accuracy_tta", "seconds"):
        values = [entry[key] for entry in runs]
        assert report[key]["mean"] == pytest.approx(np.mean(values))
        assert report[key]["std"] == pytest.approx(np.std(values, ddof=1))
        low, high = report[key]["interval95"]
        half = 12.706 * np.std(values, ddof=1) / math.sqrt(2)  # Student's t with one degree of freedom
        assert (low, high) == pytest.approx((np.mean(values) - half, np.mean(values) + half), rel=1e-3)
    for entry in runs:
        assert entry["seconds"] == pytest.approx(entry["train_seconds"] + entry["test_seconds"])
    assert report["warm_up_seconds"] > 0
    assert {"device", "versions", "command", "precision", "git_commit", "config"} <= report.keys()
