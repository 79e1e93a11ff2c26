"""One run from its configuration to its folder, on real digits; interruptions, repetitions and mistakes."""

import csv
import json
import math
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from cnnzoo.errors import UserError
from cnnzoo.evaluate import evaluate_weights
from cnnzoo.results.record import locked, run_folder
from cnnzoo.run import run
from cnnzoo.training import devices
from cnnzoo.training.checkpoints import AtomicCheckpointIO

# A ResNet small enough for seconds.
SMALL = (
    "dataset=digits", "image_size=16", "model=resnet", "model.blocks_per_group=[1,1]", "model.widths=[8,16]",
    "trainer.max_epochs=2", "trainer.progress_bar=false", "optimizer.lr=0.01", "logger=none",
)  # fmt: skip


@pytest.fixture
def small(config):
    return lambda *overrides, name="run": config(*SMALL, *overrides, name=name)


def metrics(folder: Path) -> list[dict[str, str]]:
    """The rows without what the machine of the moment has a say in: time and memory."""
    with (folder / "metrics.csv").open() as file:
        return [
            {k: v for k, v in row.items() if "second" not in k and "memory" not in k} for row in csv.DictReader(file)
        ]


def test_a_run_leaves_what_the_design_says(small):
    config = small("logger=tensorboard")
    result = run(config, "the command")
    folder = run_folder(config)
    left = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    assert left >= {
        "config.yaml", "run.log", "metrics.csv", "checkpoints/best.ckpt", "checkpoints/last.ckpt", "predictions.npz",
        "result.json",
    }  # fmt: skip
    assert json.loads((folder / "result.json").read_text()) == result
    assert result.keys() >= {
        "status", "model", "dataset", "seed", "params", "macs", "epochs", "best_epoch", "val_accuracy", "val_loss",
        "test_accuracy", "test_loss", "train_seconds", "images_per_second", "peak_memory_bytes", "device", "precision",
        "versions", "git_commit", "config_hash", "schema_version",
    }  # fmt: skip
    assert (result["status"], result["model"], result["dataset"], result["epochs"]) == (
        "completed", "resnet", "digits", 2,
    )  # fmt: skip
    assert yaml.safe_load((folder / "config.yaml").read_text()) == config
    # the figures follow from the files
    predictions = np.load(folder / "predictions.npz")
    assert predictions["logits"].shape == (360, 10)
    assert result["test_accuracy"] == np.mean(predictions["logits"].argmax(1) == predictions["labels"])
    rows = metrics(folder)
    assert [row["epoch"] for row in rows] == ["0", "1"]
    best = max(rows, key=lambda row: float(row["val_accuracy"]))
    assert result["best_epoch"] == int(best["epoch"]) + 1
    assert result["val_accuracy"] == float(best["val_accuracy"])
    assert result["peak_memory_bytes"] > 50e6
    # scalars and the module graph for TensorBoard
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder / "tensorboard"))
    events.Reload()
    tags = events.Tags()
    assert tags["graph"]
    assert set(tags["scalars"]) >= {"train_loss", "train_accuracy", "val_loss", "val_accuracy", "learning_rate"}
    assert events.Scalars("val_accuracy")[-1].value == pytest.approx(float(rows[-1]["val_accuracy"]))


def test_two_runs_of_one_command_are_identical_bit_for_bit(small):
    config = small("augmentation=flip_crop")
    run(config, "")
    folder = run_folder(config)
    first = metrics(folder), torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
    run({**config, "rerun": True}, "")
    second = metrics(folder), torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
    assert first[0] == second[0]
    assert all(torch.equal(a, b) for a, b in zip(first[1].values(), second[1].values(), strict=True))


def test_zero_is_a_seed(small):
    losses = {seed: run(small(f"seed={seed}", "trainer.max_epochs=1"), "")["test_loss"] for seed in (0, 1)}
    assert losses[0] != losses[1]
    again = run({**small("seed=0", "trainer.max_epochs=1"), "rerun": True}, "")
    assert again["test_loss"] == losses[0]


def test_a_finished_run_is_not_run_again(small):
    config = small("trainer.max_epochs=1")
    first = run(config, "")
    written = (run_folder(config) / "result.json").stat().st_mtime_ns
    assert run(config, "") == first
    assert (run_folder(config) / "result.json").stat().st_mtime_ns == written


def test_a_killed_run_goes_on_and_ends_as_one_left_alone(small, tmp_path):
    """SIGKILL after the second epoch; dropout and augmentation make every draw count."""
    overrides = [
        "dataset=digits", "image_size=28", "model=inception_a", "trainer.max_epochs=5", "augmentation=crop",
        "optimizer.lr=0.01", "logger=none", "scheduler=onecycle",
    ]  # fmt: skip
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
    assert "going on from" in resumed.stderr
    (reference,) = (tmp_path / "alone").glob("digits/inception_a/*")
    assert metrics(folder) == metrics(reference)
    assert np.array_equal(*(np.load(f / "predictions.npz")["logits"] for f in (folder, reference)))


