"""One run from its configuration to its folder, on real digits; interruptions, repetitions and mistakes."""

import csv
import json
import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml

import cnnzoo as package
from cnnzoo.config import Config, run_folder
from cnnzoo.errors import UserError
from cnnzoo.results.run_folder import locked, read_result
from cnnzoo.run import run

Compose = Callable[..., Config]
Command = Callable[..., "subprocess.CompletedProcess[str]"]


def again(config: Config) -> Config:
    return replace(config, rerun=True)


def metrics(folder: Path) -> list[dict[str, str]]:
    """The rows of metrics.csv without time and memory."""
    with (folder / "metrics.csv").open() as file:
        return [
            {k: v for k, v in row.items() if "second" not in k and "memory" not in k} for row in csv.DictReader(file)
        ]


KEYS = """
status model dataset seed params macs epochs best_epoch val_accuracy val_loss test_accuracy test_loss
train_seconds images_per_second peak_memory_bytes device precision versions git_commit config_hash schema_version
"""
FILES = """config.yaml run.log metrics.csv checkpoints/best.ckpt checkpoints/last.ckpt predictions.npz result.json"""


def test_what_a_run_leaves(small: Compose) -> None:
    config = small("logger=tensorboard")
    result = run(config, "the command")
    folder = run_folder(config)
    assert {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()} >= set(FILES.split())
    assert json.loads((folder / "result.json").read_text()) == result
    assert result.keys() >= set(KEYS.split())
    assert (result["status"], result["model"], result["dataset"], result["epochs"]) == (
        "completed",
        "resnet",
        "digits",
        2,
    )
    assert result["classes"] == [str(digit) for digit in range(10)]
    assert yaml.safe_load((folder / "config.yaml").read_text()) == asdict(config)
    # the metrics follow from the files
    predictions = np.load(folder / "predictions.npz")
    assert predictions["logits"].shape == (360, 10)
    assert result["test_accuracy"] == np.mean(predictions["logits"].argmax(1) == predictions["labels"])
    rows = metrics(folder)
    assert [row["epoch"] for row in rows] == ["0", "1"]
    best = max(rows, key=lambda row: float(row["val_accuracy"]))
    assert result["best_epoch"] == int(best["epoch"]) + 1
    assert result["val_accuracy"] == float(best["val_accuracy"])
    # scalars and the module graph for TensorBoard
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder / "tensorboard"))
    events.Reload()
    tags = events.Tags()
    assert tags["graph"]
    assert set(tags["scalars"]) >= {"train_loss", "train_accuracy", "val_loss", "val_accuracy", "learning_rate"}
    assert events.Scalars("val_accuracy")[-1].value == pytest.approx(float(rows[-1]["val_accuracy"]))


def test_two_runs_are_identical_bit_for_bit(small: Compose) -> None:
    config = small("augmentation=flip_crop")
    folder = run_folder(config)

    def state() -> dict[str, torch.Tensor]:
        loaded: dict[str, Any] = torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)
        return dict(loaded["state_dict"])

    run(config)
    first = metrics(folder), state()
    run(again(config))
    assert metrics(folder) == first[0]
    assert all(torch.equal(a, b) for a, b in zip(state().values(), first[1].values(), strict=True))


def test_zero_is_a_seed(small: Compose) -> None:
    losses = {seed: run(small(f"seed={seed}", "trainer.max_epochs=1"))["test_loss"] for seed in (0, 1)}
    assert losses[0] != losses[1]
    assert run(again(small("seed=0", "trainer.max_epochs=1")))["test_loss"] == losses[0]


def test_finished_run_is_skipped(small: Compose) -> None:
    config = small("trainer.max_epochs=1")
    first = run(config)
    written = (run_folder(config) / "result.json").stat().st_mtime_ns
    assert run(config) == first
    assert (run_folder(config) / "result.json").stat().st_mtime_ns == written


