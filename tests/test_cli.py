"""The console script: its verbs, tab completion, and systems that it does not run on."""

import importlib
import subprocess
import sys

import pytest

from cnnzoo import cli


def test_alone_it_lists_its_verbs(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "argv", ["cnnzoo"])
    with pytest.raises(SystemExit) as end:
        cli.main()
    assert not end.value.code
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) <= 24, "one small screen"
    assert max(map(len, lines)) <= 90
    for verb in cli.VERBS:
        assert sum(line.startswith(f"  {verb} ") for line in lines) == 1
        assert callable(importlib.import_module(f"cnnzoo.{verb}").main)


@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("cnnzoo", [*cli.VERBS]),
        ("cnnzoo co", ["compare"]),
        ("cnnzoo compare ", []),
        ("cnnzoo compare outputs --for", ["--format"]),
        ("cnnzoo predict outp", []),
        ("cnnzoo list ", ["models", "datasets", "experiments"]),
        ("cnnzoo figures ", ["data", "run", "surface", "runs"]),
        ("cnnzoo figures runs --f", ["--formats"]),
        ("cnnzoo figures nothing --f", []),
        ("cnnzoo nothing --f", []),
    ],
)
def test_completion(
    line: str, offered: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Where nothing is offered, the shell offers files."""
    monkeypatch.setattr(sys, "argv", ["cnnzoo", "-sc", "query=bash"])
    monkeypatch.setenv("COMP_LINE", line)
    with pytest.raises(SystemExit) as end:
        cli.main()
    answer = capsys.readouterr()
    assert (end.value.code, answer.err) == (0, "")
    assert set(offered) <= set(answer.out.split())
    assert bool(offered) == bool(answer.out.split())


def test_configurations_are_completed_by_hydra() -> None:
    code = "import sys; sys.argv = ['cnnzoo', '-sc', 'query=bash']; from cnnzoo.cli import main; main()"
    for line, offered in (("run model=densenet_", "model=densenet_bc"), ("figures data dataset=mn", "dataset=mnist")):
        answer = subprocess.run(
            [sys.executable, "-c", code],
            env={"COMP_LINE": f"cnnzoo {line}", "COMP_POINT": str(len(line) + 7)},
            capture_output=True,
            text=True,
        )
        assert answer.stdout.split() == [offered], answer.stderr


def test_windows_is_refused_in_a_sentence() -> None:
    """It has no fcntl; importing the package is no problem."""
    code = (
        "import sys; sys.modules['fcntl'] = None; import cnnzoo; sys.argv = ['cnnzoo', *sys.argv[1:]];"
        " from cnnzoo.cli import main; main()"
    )
    for arguments, fails in ((["--help"], False), (["run", "seed=1"], True), (["compare", "outputs"], True)):
        answer = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True)
        assert bool(answer.returncode) == fails
        assert answer.stderr.startswith("error: cnnzoo runs on Linux and macOS") == fails
        assert "Traceback" not in answer.stderr
