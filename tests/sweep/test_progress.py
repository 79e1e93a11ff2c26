"""How far a sweep is."""

import fcntl
import json
import os
import time
from pathlib import Path

import pytest

from cnnzoo.results.run_folder import write_result
from cnnzoo.sweep.progress import FOLDER, PlannedRun, Progress, SweepRecord, unfinished_sweeps


def test_progress(tmp_path: Path) -> None:
    """Two runs done (10 and 20 s), one failed in an earlier attempt, one running, one not begun."""
    record = SweepRecord(tmp_path / "sweep")
    runs = [PlannedRun((f"seed={n}",), str(tmp_path / "net" / f"seed{n}")) for n in range(5)]
    old = 1_700_000_000

    def stamp(number: int, name: str, at: float, content: str = "{}") -> None:
        path = Path(runs[number].folder, name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
        os.utime(path, (at, at))

    stamp(2, "result.json", old - 50, '{"status": "failed"}')
    record.add("the command", runs)
    progress = Progress(runs, since=old)
    state, ended = progress.poll()
    assert (str(state), ended) == ("5 runs: 5 to go", [])
    for number, seconds in ((0, 10), (1, 20)):
        stamp(number, "config.yaml", old + 100)
        stamp(number, "result.json", old + 100 + seconds, '{"status": "completed"}')
    stamp(3, "config.yaml", time.time())
    with Path(runs[3].folder, ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        state, ended = progress.poll()
    assert ended == [0, 1]
    assert state.counts == {"completed": 2, "running": 1, "to go": 2}
    assert state.seconds_left == pytest.approx(3 * 15, abs=2)  # the median of 10 and 20 for each run that is left


def test_record(tmp_path: Path) -> None:
    """A search adds to its own record."""
    record = SweepRecord(tmp_path / "sweep")
    runs = [PlannedRun((f"seed={n}",), str(tmp_path / f"seed{n}")) for n in range(3)]
    record.add("the command", runs)
    assert record.add("the command", runs[:1]) == [*runs, runs[0]]
    assert record.count == 4
    assert not record.is_alive
    with record.running():
        assert record.is_alive


def test_runs_of_earlier_batches_count_as_ended(tmp_path: Path) -> None:
    """A search adds to its sweep's record batch by batch, and what was pruned before stays pruned."""
    record = SweepRecord(tmp_path / "sweep")
    runs = [PlannedRun(("seed=1",), str(tmp_path / "one")), PlannedRun(("seed=2",), str(tmp_path / "two"))]
    record.add("the command", runs[:1])
    with record.running():
        write_result(tmp_path / "one", {"status": "pruned"})
    time.sleep(0.05)  # more than a tick of the file system's clock
    record.add("the command", runs[1:])
    with record.running():
        state, _ = Progress(runs, since=record.began).poll()
    assert state.counts == {"pruned": 1, "to go": 1}


@pytest.mark.parametrize(
    "content",
    [
        "[" * 100_000,
        '{"jobs": [{"overrides": [], "folder": "FOLDER/\\u0000"}]}',
        '{"jobs": [{"overrides": [], "folder": "FOLDER/\\ud800"}]}',
        '{"jobs": [{"overrides": 1, "folder": "FOLDER/x"}]}',
        '{"jobs": [1]}',
        '{"jobs": {}}',
        "1",
    ],
)
def test_an_odd_record_is_named(content: str, tmp_path: Path) -> None:
    file = tmp_path / FOLDER / "1" / "sweep.json"
    file.parent.mkdir(parents=True)
    file.write_text(content.replace("FOLDER", str(tmp_path)))
    assert unfinished_sweeps(tmp_path) == [f"{file}: cannot be read, skipped"]


def test_odd_texts_of_a_record_are_shown(tmp_path: Path) -> None:
    file = tmp_path / FOLDER / "1" / "sweep.json"
    file.parent.mkdir(parents=True)
    jobs = [{"overrides": [], "folder": str(tmp_path / "x")}]
    file.write_text(json.dumps({"command": ["a"], "started": {}, "jobs": jobs}))
    (line,) = unfinished_sweeps(tmp_path)
    assert line.endswith("again with: ['a']")
