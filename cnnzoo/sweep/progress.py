"""How far a sweep is, from its runs' folders alone, at any time and from any terminal. No torch.

A sweep's record, `<outputs>/.sweeps/<time>/sweep.json`, has its command line and its runs' folders. Times are compared
as the file system stamped them, so that clocks of several machines need not agree.
"""

import fcntl
import json
import logging
import os
import shlex
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

from rich.status import Status

from cnnzoo.console import console
from cnnzoo.io import is_locked, read_small, write_atomically
from cnnzoo.results.render import duration
from cnnzoo.results.run_folder import describe, is_running, now, read_result

log = logging.getLogger(__name__)

FOLDER = ".sweeps"
_NAMES = {"completed": "done", "running": "running", "pruned": "pruned", "failed": "failed", "to go": "to go"}
_ENDED = ("completed", "pruned", "failed")


@dataclass(frozen=True)
class PlannedRun:
    """A run of a sweep: what its command line adds, and the folder that it has or will have."""

    overrides: tuple[str, ...]
    folder: str


class SweepRecord:
    """The record in one sweep's folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.count = 0

    def add(self, command: str, runs: Sequence[PlannedRun]) -> list[PlannedRun]:
        """Add `runs` after those that a search has added before; return all of them."""
        content = self.read() or {"command": command, "started": now(), "jobs": []}
        content["jobs"] += [asdict(run) for run in runs]
        self.count = len(content["jobs"])
        write_atomically(self.folder / "sweep.json", json.dumps(content, indent=1))
        return _planned(content)

    def read(self) -> dict[str, Any] | None:
        """None where there is no record, or none that can be read."""
        try:
            content = json.loads(read_small(self.folder / "sweep.json", most=2**26))
            return content if isinstance(content["jobs"], list) else None
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            return None

    @contextmanager
    def running(self) -> Iterator[None]:
        """Mark the sweep as alive, until this process ends."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / ".lock").open("a") as file:
            with suppress(OSError):
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            yield

    @property
    def began(self) -> float:
        """When the sweep began, as the file system stamped it."""
        return (self.folder / ".lock").stat().st_mtime

    @property
    def is_alive(self) -> bool:
        return is_locked(self.folder / ".lock")


def _planned(content: Mapping[str, Any]) -> list[PlannedRun]:
    return [PlannedRun(tuple(entry["overrides"]), str(entry["folder"])) for entry in content["jobs"]]


@dataclass(frozen=True)
class SweepState:
    """Number of a sweep's runs in each state, and about how many seconds are left (None: unknown)."""

    counts: Counter[str]
    seconds_left: float | None

    def __str__(self) -> str:
        parts = [f"{self.counts[state]} {name}" for state, name in _NAMES.items() if self.counts[state]]
        count = self.counts.total()
        left = f"; about {duration(self.seconds_left)} left" if self.seconds_left else ""
        return f"{count} {'run' if count == 1 else 'runs'}: {', '.join(parts)}{left}"


class Progress:
    """Follows the runs of a sweep; those that have ended are not looked at again."""

    def __init__(self, runs: Sequence[PlannedRun], since: float) -> None:
        """`since`: a failure with an earlier time stamp is of an earlier attempt."""
        self.runs, self.since = runs, since
        self.ended: dict[int, str] = {}
        self.seconds: dict[int, float] = {}  # durations of runs that ended after `since`

    def poll(self) -> tuple[SweepState, list[int]]:
        """The state, and the indices of the runs that have ended since the last poll."""
        states: dict[int, str] = {}
        newly_ended: list[int] = []
        for index, run in enumerate(self.runs):
            state = states[index] = self.ended.get(index) or self._state(run)
            if state in _ENDED and index not in self.ended:
                self.ended[index] = state
                newly_ended.append(index)
                if (ended := _changed(run, "result.json") or 0) > self.since:
                    self.seconds[index] = ended - (_changed(run, "config.yaml") or ended)
        return SweepState(Counter(states.values()), self._seconds_left(states)), newly_ended

    def _state(self, run: PlannedRun) -> str:
        if (ended := _changed(run, "result.json")) is not None:
            status = str((read_result(Path(run.folder)) or {}).get("status"))
            if status == "completed" or (status in _ENDED and ended > self.since):
                return status
        return "running" if is_running(run.folder) else "to go"

    def _seconds_left(self, states: Mapping[int, str]) -> float | None:
        """Median duration of the runs that have ended, times those that have not, divided by those running at once."""
        if not self.seconds:
            return None
        expected = median(self.seconds.values())
        running = [self.runs[index] for index, state in states.items() if state == "running"]
        left = expected * sum(state in ("running", "to go") for state in states.values())
        left -= sum(min(expected, time.time() - (_changed(run, "config.yaml") or time.time())) for run in running)
        return left / max(1, len(running))


def _changed(run: PlannedRun, name: str) -> float | None:
    try:
        return os.stat(f"{run.folder}/{name}").st_mtime  # noqa: PTH116  (thousands of runs, once a second)
    except OSError:
        return None


@contextmanager
def watched(runs: Sequence[PlannedRun], record: SweepRecord, *, elsewhere: bool) -> Iterator[None]:
    """Report how far the sweep is whenever a run ends and, while runs are `elsewhere`, in a line of the terminal."""
    progress = Progress(runs, since=record.began)
    state, _ = progress.poll()  # do not report runs that ended before
    if elsewhere:
        log.info("%s", state)
    over = threading.Event()
    line = console.status("") if elsewhere and console.is_terminal else nullcontext()

    def poll() -> None:
        state, ended = progress.poll()
        if isinstance(line, Status):
            line.update(str(state))
        for index in ended:
            if elsewhere or progress.ended[index] == "failed":  # a success in this process has been logged by its run
                log.info("%s", _outcome(runs[index]))
        if ended:
            log.info("%s", state)

    def keep_polling() -> None:
        pause = 0.0
        while not over.wait(pause):
            began = time.monotonic()
            poll()
            pause = max(1.0, 20 * (time.monotonic() - began))  # thousands of runs are looked at less often

    thread = threading.Thread(target=keep_polling, name="sweep progress", daemon=True)
    with line:
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()
            poll()


def _outcome(run: PlannedRun) -> str:
    result = read_result(Path(run.folder)) or {}
    if result.get("status") == "failed":
        return f"failed: {shlex.join(run.overrides)}: {run.folder}/run.log"  # the reason follows at the sweep's end
    return f"{describe(result)}: {run.folder}"


def unfinished_sweeps(folder: Path) -> list[str]:
    """A line on each sweep with runs at or below `folder` that is running, or was interrupted before all were done."""
    lines, interrupted = [], {}
    folder = folder.absolute()
    roots = [base / FOLDER for base in (folder, *folder.parents[:3])]
    for file in sorted(file for root in roots for file in root.glob("*/sweep.json")):
        record = SweepRecord(file.parent)
        content = record.read() or {}
        try:
            runs = _planned(content)
            if not any(Path(run.folder).is_relative_to(folder) for run in runs):
                continue
            state, _ = Progress(runs, since=0.0).poll()
        except (KeyError, TypeError, ValueError, OSError):
            lines.append(f"{file}: cannot be read, skipped")
            continue
        if record.is_alive:
            lines.append(f"sweep of {content.get('started')}: {state}")
        elif state.counts["to go"] or state.counts["running"]:
            ended = "its jobs run elsewhere, or it was interrupted"
            command = str(content.get("command"))  # of one that was interrupted several times, the last is listed
            interrupted[command] = f"sweep of {content.get('started')} ({ended}): {state}; again with: {command}"
    return [*lines, *interrupted.values()]
