"""Loggers by name: where they write, several at once, and a resumed run that continues."""

import importlib.util
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cnnzoo.config import Config, config_hash
from cnnzoo.errors import UserError
from cnnzoo.training.loggers import open_loggers

Train = Callable[..., Any]


def needs(package: str) -> pytest.MarkDecorator:
    missing = importlib.util.find_spec(package) is None
    return pytest.mark.skipif(missing, reason=f"{package} is not installed: pip install 'cnnzoo[{package}]'")


def test_tensorboard_and_csv_at_once(train: Train) -> None:
    """Scalars and the module graph for TensorBoard."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    result = train("logger=[tensorboard,csv]")
    events = EventAccumulator(str(result.folder / "tensorboard"))
    events.Reload()
    tags: dict[str, Any] = events.Tags()
    assert tags["graph"]
    assert set(tags["scalars"]) == {
        "epoch",
        "learning_rate",
        "train_loss",
        "train_loss_step",
        "train_accuracy",
        "val_loss",
        "val_accuracy",
        "epoch_seconds",
        "images_per_second",
    }
    last = events.Scalars("val_accuracy")[-1]
    assert last.value == pytest.approx(result.results[-1]["val_accuracy"])
    assert "train_loss" in (result.folder / "csv" / "metrics.csv").read_text().splitlines()[0]


def test_graph_can_be_left_out(train: Train) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    result = train("logger=tensorboard", "logger.tensorboard.log_graph=false")
    events = EventAccumulator(str(result.folder / "tensorboard"))
    events.Reload()
    assert not events.Tags()["graph"]


def test_a_resumed_run_drops_the_steps_that_it_repeats(interrupt_and_resume: Train) -> None:
    """The run failed after step 14 (counted from 0), and goes on after its second epoch of six steps."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    result = interrupt_and_resume("logger=tensorboard", "trainer.max_epochs=3", "+trainer.extra.log_every_n_steps=1")
    events = EventAccumulator(str(result.folder / "tensorboard"))
    events.Reload()
    assert [event.step for event in events.Scalars("train_loss_step")] == list(range(18))
    assert len(events.Images("train_images")) == 1


def test_loss_of_a_step_is_that_of_all_its_batches(train: Train) -> None:
    """With accumulated gradients Lightning divides each batch's loss; every third step of a batch is logged."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    result = train(
        "logger=tensorboard", "trainer.accumulate_grad_batches=2", "+trainer.extra.log_every_n_steps=2",
        "trainer.max_epochs=1", "optimizer.lr=0",
    )  # fmt: skip
    events = EventAccumulator(str(result.folder / "tensorboard"))
    events.Reload()
    found = events.Scalars("train_loss_step")
    assert [event.step for event in found] == [0, 2]
    assert found[0].value == pytest.approx(result.results[0]["train_loss"], rel=0.1)


def test_no_logger_leaves_metrics_csv(train: Train) -> None:
    result = train("logger=none")
    assert sorted(path.name for path in result.folder.iterdir()) == ["checkpoints", "metrics.csv"]


@needs("wandb")
def test_wandb_offline_continues_under_the_hash(
    train: Train, interrupt_and_resume: Train, monkeypatch: pytest.MonkeyPatch
) -> None:
    import wandb

    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    result = interrupt_and_resume("logger=wandb", "trainer.max_epochs=3")
    assert wandb.run is None
    runs = list((result.folder / "wandb").glob("offline-run-*"))
    assert {path.name.rpartition("-")[2] for path in runs} == {config_hash(result.config)}


@needs("mlflow")
def test_mlflow_in_a_local_folder_continues_its_run(interrupt_and_resume: Train, tmp_path: Path) -> None:
    from mlflow.tracking import MlflowClient

    result = interrupt_and_resume("logger=mlflow", "trainer.max_epochs=3")
    client = MlflowClient(f"sqlite:///{tmp_path}/outputs/mlflow.db")
    experiment = client.get_experiment_by_name("cnnzoo")
    assert experiment is not None
    (run,) = client.search_runs([experiment.experiment_id])
    assert run.info.run_name == "digits/mlp/seed42"
    assert run.info.status == "FINISHED"
    assert run.data.params["config/optimizer/lr"] == "0.05"
    history = [metric.value for metric in client.get_metric_history(run.info.run_id, "val_accuracy")]
    assert history == pytest.approx([row["val_accuracy"] for row in result.results])


@pytest.mark.parametrize("name", ["wandb", "mlflow"])
def test_missing_package_names_the_extra(
    name: str, tiny: Callable[..., Config], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda package: None)
    with (
        pytest.raises(UserError, match=rf"pip install 'cnnzoo\[{name}\]'"),
        open_loggers(tiny(f"logger={name}"), tmp_path),
    ):
        pass


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("+logger.mine._target_=torch.nn.Linear", r"logger\.mine\._target_=torch\.nn\.Linear.*Logger"),
        ("logger.tensorboard=true", r"logger\.tensorboard: expected a _target_"),
    ],
)
def test_what_is_no_logger_is_refused(override: str, words: str, tiny: Callable[..., Config], tmp_path: Path) -> None:
    config = tiny("logger=tensorboard", override)
    with pytest.raises(UserError, match=words), open_loggers(config, tmp_path):
        pass


def test_hyperparameters_are_in_the_checkpoint(train: Train) -> None:
    result = train()
    stored = result.checkpoint()["hyper_parameters"]
    assert stored["config_hash"] == config_hash(result.config)
    assert json.loads(json.dumps(stored["config"]))["optimizer"]["lr"] == 0.05