def test_ctrl_c_stops_a_training_with_a_word_on_how_to_go_on(tmp_path):
    command = [sys.executable, "-m", "cnnzoo.run", *SMALL, "trainer.max_epochs=200"]
    process = subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, text=True)
    while process.poll() is None and not any(len(f.read_text()) > 200 for f in tmp_path.rglob("metrics.csv")):
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    _, told = process.communicate()
    assert process.returncode == 130, told
    assert told.endswith("interrupted; the same command goes on from the last checkpoint\n")
    assert not list(tmp_path.rglob("result.json"))


def test_a_checkpoint_is_whole_or_the_old_one(tmp_path, monkeypatch):
    file = tmp_path / "checkpoints" / "last.ckpt"
    AtomicCheckpointIO().save_checkpoint({"epoch": 1}, file)

    def cut_off(content, stream):
        stream.write(b"half a check")
        raise OSError("no space left on device")

    monkeypatch.setattr(torch, "save", cut_off)
    with pytest.raises(OSError, match="no space"):
        AtomicCheckpointIO().save_checkpoint({"epoch": 2}, file)
    assert torch.load(file, weights_only=True) == {"epoch": 1}
    assert list(file.parent.iterdir()) == [file]


def test_a_run_belongs_to_one_process_at_a_time(small):
    config = small()
    with locked(run_folder(config)), pytest.raises(UserError, match="Another process"):
        run(config, "")
    assert not (run_folder(config) / "result.json").exists()


def test_a_failure_is_recorded_and_retried(small):
    exploding = small("optimizer=sgd", "optimizer.lr=1e30")
    with pytest.raises(UserError, match=r"optimizer\.lr"):
        run(exploding, "")
    result = json.loads((run_folder(exploding) / "result.json").read_text())
    assert result["status"] == "failed"
    assert "loss" in result["error"]
    with pytest.raises(UserError, match=r"optimizer\.lr"):
        run(exploding, "")


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        torch.OutOfMemoryError("CUDA out of memory."),
        RuntimeError("DefaultCPUAllocator: can't allocate memory"),
    ],
    ids=["python", "cuda", "cpu"],
)
def test_out_of_memory_names_what_to_lower(small, monkeypatch, error):
    def fail(*args):
        raise error

    monkeypatch.setattr("cnnzoo.training.classifier.Classifier.training_step", fail)
    config = small()
    with pytest.raises(UserError, match=r"dataset\.batch_size=64 images of image_size=16: lower"):
        run(config, "")
    assert "what=batch_size" in json.loads((run_folder(config) / "result.json").read_text())["error"]


def test_a_checkpoint_of_another_run_is_not_continued(small):
    config, other = small("trainer.max_epochs=1"), small("trainer.max_epochs=1", "seed=7")
    run(other, "")
    target = run_folder(config) / "checkpoints"
    target.mkdir(parents=True)
    (run_folder(other) / "checkpoints" / "last.ckpt").rename(target / "last.ckpt")
    with pytest.raises(UserError, match="another configuration"):
        run(config, "")
    (target / "last.ckpt").write_bytes(b"not a checkpoint")
    with pytest.raises(UserError, match="cannot be read"):
        run(config, "")
    assert run({**config, "rerun": True}, "")["status"] == "completed"


@pytest.mark.parametrize(
    "overrides",
    [
        ("model._target_=torchvision.models.shufflenet_v2_x0_5", "dataset.channels=3", "image_size=32"),
        ("scheduler=cosine", "optimizer=sgd", "augmentation=flip_pad"),
        ("scheduler=none", "loss.label_smoothing=0.1", "trainer.accumulate_grad_batches=2"),
        ("callbacks=ema", "trainer.precision=32-true", "trainer.channels_last=false"),
        ("callbacks=early_stopping", "trainer.check_val_every_n_epoch=2", "scheduler=onecycle"),
    ],
    ids=lambda overrides: overrides[0],
)
def test_settings_train(config, overrides):
    base = [o for o in SMALL if not (overrides[0].startswith("model._target_") and o.startswith("model."))]
    result = run(config(*base, *overrides), "")
    assert result["status"] == "completed"
    assert math.isfinite(result["test_loss"])


@pytest.mark.slow
def test_a_compiled_network_trains_to_the_same_weights_names(small):
    """Compiling takes a minute, changes rounding only, and leaves no trace in the checkpoint."""
    plain = run(small("trainer.precision=32-true"), "")
    config = small("trainer.precision=32-true", "trainer.compile=true")
    compiled = run(config, "")
    assert compiled["test_loss"] == pytest.approx(plain["test_loss"], rel=0.2)
    state = torch.load(run_folder(config) / "checkpoints" / "best.ckpt", weights_only=True)["state_dict"]
    assert not any("_orig_mod" in key for key in state)