def test_edited_network_is_noticed(
    config: Compose, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    network = tmp_path / "edited_network.py"
    code = (
        "from torch import nn\n\n\nclass Net(nn.Sequential):\n    def __init__(self, num_classes: int) -> None:\n"
        "        super().__init__(nn.Flatten(), nn.Linear(64, num_classes))\n"
    )
    network.write_text(code)
    monkeypatch.syspath_prepend(str(tmp_path))
    own = config(
        "dataset=digits", "image_size=8", "model._target_=edited_network.Net", "trainer.max_epochs=1", "logger=none"
    )
    assert run(own)["source_digests"].keys() >= {"edited_network", "cnnzoo.data.sources"}
    run(own)
    assert "has changed" not in caplog.text
    network.write_text(code + "# another comment\n")
    run(own)
    assert "its code has changed since (rerun=true trains again): edited_network" in caplog.text


def test_rerun_keeps_the_old_result_until_the_new_one_stands(small: Compose, monkeypatch: pytest.MonkeyPatch) -> None:
    config = small("trainer.max_epochs=1")
    folder = run_folder(config)
    first = run(config)
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file() and path.name != "run.log"}
    with monkeypatch.context() as context:
        context.setattr("cnnzoo.data.dataset.load_dataset", _no_data)
        with pytest.raises(UserError, match="no data today"):
            run(again(config))
    after = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file() and path.name != "run.log"}
    assert after == before
    second = run(again(config))
    assert second["test_loss"] == first["test_loss"]
    assert not (folder / ".previous").exists()


def _no_data(*args: Any) -> None:
    raise UserError("no data today")


def test_network_that_exits_is_a_failure(small: Compose, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cnnzoo.nn.build.build_model", lambda config: sys.exit(0))
    config = small()
    with pytest.raises(UserError, match=r"sys\.exit\(0\)"):
        run(config)
    assert (read_result(run_folder(config)) or {})["status"] == "failed"


def test_killed_run_resumes_and_ends_as_one_left_alone(tmp_path: Path) -> None:
    """SIGKILL after the second epoch; dropout and augmentation make every draw count."""
    overrides = [
        "dataset=digits",
        "image_size=28",
        "model=inception_a",
        "trainer.max_epochs=5",
        "augmentation=crop",
        "optimizer.lr=0.01",
        "logger=none",
        "scheduler=onecycle",
    ]
    command = [sys.executable, "-m", "cnnzoo.run", *overrides]
    alone = subprocess.run(
        command, cwd=tmp_path, env=os.environ | {"CNNZOO_OUTPUTS": str(tmp_path / "alone")}, capture_output=True
    )
    assert alone.returncode == 0, alone.stderr
    killed = subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.DEVNULL)
    pattern = "outputs/digits/inception_a/*/metrics.csv"
    while killed.poll() is None:
        if any(len(path.read_text().splitlines()) >= 3 for path in tmp_path.glob(pattern)):
            killed.send_signal(signal.SIGKILL)
            break
        time.sleep(0.01)
    killed.wait()
    (folder,) = (path.parent for path in tmp_path.glob(pattern))
    assert not (folder / "result.json").exists()
    assert len(metrics(folder)) < 5
    resumed = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert resumed.returncode == 0, resumed.stderr
    assert "resuming from" in resumed.stderr
    (reference,) = (tmp_path / "alone").glob("digits/inception_a/*")
    assert metrics(folder) == metrics(reference)
    assert np.array_equal(*(np.load(f / "predictions.npz")["logits"] for f in (folder, reference)))


