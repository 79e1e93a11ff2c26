"""The script's section `allocators`."""

import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any

import pytest

from benchmarks import allocators
from cnnzoo.bench.context import Context
from cnnzoo.config.schema import BenchConfig

OVERRIDES = ("eval_images=8", "eval_batch_sizes=[3,128]", "rounds=1")


def test_section(context: Callable[..., Context], monkeypatch: pytest.MonkeyPatch) -> None:
    processes: list[tuple[Sequence[tuple[int, int]], str | None]] = []

    def here(function: Callable[..., Any], config: BenchConfig, mallopt: Any) -> dict[str, dict[str, float]]:
        processes.append((mallopt, os.environ.get("THP_MEM_ALLOC_ENABLE")))
        rate = float(len(processes))
        return {size: {"rate": rate, "page_faults_per_image": 10 * rate} for size in ("3", "128")}

    monkeypatch.setattr(allocators, "in_fresh_process", here)
    result = allocators.measure_allocators(context(*OVERRIDES))
    names = list(allocators.ALLOCATORS)
    assert list(result["contestants"]) == [f"{name} {size}" for name in names for size in (3, 128)]
    # the warm-up is 1 to 4; the round starts with the second: 5, 6, 7, and the first is the last: 8
    assert [result["contestants"][f"{name} 3"]["rounds"] for name in names] == [[8.0], [5.0], [6.0], [7.0]]
    assert result["contestants"]["no_mmap 3"]["page_faults_per_image"] == 60
    assert result["reference"] == "default 128"
    assert ([], "1") in processes
    assert ([(-1, 2**31 - 1), (-4, 0)], None) in processes


def test_evaluate_at_batch_sizes(small: Callable[..., BenchConfig], monkeypatch: pytest.MonkeyPatch) -> None:
    evaluated: list[list[int]] = []

    def predict(model: Any, batches: Any) -> SimpleNamespace:
        evaluated.append([len(labels) for _, labels in batches])
        return SimpleNamespace(seconds=2.0)

    monkeypatch.setattr(allocators, "predict", predict)
    results = allocators.evaluate_at_batch_sizes(small(*OVERRIDES), [])
    assert evaluated == [[3, 3, 2], [3, 3, 2], [8], [8]]  # once to warm up
    assert {size: result["rate"] for size, result in results.items()} == {"3": 4.0, "128": 4.0}
    assert all(0 <= result["system_time_share"] <= 1 for result in results.values())


def test_c_library_takes_allocator_settings() -> None:
    code = "import ctypes; print(all(ctypes.CDLL(None).mallopt(p, v) for p, v in {}))"
    for mallopt, _ in allocators.ALLOCATORS.values():
        done = subprocess.run([sys.executable, "-c", code.format(mallopt)], capture_output=True, text=True, check=True)
        assert done.stdout == "True\n"
