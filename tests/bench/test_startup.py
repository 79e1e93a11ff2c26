"""The section `startup`."""

from collections.abc import Callable, Sequence

import pytest

from cnnzoo.bench import startup
from cnnzoo.bench.context import Context
from cnnzoo.config.schema import BenchConfig
from cnnzoo.errors import UserError


def test_commands(small: Callable[..., BenchConfig], monkeypatch: pytest.MonkeyPatch) -> None:
    ran: list[str] = []
    monkeypatch.setattr(startup, "run_python", lambda arguments: ran.append(" ".join(arguments)))
    context = Context(small("rounds=1"), ["model=resnet", "what=startup", "rounds=1", "out=x"])
    result = startup.measure_startup(context)
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
    assert startup.FIRST_STEP not in startup.measure_startup(Context(small()))["contestants"]
    assert "no data" in caplog.text
