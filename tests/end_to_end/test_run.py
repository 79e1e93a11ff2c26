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


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)], ids=["SIGINT", "SIGTERM"])
def test_signal_ends_the_command(number: int, code: int, tmp_path: Path, small_overrides: tuple[str, ...]) -> None:
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
    process.send_signal(number)
    _, stderr = process.communicate()
    assert process.returncode == code, stderr
    assert stderr.endswith("interrupted; run the same command to resume\n")
    assert not list(tmp_path.rglob("result.json"))


def lose(folder: Path) -> None:
    (folder / "metrics.csv").unlink()


def cut(folder: Path) -> None:
    text = (folder / "metrics.csv").read_text()
    (folder / "metrics.csv").write_text(text[: text.index("\n") + 20])


@pytest.mark.parametrize("damage", [lose, cut])
def test_metrics_csv_is_written_again_from_the_checkpoint(damage: Callable[[Path], None], small: Compose) -> None:
    """After the training, in the final test."""
    config = small()
    folder = run_folder(config)
    first, rows = run(config), metrics(folder)
    (folder / "result.json").unlink()
    damage(folder)
    second = run(config)
    assert metrics(folder) == rows
    assert (second["epochs"], second["best_epoch"]) == (2, first["best_epoch"])
    assert second["train_seconds"] == first["train_seconds"]


ODD_NETWORK = """
import torch
from torch import nn


class Net(nn.Sequential):
    def __init__(self, num_classes: int, in_test: bool) -> None:
        super().__init__(nn.Flatten(), nn.Linear(64, num_classes))
        self.in_test = in_test

    def forward(self, x):
        odd = not self.training and torch.is_inference_mode_enabled() == self.in_test
        return super().forward(x) * (float("nan") if odd else 1)
"""


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (("+model.in_test=false",), "validation loss is nan in epoch 1"),
        (("+model.in_test=true",), "validation loss of the best checkpoint is nan"),
        (("+model.in_test=true", "dataset.val_size=0"), "test loss of the best checkpoint is nan"),
    ],
)
def test_loss_that_is_no_number_except_in_training(
    overrides: tuple[str, ...], words: str, config: Compose, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "odd_network.py").write_text(ODD_NETWORK)
    monkeypatch.syspath_prepend(str(tmp_path))
    own = config(
        *("dataset=digits", "image_size=8", "model._target_=odd_network.Net", "trainer.max_epochs=1", "logger=none"),
        *("trainer=cpu", "trainer.progress_bar=false", *overrides),
    )
    with pytest.raises(UserError, match=words):
        run(own)
    text = (run_folder(own) / "result.json").read_text()
    assert json.loads(text)["status"] == "failed"
    assert not (run_folder(own) / "predictions.npz").exists()


def test_result_that_contradicts_the_training(small: Compose) -> None:
    """The weights in the checkpoints are replaced by others, in files that are whole."""
    config = small()
    folder = run_folder(config)
    run(config)
    (folder / "result.json").unlink()
    for file in (folder / "checkpoints").iterdir():
        content = torch.load(file, weights_only=True)
        content["state_dict"] = {name: torch.zeros_like(value) for name, value in content["state_dict"].items()}
        torch.save(content, file)
    with pytest.raises(UserError, match=r"has \d+\.\d\d % validation accuracy, but metrics\.csv"):
        run(config)


def test_full_disk_leaves_a_run_that_resumes(small: Compose) -> None:
    config = small()
    folder = run_folder(config)
    (folder / "checkpoints").mkdir(parents=True)
    (folder / "checkpoints" / f".best.ckpt.{os.getpid()}").symlink_to("/dev/full")
    with pytest.raises(UserError, match=r"best\.ckpt cannot be written: no space is left on its disk"):
        run(config)
    assert (folder / "checkpoints" / "last.ckpt").is_file()
    assert run(config)["status"] == "completed"


def test_only_what_belongs_to_a_finished_run_stays(small: Compose) -> None:
    config = small()
    checkpoints = run_folder(config) / "checkpoints"
    checkpoints.mkdir(parents=True)
    (checkpoints / ".last.ckpt.12345").write_bytes(b"half a checkpoint, of a process that was killed")
    run(config)
    assert {file.name for file in checkpoints.iterdir()} == {"best.ckpt", "last.ckpt"}


def test_precision_is_recorded_as_it_ran(small: Compose) -> None:
    double = small("trainer.precision=64-true", "trainer.accelerator=cpu")
    result = run(double)
    assert (result["status"], result["precision"]) == ("completed", "64-true")
    rows = metrics(run_folder(double))
    assert result["val_accuracy"] == max(float(row["val_accuracy"]) for row in rows)
    with pytest.raises(UserError, match=r"trainer\.precision=16-mixed: .*on the CPU; expected bf16-mixed"):
        run(small("trainer.precision=16-mixed", "trainer.accelerator=cpu"))


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
        RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"),
        UserError("model failed"),
    ],
    ids=["python", "cuda", "cpu", "cudnn", "cause"],
)
def test_out_of_memory_names_what_to_lower(small: Compose, monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    def fail(*args: Any) -> None:
        raise error from (MemoryError() if isinstance(error, UserError) else None)

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