def test_ctrl_c(tmp_path: Path, small_overrides: tuple[str, ...]) -> None:
    command = [sys.executable, "-m", "cnnzoo.run", *small_overrides, "trainer.max_epochs=200"]
    # a child of a shell's background job would ignore SIGINT
    process = subprocess.Popen(
        command,
        cwd=tmp_path,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    while process.poll() is None and not any(len(f.read_text()) > 200 for f in tmp_path.rglob("metrics.csv")):
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate()
    assert process.returncode == 130, stderr
    assert stderr.endswith("interrupted; run the same command to resume\n")
    assert not list(tmp_path.rglob("result.json"))


def test_one_process_at_a_time(small: Compose) -> None:
    config = small()
    with locked(run_folder(config)), pytest.raises(UserError, match="Another process"):
        run(config)
    assert not (run_folder(config) / "result.json").exists()


def test_failure_is_recorded_and_retried(small: Compose) -> None:
    exploding = small("optimizer=sgd", "optimizer.lr=1e30")
    with pytest.raises(UserError, match=r"optimizer\.lr"):
        run(exploding)
    result = json.loads((run_folder(exploding) / "result.json").read_text())
    assert result["status"] == "failed"
    assert "loss" in result["error"]
    with pytest.raises(UserError, match=r"optimizer\.lr"):
        run(exploding)


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        torch.OutOfMemoryError("CUDA out of memory."),
        RuntimeError("DefaultCPUAllocator: can't allocate memory"),
    ],
    ids=["python", "cuda", "cpu"],
)
def test_out_of_memory_names_what_to_lower(small: Compose, monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    def fail(*args: Any) -> None:
        raise error

    monkeypatch.setattr("cnnzoo.training.classifier.Classifier.training_step", fail)
    config = small()
    with pytest.raises(UserError, match=r"dataset\.batch_size=64 images of image_size=16: lower"):
        run(config)
    assert "what=batch_size" in json.loads((run_folder(config) / "result.json").read_text())["error"]


def test_checkpoint_of_another_run_is_refused(small: Compose) -> None:
    config, other = small("trainer.max_epochs=1"), small("trainer.max_epochs=1", "seed=7")
    run(other)
    target = run_folder(config) / "checkpoints"
    target.mkdir(parents=True)
    (run_folder(other) / "checkpoints" / "last.ckpt").rename(target / "last.ckpt")
    with pytest.raises(UserError, match="another configuration"):
        run(config)
    (target / "last.ckpt").write_bytes(b"not a checkpoint")
    with pytest.raises(UserError, match="cannot be read"):
        run(config)
    assert run(again(config))["status"] == "completed"


SETTINGS = [
    ("model._target_=torchvision.models.shufflenet_v2_x0_5", "dataset.channels=3", "image_size=32"),
    ("scheduler=cosine", "optimizer=sgd", "augmentation=flip_pad"),
    ("scheduler=none", "loss.label_smoothing=0.1", "trainer.accumulate_grad_batches=2"),
    ("callbacks=ema", "trainer.precision=32-true", "trainer.channels_last=false"),
    ("callbacks=early_stopping", "trainer.check_val_every_n_epoch=2", "scheduler=onecycle"),
]


@pytest.mark.parametrize("overrides", SETTINGS, ids=lambda overrides: overrides[0])
def test_settings_train(config: Compose, small_overrides: tuple[str, ...], overrides: tuple[str, ...]) -> None:
    base = [o for o in small_overrides if not (overrides[0].startswith("model._target_") and o.startswith("model."))]
    result = run(config(*base, *overrides))
    assert result["status"] == "completed"
    assert math.isfinite(result["test_loss"])


def test_training_learns(small: Compose) -> None:
    """A linear classifier reaches about 96 % on these digits; a network that learns is not far from that."""
    assert run(small("trainer.max_epochs=8", "image_size=16"))["test_accuracy"] > 0.9


def test_two_processes_train_one_run(config: Compose) -> None:
    """Data-parallel over two CPU processes: each takes half of every batch, so a network without batch norm
    gets the weights that one process gives it, to rounding."""
    common = (
        "model=mlp",
        "model.widths=[16]",
        "dataset=digits",
        "image_size=8",
        "trainer.max_epochs=2",
        "trainer.precision=32-true",
        "logger=none",
        "trainer.accelerator=cpu",
    )
    one, two = (config(*common, f"trainer.devices={n}") for n in (1, 2))
    results = [run(each) for each in (one, two)]
    assert results[1]["test_loss"] == pytest.approx(results[0]["test_loss"], rel=1e-4)
    rows = [metrics(run_folder(each)) for each in (one, two)]
    assert [float(row["train_loss"]) for row in rows[1]] == pytest.approx(
        [float(row["train_loss"]) for row in rows[0]], rel=1e-4
    )
    assert "epoch 2/2" in (run_folder(two) / "run.log").read_text()


def test_public_interface(small_overrides: tuple[str, ...], tmp_path: Path) -> None:
    """`cnnzoo.compose`, `run`, `load_results` and `load_model`, as in a notebook."""
    config = package.compose([*small_overrides, "seed=1"])
    result = package.run(config)
    runs = package.load_results(tmp_path / "outputs")
    (row,) = runs.to_dict("records")
    assert (row["test_accuracy"], row["seed"]) == (result["test_accuracy"], 1)
    model = package.load_model(row["folder"])
    assert model.classes == tuple("0123456789")
    from cnnzoo.data.dataset import load_dataset

    test = load_dataset(config.dataset).test
    images, _ = next(test.fetch(torch.arange(len(test)), [slice(0, len(test))]))
    logits = model(model.preprocess(images)).detach().numpy()
    stored = np.load(Path(row["folder"]) / "predictions.npz")["logits"]
    assert np.allclose(logits, stored, atol=1e-4)
    assert (logits.argmax(1) == stored.argmax(1)).all()
    with pytest.raises(UserError, match="not the folder of a finished run"):
        package.load_model(tmp_path)
