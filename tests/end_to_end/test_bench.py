"""`python -m cnnzoo.bench` as a user types it."""

import json
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess

import pytest

Command = Callable[..., "CompletedProcess[str]"]

RUN = (
    "dataset=digits",
    "image_size=8",
    "dataset.batch_size=4",
    "model.blocks_per_group=[1,1,1]",
    "model.widths=[4,4,4]",
    "trainer=cpu",
    "logger=none",
)
SMALL = (*RUN, "rounds=2", "warmup_steps=1", "steps=2", "workers=0")


def test_training(cnnzoo: Command, tmp_path: Path) -> None:
    done = cnnzoo("bench", *SMALL, "contestants=[cnnzoo,tutorial,bare_bf16]", "format=json", "out=sub/result.json")
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert result == json.loads((tmp_path / "sub" / "result.json").read_text(encoding="utf-8"))
    section = result["sections"]["training"]
    assert all(len(section["contestants"][name]["rounds"]) == 2 for name in ("cnnzoo", "tutorial", "bare_bf16"))
    ours, theirs = (section["contestants"][name]["rounds"] for name in ("cnnzoo", "tutorial"))
    assert section["ratios"]["tutorial"]["rounds"] == pytest.approx([a / b for a, b in zip(ours, theirs, strict=True)])
    assert section["best_bare"] == "bare_bf16"
    assert "contestants=[cnnzoo,tutorial,bare_bf16]" in result["command"]


def test_sweep_skips_pretended_runs(cnnzoo: Command) -> None:
    done = cnnzoo("bench", *SMALL, "what=sweep_size", "sweep_sizes=[2]")
    assert done.returncode == 0, done.stderr
    assert "**sweep_size**, s" in done.stdout


def test_run_exits_after_first_step(cnnzoo: Command) -> None:
    done = cnnzoo("run", *RUN, "+callbacks.exit._target_=cnnzoo.bench.startup.ExitAfterFirstStep")
    assert done.returncode == 0, done.stderr
    assert "epoch 1" not in done.stderr


def test_no_training_without_a_section(cnnzoo: Command) -> None:
    done = cnnzoo("bench", "what=trainning")
    assert done.returncode == 1
    assert "Did you mean 'training'" in done.stderr
