"""How a command ends."""

import signal
import subprocess
import sys

import pytest

from cnnzoo.errors import Interrupted, UserError, exit_code


def ending(error: BaseException) -> int:
    def work() -> None:
        raise error

    return exit_code(work, interrupted="stopped")


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (UserError("no \x1b[2J\nsecond"), 1, "error: no \\u001b[2J\nsecond\n"),
        (KeyboardInterrupt(), 130, "stopped\n"),
        (Interrupted(signal.SIGTERM), 143, "stopped\n"),
    ],
)
def test_one_message_and_a_code(
    error: BaseException, code: int, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert ending(error) == code
    assert capsys.readouterr() == ("", message)


def test_a_bug_is_no_message() -> None:
    with pytest.raises(OSError, match="x"):
        ending(FileNotFoundError(2, "gone", "x"))


def test_a_code_is_passed_on() -> None:
    assert [exit_code(lambda: None), exit_code(lambda: 2)] == [0, 2]


COMMANDS = ["cnnzoo --help", "cnnzoo.figures --help", "cnnzoo.run --help", "cnnzoo.run --cfg job"]


@pytest.mark.parametrize("words", COMMANDS)
@pytest.mark.parametrize("shell", ["{} >/dev/full", "{} >&-", "{} | true"])
def test_output_that_nobody_takes(words: str, shell: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PYTHONUNBUFFERED", raising=False)
    line = shell.format(f"'{sys.executable}' -m {words}")
    ended = subprocess.run(["bash", "-c", line], capture_output=True, text=True)
    full = "error: the output cannot be written: No space left on device.\n"
    assert ended.stderr == (full if "full" in shell else "")
    assert ended.returncode == ("full" in shell)


def test_a_locale_without_the_characters(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONIOENCODING", "ascii")
    program = "from cnnzoo.errors import exit_code; exit_code(lambda: print('±'))"
    assert subprocess.run([sys.executable, "-c", program], capture_output=True).stdout == b"\\xb1\n"


@pytest.mark.parametrize("module", ["cnnzoo.compare", "cnnzoo.figures"])
def test_interrupt_while_modules_are_imported(module: str) -> None:
    """Importing pandas takes a while; a module of that name here stands for it."""
    program = f"""
import runpy, signal, sys
class Slow:
    def find_spec(self, name, *_):
        if name == "pandas":
            signal.raise_signal(signal.SIGINT)
signal.signal(signal.SIGINT, signal.default_int_handler)
sys.meta_path.insert(0, Slow())
sys.argv = ["x", "runs"]
runpy.run_module("{module}", run_name="__main__", alter_sys=True)
"""
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert (ended.returncode, ended.stderr) == (130, "interrupted\n")
