"""Trainings that are kept with the repository: how they get there, and that their weights give their figures."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml

from benchmarks.keep import keep
from cnnzoo import load_model
from cnnzoo.config import run_folder
from cnnzoo.config.schema import PublishedConfig
from cnnzoo.errors import UserError
from cnnzoo.evaluate import evaluate_weights
from cnnzoo.nn import weights
from cnnzoo.nn.build import build_model
from cnnzoo.run import run

Command = Callable[..., Any]
Compose = Callable[..., Any]

METRICS = ("val_accuracy", "val_loss", "test_accuracy", "test_loss")
KEPT = {"config.json", "config.yaml", "metrics.csv", "model.safetensors", "predictions.npz", "README.md", "result.json"}


@pytest.fixture
def records(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(weights, "RECORDS", tmp_path / "records")
    return weights.RECORDS


@pytest.fixture
def published(small: Compose) -> Compose:
    """Compose the small run as one of a published network."""
    entry = PublishedConfig(model="resnet", dataset="digits", source="a test")
    return lambda *overrides, name="run": replace(small(*overrides, name=name), published=entry)


@pytest.fixture
def finished(published: Compose) -> tuple[Path, dict[str, Any]]:
    config = published()
    result = run(config)
    return run_folder(config), result


def test_record_is_a_run_that_can_be_used(
    finished: tuple[Path, dict[str, Any]], records: Path, published: Compose
) -> None:
    folder, result = finished
    record = keep(folder, records)
    assert record == records / "resnet" / "seed42"
    assert {path.name for path in record.iterdir()} == KEPT
    assert [path.name for path in record.parent.iterdir()] == ["seed42"]

    evaluation = evaluate_weights(published("weights=cnnzoo", name="evaluate"))
    assert evaluation["weights"] == str(record / "model.safetensors")
    assert {name: evaluation[name] for name in METRICS} == {name: result[name] for name in METRICS}

    images = torch.randint(256, (4, 1, 16, 16), dtype=torch.uint8)
    ours, theirs = load_model(record), load_model(folder)
    assert torch.equal(ours(ours.preprocess(images)), theirs(theirs.preprocess(images)))


def test_a_training_starts_from_a_record(
    finished: tuple[Path, dict[str, Any]], records: Path, published: Compose
) -> None:
    folder, _ = finished
    keep(folder, records)
    config = published("weights=cnnzoo")
    network = build_model(config)
    weights.load_initial_weights(network, config)
    expected = load_model(folder).network.state_dict()
    assert all(torch.equal(value, expected[name]) for name, value in network.state_dict().items())


def test_record_names_no_folder_of_the_machine(finished: tuple[Path, dict[str, Any]], records: Path) -> None:
    folder, _ = finished
    record = keep(folder, records)
    config = yaml.safe_load((record / "config.yaml").read_text())
    assert config["paths"] == {"data": "data", "weights": "weights", "outputs": "outputs"}
    paths = yaml.safe_load((folder / "config.yaml").read_text())["paths"].values()
    texts = [path.read_text() for path in record.iterdir() if path.suffix in {".yaml", ".json", ".csv", ".md"}]
    assert not [path for path in paths for text in texts if path in text]


def test_a_new_record_replaces_the_old_one_whole(finished: tuple[Path, dict[str, Any]], records: Path) -> None:
    folder, _ = finished
    (keep(folder, records) / "left.txt").touch()
    assert {path.name for path in keep(folder, records).iterdir()} == KEPT


def test_what_is_no_record(finished: tuple[Path, dict[str, Any]], records: Path, small: Compose) -> None:
    folder, result = finished
    plain = small("seed=1")
    run(plain)
    with pytest.raises(UserError, match="of no published network"):
        keep(run_folder(plain), records)
    (folder / "result.json").write_text(json.dumps(result | {"status": "failed"}))
    with pytest.raises(UserError, match="not the folder of a finished run"):
        keep(folder, records)
    assert not records.exists()


def test_weights_of_another_run_are_refused(
    finished: tuple[Path, dict[str, Any]], records: Path, published: Compose
) -> None:
    folder, _ = finished
    other = published("seed=1")
    run(other)
    one, two = keep(folder, records), keep(run_folder(other), records)
    (two / "model.safetensors").replace(one / "model.safetensors")
    with pytest.raises(UserError, match=r"model\.safetensors was made by another configuration"):
        load_model(one)


@pytest.mark.parametrize(
    ("kind", "message"),
    [("small", "of no published network.*experiment=uvadlc/resnet"), ("published", "holds no training of resnet")],
)
@pytest.mark.usefixtures("records")
def test_no_record(kind: str, message: str, request: pytest.FixtureRequest) -> None:
    config = request.getfixturevalue(kind)("weights=cnnzoo", name="evaluate")
    with pytest.raises(UserError, match=message):
        evaluate_weights(config)


# --- those of the repository

RECORDS = sorted(weights.RECORDS.glob("*/seed*"))


@pytest.mark.parametrize(
    "record",
    [
        pytest.param(path, marks=[pytest.mark.slow] if path.parent.name in {"googlenet", "densenet"} else [])
        for path in RECORDS
    ],
    ids=lambda path: f"{path.parent.name}-{path.name}",
)
def test_weights_give_the_recorded_figures(record: Path, cnnzoo: Command, cifar10: Path) -> None:
    result = json.loads((record / "result.json").read_text())
    answer = cnnzoo("evaluate", f"weights={record}", "format=json")
    assert answer.returncode == 0, answer.stderr
    evaluation = json.loads(answer.stdout)
    for metric in ("val_accuracy", "test_accuracy", "params"):
        assert evaluation[metric] == result[metric]
    predictions = np.load(record / "predictions.npz")
    assert (predictions["logits"].argmax(axis=1) == predictions["labels"]).mean() == result["test_accuracy"]


@pytest.mark.parametrize("record", RECORDS, ids=lambda path: f"{path.parent.name}-{path.name}")
def test_record_is_of_the_whole_recipe(record: Path) -> None:
    config, result = (
        yaml.safe_load((record / "config.yaml").read_text()),
        json.loads((record / "result.json").read_text()),
    )
    assert result["epochs"] == config["trainer"]["max_epochs"] == config["published"]["epochs"]
    assert (result["seed"], result["params"]) == (config["seed"], config["published"]["params"])
    assert not result["git_commit"].endswith("-dirty")
