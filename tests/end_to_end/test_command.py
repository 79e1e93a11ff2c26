"""Command lines: mistakes, tracebacks on request, help."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

Command = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.mark.parametrize("verb", ["run", "evaluate", "summary", "bench"])
def test_one_message_and_no_traceback(verb: str, cnnzoo: Command) -> None:
    answer = cnnzoo(verb, "model=densnet")
    assert (answer.returncode, answer.stdout) == (1, "")
    assert answer.stderr.startswith("error: model=densnet")
    assert "Traceback" not in answer.stderr


@pytest.mark.parametrize(
    ("arguments", "suggestion"),
    [
        (("bench", "round=3"), "'rounds'"),
        (("evaluate", "wieghts=published"), "'weights'"),
        (("summary", "fromat=md"), "'format'"),
        (("run", "trainer.max_epoch=3"), "'max_epochs'"),
    ],
)
def test_suggestions_are_the_commands_own_keys(arguments: tuple[str, ...], suggestion: str, cnnzoo: Command) -> None:
    answer = cnnzoo(*arguments)
    assert answer.returncode == 1
    assert f"Did you mean {suggestion}?" in answer.stderr


def test_traceback_on_request(cnnzoo: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HYDRA_FULL_ERROR", "1")
    answer = cnnzoo("run", "model=densnet")
    assert answer.returncode == 1
    assert "Traceback" in answer.stderr


def test_help_shows_the_choices(cnnzoo: Command) -> None:
    answer = cnnzoo("run", "--help")
    assert answer.returncode == 0
    assert answer.stdout.startswith("One run:")
    assert "uvadlc/resnet" in answer.stdout
    lines = answer.stdout.splitlines()
    assert len(lines) <= 50, "one screen"
    assert max(map(len, lines)) <= 82
    assert "  model=       resnet* airbench94 alexnet" in answer.stdout, "the default first"
    assert "optimizer.lr=0.01 " in answer.stdout


def test_help_shows_the_commands_own_keys(cnnzoo: Command) -> None:
    assert "\n  rounds=5 " in cnnzoo("bench", "--help").stdout
    assert (
        "\n  formats=[png] "
        in subprocess.run(
            [sys.executable, "-m", "cnnzoo", "figures", "data", "--help"], capture_output=True, text=True
        ).stdout
    )


def test_recorded_command_keeps_the_configuration_folder(cnnzoo: Command, tmp_path: Path) -> None:
    (tmp_path / "own" / "model").mkdir(parents=True)
    (tmp_path / "own" / "model" / "mine.yaml").write_text("_target_: torch.nn.Flatten\n")
    answer = cnnzoo("run", "-m", "--config-dir", "own", "model=mine", "dataset=digits", "logger=none", "seed=1,2")
    assert answer.returncode == 1
    assert "again with: python -m cnnzoo.run --config-dir own model=mine dataset=digits" in answer.stderr
