"""The view of runs that is redrawn."""

import fcntl
import io
import os
import pty
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from cnnzoo import compare
from cnnzoo.results.load import load_results
from cnnzoo.results.watch import view
from tests.factories import config, result, write_run, write_two_networks, write_unfinished


@pytest.fixture
def runs(tmp_path: Path) -> Iterator[Path]:
    """Six done, one failed, one damaged, one unfinished and one running, after 45 of 180 epochs of ten seconds."""
    root = write_two_networks(tmp_path / "outputs")
    write_run(root / "failed", result(config("vgg"), status="failed", error="ValueError: no"))
    write_unfinished(root / "begun", config("nin", seed=8))
    (root / "damaged").mkdir()
    (root / "damaged" / "result.json").write_text("[")
    going = write_unfinished(root / "going", config("nin", seed=7))
    rows = [f"{epoch},{0.5 + epoch / 100},10.0" for epoch in range(45)]
    (going / "metrics.csv").write_text("\n".join(["epoch,val_accuracy,epoch_seconds", *rows, ""]))
    with (going / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield root


def lines(root: Path, width: int = 60, height: int = 50) -> list[str]:
    console = Console(file=io.StringIO(), width=width, height=height)
    console.print(view(load_results(root), ["sweep of today: 3 runs: 1 running, 2 to go"], console))
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue().splitlines()


def test_view_at_60_columns(runs: Path) -> None:
    shown = lines(runs)
    assert max(map(len, shown)) <= 60
    text = "\n".join(line.rstrip() for line in shown)
    assert " ".join(text.split()).startswith(
        "10 runs: 6 done, 1 running, 1 failed, 1 unfinished, 1 not readable best on"
    )
    assert "best on cifar10 so far: 94.00 % validation accuracy, nin," in text
    running = next(line for line in shown if "22 min 30 s" in line)
    assert "━━━╸  " in running, "a quarter"
    assert running.replace("━", "").replace("╸", "").replace("╺", "").split()[:5] == [
        "seed",
        "7",
        "45/180",
        "94.00",
        "%",
    ]
    order = [
        text.index(word) for word in ("of today", "seed 7  ", "  unfinished", "  failed", "  not readable", "  done")
    ]
    assert order == sorted(order)


def test_two_data_sets_are_told_apart(runs: Path) -> None:
    write_run(runs / "other", result(config("nin", dataset="svhn"), val_accuracy=0.97))
    text = "\n".join(lines(runs))
    assert "nin on svhn" in text
    assert "nin on cifar10" in text
    assert "best on svhn so far: 97.00 %" in text


def test_no_more_than_the_terminal_is_high(runs: Path) -> None:
    for height in (12, 20):
        shown = lines(runs, height=height)
        assert len(shown) < height
        assert "seed 7" in "".join(shown), "what runs comes first"


def test_names_of_files_are_texts(runs: Path) -> None:
    write_run(runs / "odd", result(config("nin", seed=3), model="[red]x\x1b[2J[/red]", status="failed", error="x"))
    text = "\n".join(lines(runs))
    assert "[red]x\\u001b[2J[/red]" in text
    assert "\x1b" not in text


def test_elsewhere_than_on_a_terminal(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert compare.main([str(runs), "--status", "--watch"]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert "--watch" in line
    assert "--status alone" in line
    assert compare.main([str(runs), "--watch"]) == 1
    assert "goes with --status" in capsys.readouterr().err


def test_ctrl_c_ends_it_quietly(runs: Path) -> None:
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "cnnzoo.compare", str(runs), "--status", "--watch"]
    environment = os.environ | {"COLUMNS": "60", "LINES": "40", "TERM": "xterm"}
    listens: Any = {"preexec_fn": lambda: signal.signal(signal.SIGINT, signal.default_int_handler)}
    with subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs, env=environment, **listens) as process:
        os.close(theirs)
        output, interrupted, deadline = b"", False, time.monotonic() + 60
        while time.monotonic() < deadline:
            if select.select([ours], [], [], 0.2)[0]:
                try:
                    output += os.read(ours, 65536)
                except OSError:  # the other side is closed
                    break
            if output.count(b"10 runs") >= 2 and not interrupted:  # drawn again
                process.send_signal(signal.SIGINT)
                interrupted = True
        assert process.wait(timeout=10) == 0
    os.close(ours)
    assert interrupted
    assert b"interrupted" not in output
    assert b"Traceback" not in output
    assert output.rstrip().endswith(b"\x1b[?25h"), "the cursor is there again"
