"""The command `evaluate`: the published table to the last digit, and runs with their own network and data."""

import json
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from cnnzoo.config import Config, run_folder
from cnnzoo.errors import UserError
from cnnzoo.evaluate import as_trained, evaluate_weights
from cnnzoo.run import run

Command = Callable[..., Any]
Compose = Callable[..., Any]

# Test and validation accuracy: University of Amsterdam deep-learning tutorial 5.
PUBLISHED = {
    "googlenet": (0.8970, 0.9040),
    "resnet": (0.9106, 0.9184),
    "preact_resnet": (0.9107, 0.9180),
    "densenet": (0.9023, 0.9072),
}


@pytest.mark.parametrize(
    "network",
    [
        pytest.param("googlenet", marks=pytest.mark.slow),
        "resnet",
        "preact_resnet",
        pytest.param("densenet", marks=pytest.mark.slow),
    ],
)
def test_published_weights_give_the_published_table(
    network: str, cnnzoo: Command, cifar10: Path, published_weights: Path
) -> None:
    answer = cnnzoo("evaluate", f"experiment=uvadlc/{network}", "weights=published", "format=json")
    assert answer.returncode == 0, answer.stderr
    result = json.loads(answer.stdout)
    assert (result["test_accuracy"], result["val_accuracy"]) == PUBLISHED[network]
    assert result["published"]["test_accuracy"] == PUBLISHED[network][0]
    assert result["published"]["val_accuracy"] == PUBLISHED[network][1]
    assert result["params"] == result["published"]["params"]


@pytest.fixture
def finished(small: Compose) -> tuple[Path, dict[str, Any]]:
    """A finished run: its folder and its result."""
    config = small()
    result = run(config)
    return run_folder(config), result


def test_run_is_evaluated_with_its_own_network_and_data(
    finished: tuple[Path, dict[str, Any]], small: Compose, config: Compose
) -> None:
    folder, result = finished
    same = small(name="evaluate")
    other = config("model=densenet", "image_size=20", name="evaluate")  # on CIFAR-10
    for weights in (folder, folder / "checkpoints" / "best.ckpt"):
        for base in (same, other):
            evaluation = evaluate_weights(replace(base, weights=str(weights)))
            assert evaluation["dataset"] == "digits"
            assert evaluation["weights"] == str(folder / "checkpoints" / "best.ckpt")
            for metric in ("model", "val_accuracy", "val_loss", "test_accuracy", "test_loss", "params"):
                assert evaluation[metric] == result[metric]


def test_checkpoint_outside_of_a_run_is_a_file_like_any_other(
    finished: tuple[Path, dict[str, Any]], small: Compose, config: Compose, tmp_path: Path
) -> None:
    folder, result = finished
    file = (folder / "checkpoints" / "best.ckpt").rename(tmp_path / "best.ckpt")
    assert evaluate_weights(small(f"weights={file}", name="evaluate"))["test_loss"] == result["test_loss"]
    with pytest.raises(UserError, match="do not fit DenseNet"):
        evaluate_weights(config("dataset=digits", "model=densenet", f"weights={file}", name="evaluate"))


def test_table_and_ignored_settings(finished: tuple[Path, dict[str, Any]], cnnzoo: Command) -> None:
    folder, result = finished
    answer = cnnzoo("evaluate", f"weights={folder}", "model=densenet", "tta=mirror")
    assert answer.returncode == 0, answer.stderr
    assert f"ignoring model=densenet: model and dataset come from {folder}/config.yaml" in answer.stderr
    assert f"{100 * result['test_accuracy']:.2f} %" in answer.stdout
    assert "test, mirror" in answer.stdout


def test_names_are_not_markup(finished: tuple[Path, dict[str, Any]], cnnzoo: Command) -> None:
    folder, _ = finished
    settings = yaml.safe_load((folder / "config.yaml").read_text())
    (folder / "config.yaml").write_text(yaml.safe_dump(settings | {"name": "[/] :smile:"}))
    answer = cnnzoo("evaluate", f"weights={folder}")
    assert answer.returncode == 0, answer.stderr
    assert "[/] :smile: on digits" in answer.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "weights=… is missing"),
        (("weights=published", "format=jso"), "Did you mean 'json'?"),
    ],
)
def test_mistakes(arguments: tuple[str, ...], message: str, cnnzoo: Command) -> None:
    answer = cnnzoo("evaluate", *arguments)
    assert (answer.returncode, answer.stdout) == (1, "")
    assert message in answer.stderr


# --- where a run's data lie


def write_config(folder: Path, trained: Config, **dataset: Any) -> Path:
    """Leave only a config.yaml, as runs of schema 1 did: `dataset.source` had folders of its own."""
    values = asdict(trained)
    values["dataset"] = {**values["dataset"], **dataset}
    del values["dataset"]["cache"], values["weights"], values["freeze"], values["warmup"], values["trusted_packages"]
    folder.mkdir()
    (folder / "config.yaml").write_text(yaml.safe_dump(values))
    return folder


def test_standard_set_lies_where_this_machine_has_it(config: Compose, tmp_path: Path) -> None:
    trained = config("experiment=uvadlc/resnet", "paths.data=/elsewhere", "dataset.workers=7")
    source = trained.dataset.source | {"root": "/elsewhere"}
    folder = write_config(tmp_path / "run", trained, source=source)
    _, result = as_trained(config("dataset=digits", "paths.data=/here", "dataset.workers=3", name="evaluate"), folder)
    assert result.dataset.source == trained.dataset.source
    assert (result.dataset.name, result.dataset.root, result.dataset.workers) == ("cifar10", "/here", 3)
    assert (result.name, result.model, result.published) == ("resnet", trained.model, trained.published)


def test_folder_of_ones_own_stays_where_it_is(config: Compose, tmp_path: Path) -> None:
    for split in ("one", "two"):
        (tmp_path / "images" / split).mkdir(parents=True)
    trained = config("dataset=image_folder", f"dataset.root={tmp_path}/images", "paths.data=/elsewhere")
    source = trained.dataset.source | {"cache": "/elsewhere"}
    for folder in (
        write_config(tmp_path / "schema1", trained, source=source),
        write_config(tmp_path / "now", trained),
    ):
        _, result = as_trained(config("paths.data=/here", name="evaluate"), folder)
        assert result.dataset.root == f"{tmp_path}/images"
        assert result.dataset.cache == "/here"
        assert "cache" not in result.dataset.source


def test_folder_that_is_no_runs(config: Compose, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is no run's folder"):
        evaluate_weights(config(f"weights={tmp_path}", name="evaluate"))


@pytest.mark.parametrize("content", ["[1]", "{}", "dataset: {}", "dataset: {source: {}}"])
def test_file_that_is_no_runs_configuration(content: str, config: Compose, tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text(content)
    with pytest.raises(UserError, match=r"config\.yaml"):
        as_trained(config(name="evaluate"), tmp_path)
