"""Interleaved measurements and their summary: medians, spread, ratios within a round.

Machines speed up and slow down over minutes. Interleaving exposes all candidates to the same machine load, so a ratio
within one round is more reliable than the ratio of two numbers that were measured one after the other.
"""

import logging
import statistics
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

T = TypeVar("T")
log = logging.getLogger(__name__)


def run_interleaved(candidates: Mapping[str, Callable[[], T]], rounds: int) -> dict[str, list[T]]:
    """Return what each candidate returns in each round, after a call to warm up; each round starts with another one."""
    results: dict[str, list[T]] = {name: [] for name in candidates}
    names = list(candidates)
    for i in range(rounds + 1):
        first = i % len(names)
        for name in names[first:] + names[:first]:
            log.info("%s: %s", f"round {i}/{rounds}" if i else "warm-up", name)
            results[name].append(candidates[name]())
    return {name: values[1:] for name, values in results.items()}


def section(unit: str, values: Mapping[str, Sequence[float]], reference: str | None = None) -> dict[str, Any]:
    """Return a section of the result, from one value a round of each candidate, in `unit`.

    `ratios` are the values of the candidate `reference` divided by those of each other one, round by round.
    """
    result: dict[str, Any] = {"unit": unit, "contestants": {name: _summary(v) for name, v in values.items()}}
    if reference is not None and reference in values:
        result["reference"] = reference
        result["ratios"] = {
            name: _summary([a / b for a, b in zip(values[reference], v, strict=True)])
            for name, v in values.items()
            if name != reference
        }
    return result


def _summary(values: Sequence[float]) -> dict[str, Any]:
    return {"median": statistics.median(values), "min": min(values), "max": max(values), "rounds": list(values)}
