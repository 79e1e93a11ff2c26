"""The command line that results record."""

import sys
from types import SimpleNamespace

import pytest

from cnnzoo.config.command import command_line


@pytest.mark.parametrize(
    ("module", "program", "recorded"),
    [
        ("cnnzoo.run", "/somewhere/cnnzoo/run.py", "python -m cnnzoo.run"),
        ("cnnzoo.bench.__main__", "/somewhere/cnnzoo/bench/__main__.py", "python -m cnnzoo.bench"),
        ("cnnzoo.__main__", "cnnzoo bench", "python -m cnnzoo bench"),
        (None, "cnnzoo bench", "cnnzoo bench"),
    ],
)
def test_program(module: str | None, program: str, recorded: str, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = None if module is None else SimpleNamespace(name=module)
    monkeypatch.setattr(sys.modules["__main__"], "__spec__", spec)
    monkeypatch.setattr(sys, "argv", [program, "model=resnet", "parallel=[1,2]"])
    assert command_line() == f"{recorded} model=resnet 'parallel=[1,2]'"
    assert command_line(["seed=3"]) == f"{recorded} seed=3"
