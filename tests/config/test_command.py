"""The command line that results record."""

import sys
from types import SimpleNamespace

import pytest

from cnnzoo.config import compose
from cnnzoo.config.command import _KEYS, command_line, command_of


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


@pytest.mark.parametrize(
    ("module", "program", "compare"),
    [
        ("cnnzoo.run", "/somewhere/cnnzoo/run.py", "python -m cnnzoo.compare"),
        ("cnnzoo.__main__", "cnnzoo run", "python -m cnnzoo compare"),
        (None, "cnnzoo run", "cnnzoo compare"),
        (None, "/somewhere/script.py", "cnnzoo compare"),
    ],
)
def test_command_of_another_verb(
    module: str | None, program: str, compare: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = None if module is None else SimpleNamespace(name=module)
    monkeypatch.setattr(sys.modules["__main__"], "__spec__", spec)
    monkeypatch.setattr(sys, "argv", [program, "-m", "seed=1,2"])
    assert command_of("compare", "my runs") == f"{compare} 'my runs'"


def test_keys_of_the_help_exist() -> None:
    """And what it shows of them composes."""
    lines = [line.split()[0] for line in _KEYS.splitlines()]
    plain = [text for text in lines if not text.isupper() and "KEY" not in text and "|" not in text]
    assert len(plain) > 8
    compose(plain)
