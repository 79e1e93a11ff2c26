"""Contestants that take turns, and the figures that follow: medians, spread, ratios paired round by round. No torch.

Machines speed up and slow down over minutes. Contestants that take turns meet the same weather, so the ratio within a
round says more than the ratio of two figures that were taken one after the other.
"""

import json
import logging
import os
import statistics
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cnnzoo.errors import UserError

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Turn:
    """One turn of a contestant: `images` done in `seconds`; `first_step` is the seconds that its first step took."""

    images: int
    seconds: float
    first_step: float = float("nan")

    @property
    def rate(self) -> float:
        """Images a second."""
        return self.images / self.seconds


def take_turns(contestants: Mapping[str, Callable[[], Any]], rounds: int) -> dict[str, list[Any]]:
    """What each contestant returned: first of its warm-up, then of `rounds` turns; each round another one begins."""
    turns: dict[str, list[Any]] = {name: [] for name in contestants}
    names = list(contestants)
    for i in range(rounds + 1):
        for name in names[i % len(names) :] + names[: i % len(names)]:
            log.info("%s: %s", f"round {i}/{rounds}" if i else "warm-up", name)
            turns[name].append(contestants[name]())
    return turns


def spread(values: Sequence[float]) -> dict[str, Any]:
    """Median, least and greatest of `values`, and `values` themselves under `rounds`."""
    return {"median": statistics.median(values), "min": min(values), "max": max(values), "rounds": list(values)}


def section(unit: str, values: Mapping[str, Sequence[float]], reference: str | None = None) -> dict[str, Any]:
    """A part of the result: `values` hold one figure a round for each contestant, all with equally many rounds.

    `ratios` are the reference's figure divided by the contestant's in the same round.
    """
    result: dict[str, Any] = {"unit": unit, "contestants": {name: spread(v) for name, v in values.items()}}
    if reference is not None and reference in values:
        result["reference"] = reference
        result["ratios"] = {
            name: spread([a / b for a, b in zip(values[reference], v, strict=True)])
            for name, v in values.items()
            if name != reference
        }
    return result


def run_python(arguments: Sequence[str], stdin: str = "", environment: Mapping[str, str] | None = None) -> str:
    """Runs this Python with `arguments` in a process of its own; returns what it prints.

    Raises:
        UserError: it fails.
    """
    answer = subprocess.run(
        [sys.executable, *arguments], input=stdin, env={**os.environ, **(environment or {})}, capture_output=True,
        text=True, check=False,
    )  # fmt: skip
    if answer.returncode != 0:
        raise UserError(f"python {' '.join(arguments)} failed: {answer.stderr.strip()[-2000:]}")
    return answer.stdout


def in_fresh_process(task: str, argument: Any, environment: Mapping[str, str] | None = None) -> Any:
    """What the function `task`, named as `module:function`, answers to `argument`, asked in a process of its own.

    Memory, page faults and the allocator's settings belong to a process: that is what this is for.
    """
    module, _, function = task.partition(":")
    code = (
        "import contextlib, json, sys\n"
        "with contextlib.redirect_stdout(sys.stderr):\n"
        f"    from {module} import {function}\n"
        f"    answer = {function}(json.load(sys.stdin))\n"
        "print(json.dumps(answer))"
    )
    return json.loads(run_python(["-c", code], json.dumps(argument), environment))
