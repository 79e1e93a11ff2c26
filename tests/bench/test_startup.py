"""The script's sections `startup` and `sweep_size`."""

import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from benchmarks import startup
from cnnzoo.bench.context import Context
from cnnzoo.config.schema import BenchConfig
from cnnzoo.errors import UserError


def test_commands(small: Callable[..., BenchConfig], monkeypatch: pytest.MonkeyPatch) -> None:
    ran: list[str] = []
    monkeypatch.setattr(startup, "run_python", lambda arguments: ran.append(" ".join(arguments)))
    result = startup.measure_startup(Context(small("rounds=1")), ["model=resnet"])
    assert result["reference"] == "import torch"
    assert ran.count("-m cnnzoo.run model=resnet --cfg job") == 2  # the warm-up and one round
    assert startup.FIRST_STEP in result["contestants"]


def test_first_step_is_left_out_if_it_fails(
    small: Callable[..., BenchConfig], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def run_python(arguments: Sequence[str]) -> None:
        if any("ExitAfterFirstStep" in argument for argument in arguments):
            raise UserError("no data")

    monkeypatch.setattr(startup, "run_python", run_python)
    assert startup.FIRST_STEP not in startup.measure_startup(Context(small()), [])["contestants"]
    assert "no data" in caplog.text


def test_sweep_sizes(small: Callable[..., BenchConfig], monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]

    def run_python(arguments: Sequence[str]) -> None:
        clock[0] += 3 + 0.5 * int(arguments[-1].removeprefix("seed=range(0,").removesuffix(")"))

    monkeypatch.setattr(time, "perf_counter", lambda: clock[0])
    monkeypatch.setattr(startup, "run_python", run_python)
    result = startup.measure_sweep_sizes(Context(small()), ["dataset=digits"], [1, 30])
    assert {name: entry["median"] for name, entry in result["contestants"].items()} == {"1": 3.5, "30": 18}
    assert result["seconds_per_skipped_run"] == pytest.approx(0.5)


def test_sweep_that_trains_is_an_error(small: Callable[..., BenchConfig], monkeypatch: pytest.MonkeyPatch) -> None:
    def run_python(arguments: Sequence[str]) -> None:
        outputs = next(text.partition("=")[2] for text in arguments if text.startswith("paths.outputs="))
        Path(outputs, "metrics.csv").touch()

    monkeypatch.setattr(startup, "run_python", run_python)
    with pytest.raises(UserError, match="should count as finished"):
        startup.measure_sweep_sizes(Context(small()), ["dataset=digits"], [1])


def test_run_overrides() -> None:
    overrides = [
        "model=resnet",
        "what=startup",
        "rounds=1",
        "out=x",
        "+extra.steps=3",
        "format=json",
        "warmup.epochs=1",
    ]
    assert startup.run_overrides(overrides) == ["model=resnet", "+extra.steps=3", "warmup.epochs=1"]


def test_failure_of_a_command_is_reported() -> None:
    with pytest.raises(UserError, match="exit code 3"):
        startup.run_python(["-c", "raise SystemExit(3)"])