@pytest.mark.parametrize(
    ("overrides", "long", "compiler", "expected"),
    [
        ((), 10, True, True),
        ((), 10, False, False),
        ((), 10_000, True, False),
        (("trainer.compile=true",), 10_000, True, True),
        (("trainer.compile=false",), 10, True, False),
    ],
)
def test_long_trainings_are_compiled_where_that_works(overrides, long, compiler, expected, small, monkeypatch, caplog):
    compiled = []
    devices._has_compiler.cache_clear()
    monkeypatch.setattr(torch.nn.Module, "compile", lambda module, mode: compiled.append(module))
    monkeypatch.setattr(devices, "_WORTH_COMPILING", long)

    def probe(function):
        if not compiler:
            raise RuntimeError("no C++ compiler found\nand much more")
        return function

    monkeypatch.setattr(torch, "compile", probe)
    assert run(small(*overrides), "")["status"] == "completed"
    assert len(compiled) == expected
    assert ("does not work here: no C++ compiler found\n" in caplog.text) == (not compiler)
    devices._has_compiler.cache_clear()


@pytest.mark.parametrize("setting", ["auto", "true"])
def test_a_network_that_cannot_be_compiled_trains_as_it_is_unless_it_was_to_be(setting, small, monkeypatch):
    def fail(*args, **kwargs):
        raise RuntimeError("no code for this one")

    monkeypatch.setattr(devices, "_WORTH_COMPILING", 1)
    monkeypatch.setattr(devices, "_has_compiler", lambda device: True)
    monkeypatch.setattr("torch._inductor.compile_fx.compile_fx", fail)
    torch.compiler.reset()
    config = small("trainer.max_epochs=1", f"trainer.compile={setting}")
    if setting == "auto":
        assert run(config, "")["status"] == "completed"
    else:
        with pytest.raises(Exception, match="no code for this one"):
            run(config, "")


def test_the_rate_follows_the_published_schedule(small):
    config = small("trainer.max_epochs=4", "scheduler.milestones=[2,3]", "optimizer.lr=0.01")
    run(config, "")
    rates = [float(row["learning_rate"]) for row in metrics(run_folder(config))]
    assert rates == pytest.approx([0.01, 0.01, 0.001, 0.0001])


def test_training_learns(small):
    """A linear classifier reaches about 96 % on these digits; a network that learns is not far from that in seconds."""
    assert run(small("trainer.max_epochs=8", "image_size=16"), "")["test_accuracy"] > 0.9


def test_evaluating_a_run_gives_its_own_figures_to_the_last_digit(small):
    config = small()
    result = run(config, "")
    folder = str(run_folder(config))
    # the network and the data come from the run, whatever else is configured
    for evaluation in (
        evaluate_weights(small(f"weights={folder}", name="evaluate")),
        evaluate_weights({**small(name="evaluate"), "weights": folder, "model": {}, "image_size": 1}),
        evaluate_weights(small(f"weights={folder}/checkpoints/best.ckpt", name="evaluate")),
    ):
        for figure in ("val_accuracy", "val_loss", "test_accuracy", "test_loss", "params"):
            assert evaluation[figure] == result[figure]


def test_a_sweep_does_every_job_and_lists_what_failed(cnnzoo, tmp_path):
    answer = cnnzoo("run", "-m", *SMALL, "trainer.max_epochs=1", "optimizer=sgd", "optimizer.lr=1e30,0.01")
    assert answer.returncode == 1
    assert "optimizer.lr=1e+30" in answer.stderr.split("error:")[1]
    results = [json.loads(path.read_text()) for path in (tmp_path / "outputs").rglob("result.json")]
    assert sorted(result["status"] for result in results) == ["completed", "failed"]


def test_two_processes_train_one_run_and_see_the_same_images(config):
    """Data-parallel over two CPU processes: each takes half of every batch, so a network without batch norm
    gets the weights that one process gives it, to rounding."""
    common = (
        "model=mlp", "model.widths=[16]", "dataset=digits", "image_size=8", "trainer.max_epochs=2",
        "trainer.precision=32-true", "logger=none", "trainer.accelerator=cpu",
    )  # fmt: skip
    one, two = (config(*common, f"trainer.devices={n}") for n in (1, 2))
    results = [run(each, "") for each in (one, two)]
    assert results[1]["test_loss"] == pytest.approx(results[0]["test_loss"], rel=1e-4)
    rows = [metrics(run_folder(each)) for each in (one, two)]
    assert [float(row["train_loss"]) for row in rows[1]] == pytest.approx(
        [float(row["train_loss"]) for row in rows[0]], rel=1e-4
    )
    assert "epoch 2/2" in (run_folder(two) / "run.log").read_text()
