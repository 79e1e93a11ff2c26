"""Runs in a TensorBoard that is served, and asked as its page asks it."""

import csv
import io
import json
import math
import re
import subprocess
import sys
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import cnnzoo
from cnnzoo.config import run_folder
from cnnzoo.data.dataset import load_dataset

TINY = (
    "dataset=digits",
    "dataset.batch_size=100",
    "trainer=cpu",
    "trainer.max_epochs=2",
    "trainer.progress_bar=false",
    "scheduler=none",
)
RUNS = {
    "mlp": ("model=mlp", "model.widths=[16]", "image_size=8", "augmentation=none"),
    "two_conv": (
        "model=two_conv",
        "optimizer=sgd",
        "+trainer.extra.log_every_n_steps=5",
        "logger.tensorboard.histograms=true",
    ),
}


class Served:
    """TensorBoard's data endpoints."""

    def __init__(self, address: str) -> None:
        self.address = address

    def raw(self, path: str, body: Any = None, **query: Any) -> bytes:
        url = f"{self.address}data/{path}?{urllib.parse.urlencode(query)}"
        headers = {"Content-Type": "application/json", "X-TensorBoard-Feature-Flags": "{}"}
        data = None if body is None else json.dumps(body).encode()
        with urllib.request.urlopen(urllib.request.Request(url, data, headers), timeout=60) as answer:
            content: bytes = answer.read()
        return content

    def ask(self, path: str, body: Any = None, **query: Any) -> Any:
        return json.loads(self.raw(path, body, **query))

    def tags(self, plugin: str) -> dict[str, set[str]]:
        return {run: set(tags) for run, tags in self.ask(f"plugin/{plugin}/tags").items()}


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """What the finished runs of two networks have in result.json, and `run`, their name in TensorBoard."""
    outputs = tmp_path_factory.mktemp("tensorboard")
    found = {}
    for name, overrides in RUNS.items():
        config = cnnzoo.compose([*TINY, *overrides, f"paths.outputs={outputs}"])
        result = cnnzoo.run(config)
        folder = run_folder(config)
        found[name] = result | {"folder": folder, "outputs": outputs}
        found[name]["run"] = f"{folder.relative_to(outputs)}/tensorboard"
    return found


@pytest.fixture(scope="module")
def served(results: dict[str, dict[str, Any]]) -> Iterator[Served]:
    command = [sys.executable, "-m", "tensorboard.main", "--logdir", str(results["mlp"]["outputs"]), "--port", "0"]
    with subprocess.Popen([*command, "--host", "127.0.0.1"], stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        address = next(match[0] for line in process.stderr if (match := re.search(r"http://127\S+", line)))
        tensorboard = Served(address)
        deadline = time.monotonic() + 60
        while len(tensorboard.ask("runs")) < len(RUNS) and time.monotonic() < deadline:
            time.sleep(0.2)
        yield tensorboard
        process.terminate()


def test_scalars(served: Served, results: dict[str, dict[str, Any]]) -> None:
    """Each epoch's of training and validation, single steps' every so often, the test's once."""
    for result in results.values():
        run = result["run"]
        assert served.tags("scalars")[run] >= {"train_loss", "train_accuracy", "train_loss_step", "val_loss"}

        def points(tag: str, run: str = run) -> list[Any]:
            return [(step, value) for _, step, value in served.ask("plugin/scalars/scalars", run=run, tag=tag)]

        with (result["folder"] / "metrics.csv").open() as file:
            rows = list(csv.DictReader(file))
        steps = int(rows[-1]["step"])
        assert points("val_accuracy") == [
            (int(row["step"]) - 1, pytest.approx(float(row["val_accuracy"]))) for row in rows
        ]
        assert points("test_accuracy") == [(steps - 1, pytest.approx(result["test_accuracy"]))]
        assert points("test_loss") == [(steps - 1, pytest.approx(result["test_loss"]))]
        every = 5 if result["model"] == "two_conv" else 50
        assert [step for step, _ in points("train_loss_step")] == list(range(0, steps, every))
        assert points("train_loss_step")[0][1] == pytest.approx(math.log(10), rel=0.4), "before anything is learnt"


def test_graph(served: Served, results: dict[str, dict[str, Any]]) -> None:
    run = results["two_conv"]["run"]
    graph = served.raw("plugin/graphs/graph", run=run, conceptual="false").decode()
    assert "Classifier/TwoConv" in graph
    assert "aten::_convolution" in graph


def image(served: Served, run: str, tag: str) -> Any:
    (entry,) = served.ask("plugin/images/images", run=run, tag=tag, sample=0)
    query = dict(urllib.parse.parse_qsl(entry["query"]))
    return np.asarray(Image.open(io.BytesIO(served.raw("plugin/images/individualImage", **query))))


def test_pictures(served: Served, results: dict[str, dict[str, Any]]) -> None:
    """A grid of the first 64 images, as the network gets them, eight in a row, and the confusion of classes."""
    run = results["mlp"]["run"]
    assert served.tags("images")[run] == {"train_images", "test_confusion"}
    grid = image(served, run, "train_images").astype(float)
    assert grid.shape[:2] == (64, 64)
    dataset = load_dataset(cnnzoo.compose(["dataset=digits"]).dataset)
    tile = torch.from_numpy(grid[:8, :8].mean(axis=2))
    distance = (dataset.train.in_memory().images[:, 0].double() - tile).abs().amax(dim=(1, 2))
    assert distance.min() <= 1, "the first tile is a training image, neither normalised nor mixed with others"
    assert image(served, run, "test_confusion").shape[0] > 200


def test_runs_are_compared_by_settings_and_test_metrics(served: Served, results: dict[str, dict[str, Any]]) -> None:
    """What only one of the networks has is there as well."""
    experiment = served.ask("plugin/hparams/experiment", {"experimentName": ""})
    names = {info["name"] for info in experiment["hparamInfos"]}
    assert names >= {"name", "seed", "optimizer.lr", "dataset.name", "model.widths", "optimizer.momentum"}
    metrics = [{"group": "", "tag": "test_accuracy"}]
    assert metrics[0] in [{"group": info["name"].get("group", ""), "tag": info["name"]["tag"]}
                          for info in experiment["metricInfos"]]  # fmt: skip
    answer = served.ask(
        "plugin/hparams/session_groups",
        {
            "experimentName": "",
            "allowedStatuses": ["STATUS_SUCCESS", "STATUS_UNKNOWN", "STATUS_RUNNING", "STATUS_FAILURE"],
            "colParams": [{"metric": {"group": "", "tag": "test_accuracy"}, "order": "ORDER_DESC"}],
            "sliceSize": 10,
        },
    )
    shown = {
        group["hparams"]["name"]: {m["name"]["tag"]: m["value"] for m in group["metricValues"]}
        for group in answer["sessionGroups"]
    }
    assert {name: tags["test_accuracy"] for name, tags in shown.items()} == {
        name: pytest.approx(result["test_accuracy"]) for name, result in results.items()
    }


def test_histograms_where_they_are_asked_for(served: Served, results: dict[str, dict[str, Any]]) -> None:
    tags = served.tags("histograms")
    assert results["mlp"]["run"] not in tags
    assert any(tag.endswith("weight") for tag in tags[results["two_conv"]["run"]])


def test_settings_of_the_logger_are_no_other_run() -> None:
    plain, other = (cnnzoo.compose(["logger.tensorboard.histograms=" + value]) for value in ("false", "true"))
    assert run_folder(plain) == run_folder(other)
