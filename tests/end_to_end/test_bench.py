"""`python -m cnnzoo.bench` and `benchmarks/scaling.py` as a user types them."""

import json
import subprocess
import sys
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
    assert result["command"].startswith("python -m cnnzoo.bench dataset=digits ")
    assert "contestants=[cnnzoo,tutorial,bare_bf16]" in result["command"]


def test_sweep_skips_pretended_runs(tmp_path: Path) -> None:
    script = Path(__file__).parents[2] / "benchmarks" / "scaling.py"
    options = [*SMALL, "what=sweep_size", "sweep_sizes=[2]", "format=json"]
    done = subprocess.run([sys.executable, script, *options], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert result["sections"]["sweep_size"]["contestants"]["2"]["median"] > 0
    assert result["command"].startswith("python benchmarks/scaling.py dataset=digits ")


def test_run_exits_after_first_step(cnnzoo: Command) -> None:
    done = cnnzoo("run", *RUN, "+callbacks.exit._target_=benchmarks.startup.ExitAfterFirstStep")
    assert done.returncode == 0, done.stderr
    assert "epoch 1" not in done.stderr


def test_no_training_without_a_section(cnnzoo: Command) -> None:
    done = cnnzoo("bench", "what=trainning")
    assert done.returncode == 1
    assert "Did you mean 'training'" in done.stderr
