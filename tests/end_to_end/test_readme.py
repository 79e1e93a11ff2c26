"""README and the page of the published table have the figures of the configurations and records; a wheel works."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from cnnzoo.config import CONF_DIR, compose

ROOT = CONF_DIR.parent
README = (ROOT / "README.md").read_text()
PUBLISHED = (ROOT / "docs" / "published.md").read_text()
LABELS = {"googlenet": "GoogLeNet", "resnet": "ResNet", "preact_resnet": "PreActResNet", "densenet": "DenseNet"}


def test_readme_is_short() -> None:
    assert len(README.splitlines()) <= 130


@pytest.mark.parametrize("page", [README, PUBLISHED], ids=["README", "docs"])
@pytest.mark.parametrize("network", LABELS)
def test_published_table_is_the_configurations(page: str, network: str) -> None:
    published = compose([f"experiment=uvadlc/{network}"]).published
    assert published is not None
    assert published.val_accuracy is not None
    assert published.test_accuracy is not None
    row = f"{100 * published.val_accuracy:.2f} % | {100 * published.test_accuracy:.2f} % |"
    assert re.search(rf"{re.escape(row)} +{published.params:,} \|", page), network


@pytest.mark.parametrize("network", LABELS)
def test_trained_here_is_what_was_recorded(network: str) -> None:
    rows = json.loads((ROOT / "benchmarks/results/published-3-epochs-cpu/table.json").read_text())
    (row,) = [row for row in rows if row["model"] == network]
    test = f"{100 * row['test_accuracy_mean']:.2f} ± {100 * row['test_accuracy_std']:.2f} %"
    low, high = (f"{100 * row[f'test_accuracy_ci95_{end}']:.2f}" for end in ("low", "high"))
    assert re.search(rf"^\| {LABELS[network]} .*{re.escape(test)} \|$", README, re.MULTILINE)
    assert re.search(rf"^\| {network} .*\| {re.escape(test)} \| {low} to {high} \|", PUBLISHED, re.MULTILINE)


@pytest.mark.slow
def test_wheel_works_from_anywhere(tmp_path: Path) -> None:
    """A wheel brings its configuration and its sweeper along."""
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(tmp_path), str(ROOT)]
    subprocess.run(build, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    target = tmp_path / "site"
    subprocess.run(
        [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(target), str(wheel)],
        check=True,
    )
    (tmp_path / "empty").mkdir()
    environment = os.environ | {"PYTHONPATH": str(target)}
    sweep = ["-m", "dataset=digits", "image_size=8", "model=mlp", "trainer.max_epochs=1", "logger=none", "seed=1,2"]
    for arguments in (["run", "--cfg", "job"], ["run", *sweep], ["compare", "outputs"]):
        answer = subprocess.run(
            [sys.executable, "-P", "-m", "cnnzoo", *arguments],
            cwd=tmp_path / "empty",
            env=environment | {"CNNZOO_OUTPUTS": "outputs"},
            capture_output=True,
            text=True,
        )
        assert answer.returncode == 0, answer.stderr
    where = subprocess.run(
        [sys.executable, "-P", "-c", "import cnnzoo; print(cnnzoo.__file__)"],
        env=environment,
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert where.stdout.startswith(str(target))
