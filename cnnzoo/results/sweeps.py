"""A sweep's own record, `<outputs>/.sweeps/<time>/sweep.json`: its jobs and their runs' folders. No torch.

How far a sweep is follows from the runs' folders alone, at any time and from any terminal. Times are compared as the
file system stamped them, so clocks of several machines need not agree.
"""

import fcntl
import json
import os
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from cnnzoo.results.columns import duration
from cnnzoo.results.record import now, read_result, write_atomically
from cnnzoo.results.scan import is_running

FOLDER = ".sweeps"


@dataclass(frozen=True)
class Planned:
    """A job: what its command line adds, the folder that its run has or will have, and how many epochs that takes."""

    overrides: tuple[str, ...]
    folder: str
    epochs: int


@dataclass(frozen=True)
class State:
    """How far a sweep is: number of its runs in each state, and about how many seconds are left (None: not known)."""

    counts: Counter[str]
    seconds_left: float | None

    def __str__(self) -> str:
        parts = [f"{self.counts[state]} {name}" for state, name in _NAMES.items() if self.counts[state]]
        count = self.counts.total()
        left = f"; about {duration(self.seconds_left)} left" if self.seconds_left else ""
        return f"{count} {'run' if count == 1 else 'runs'}: {', '.join(parts)}{left}"


_NAMES = {"completed": "done", "running": "running", "pruned": "pruned", "failed": "failed", "to go": "to go"}
_ENDED = ("completed", "pruned", "failed")


class SweepRecord:
    """The record in one sweep's folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.file = folder / "sweep.json"

    def add(self, command: str, jobs: Sequence[Planned]) -> list[Planned]:
        """Writes `jobs` down, after those that a searching sweeper gave before; returns all of them."""
        content = self.read() or {"command": command, "started": now(), "jobs": []}
        content["jobs"] += [{"overrides": job.overrides, "folder": job.folder, "epochs": job.epochs} for job in jobs]
        write_atomically(self.file, json.dumps(content, indent=1))
        return [_job(entry) for entry in content["jobs"]]

    def read(self) -> dict[str, Any] | None:
        """None where there is no record, or none that can be read."""
        try:
            content = json.loads(self.file.read_text(encoding="utf-8"))
            return content if isinstance(content["jobs"], list) else None
        except (OSError, ValueError, KeyError, TypeError):
            return None

    @contextmanager
    def running(self) -> Iterator[None]:
        """Marks the sweep as alive; the mark dies with this process."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / ".lock").open("a") as file:
            with suppress(OSError):
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            yield

    @property
    def began(self) -> float:
        """When it was first running, as the file system stamped it; a search adds jobs to its record later, too."""
        return (self.folder / ".lock").stat().st_mtime

    @property
    def alive(self) -> bool:
        return is_running(str(self.folder))


def _job(entry: Mapping[str, Any]) -> Planned:
    return Planned(tuple(entry["overrides"]), str(entry["folder"]), int(entry["epochs"]))


class Progress:
    """Follows the runs of a sweep; those that have ended are looked at no more."""

    def __init__(self, jobs: Sequence[Planned], since: float) -> None:
        """`since`: a failure that the file system stamped before then is of an earlier attempt."""
        self.jobs, self.since = jobs, since
        self.ended: dict[int, str] = {}
        self.seconds: dict[int, float] = {}  # of the runs that ended under our eyes

    def look(self) -> tuple[State, list[int]]:
        """The state, and the numbers of the jobs that have ended since the last look."""
        states: dict[int, str] = {}
        news: list[int] = []
        for number, job in enumerate(self.jobs):
            state = self.ended.get(number) or self._state(job)
            states[number] = state
            if state in _ENDED and number not in self.ended:
                self.ended[number] = state
                news.append(number)
                if (ended := _changed(job, "result.json") or 0) > self.since:
                    self.seconds[number] = ended - (_changed(job, "config.yaml") or ended)
        return State(Counter(states.values()), self._seconds_left(states)), news

    def _state(self, job: Planned) -> str:
        if (ended := _changed(job, "result.json")) is not None:
            status = str((read_result(Path(job.folder)) or {}).get("status"))
            if status == "completed" or (status in _ENDED and ended > self.since):
                return status
        return "running" if is_running(job.folder) else "to go"

    def _seconds_left(self, states: dict[int, str]) -> float | None:
        """From the runs that ended, of the same network where there are any; from the epochs of those that run."""
        left, running = 0.0, 0
        for number, state in states.items():
            if state not in ("running", "to go"):
                continue
            job = self.jobs[number]
            begun = _changed(job, "config.yaml") if state == "running" else None
            elapsed = max(0.0, time.time() - begun) if begun is not None else 0.0
            running += state == "running"
            expected = self._expected(job) or (elapsed * job.epochs / done if (done := _epochs(job)) else None)
            if expected is None:
                return None
            left += max(0.0, expected - elapsed)
        return left / max(1, running)

    def _expected(self, job: Planned) -> float | None:
        own = Path(job.folder).parent
        alike = [s for n, s in self.seconds.items() if Path(self.jobs[n].folder).parent == own]
        return median(alike or self.seconds.values()) if self.seconds else None


def _changed(job: Planned, name: str) -> float | None:
    try:
        return os.stat(f"{job.folder}/{name}").st_mtime  # noqa: PTH116  (thousands of jobs, once a second)
    except OSError:
        return None


def _epochs(job: Planned) -> int:
    try:
        with Path(job.folder, "metrics.csv").open("rb") as file:
            return max(0, sum(1 for _ in file) - 1)
    except OSError:
        return 0


def unfinished_sweeps(folder: Path) -> list[str]:
    """A line on each sweep with runs at or below `folder` that goes on, or was interrupted before all were done."""
    lines, sweeps = [], {}
    roots = [base / FOLDER for base in (folder.absolute(), *folder.absolute().parents[:3])]
    for file in sorted(file for root in roots for file in root.glob("*/sweep.json")):
        record = SweepRecord(file.parent)
        content = record.read()
        if content is None:
            lines.append(f"{file}: cannot be read, skipped")
            continue
        try:
            jobs = [_job(entry) for entry in content["jobs"]]
        except (KeyError, TypeError, ValueError):
            lines.append(f"{file}: not a sweep's record, skipped")
            continue
        if not any(Path(job.folder).is_relative_to(folder.absolute()) for job in jobs):
            continue
        state, _ = Progress(jobs, since=0.0).look()
        if record.alive:
            lines.append(f"sweep of {content.get('started')}: {state}")
        elif state.counts["to go"] or state.counts["running"]:
            ended = "its jobs run elsewhere, or it was interrupted"
            command = content.get("command")  # of one that was interrupted several times, the last is told of
            sweeps[command] = f"sweep of {content.get('started')} ({ended}): {state}; again with: {command}"
    return [*lines, *sweeps.values()]
