"""The section `evaluation`."""

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pytest

from cnnzoo.bench import evaluation
from cnnzoo.bench.context import Context
from cnnzoo.bench.processes import run_python
from cnnzoo.config.schema import BenchConfig

OVERRIDES = ("eval_images=8", "eval_batch_sizes=[3,128]", "rounds=1")


def test_section(context: Callable[..., Context], monkeypatch: pytest.MonkeyPatch) -> None:
    processes: list[tuple[Sequence[tuple[int, int]], Mapping[str, str]]] = []

    def here(
        function: Callable[..., Any], config: BenchConfig, mallopt: Any, environment: Mapping[str, str]
    ) -> dict[str, dict[str, float]]:
        processes.append((mallopt, environment))
        rate = float(len(processes))
        return {size: {"rate": rate, "page_faults_per_image": 10 * rate} for size in ("3", "128")}

    monkeypatch.setattr(evaluation, "in_fresh_process", here)
    result = evaluation.measure_evaluation(context(*OVERRIDES))
    names = list(evaluation.ALLOCATORS)
    assert list(result["contestants"]) == [f"{name} {size}" for name in names for size in (3, 128)]
    # the warm-up is 1 to 4; the round starts with the second: 5, 6, 7, and the first is the last: 8
    assert [result["contestants"][f"{name} 3"]["rounds"] for name in names] == [[8.0], [5.0], [6.0], [7.0]]
    assert result["contestants"]["no_mmap 3"]["page_faults_per_image"] == 60
    assert result["reference"] == "default 128"
    assert ([], {"THP_MEM_ALLOC_ENABLE": "1"}) in processes
    assert ([(-1, 2**31 - 1), (-4, 0)], {}) in processes


def test_evaluate_at_batch_sizes(small: Callable[..., BenchConfig], monkeypatch: pytest.MonkeyPatch) -> None:
    evaluated: list[list[int]] = []
    clock = [0.0]

    def predict(model: Any, batches: Any) -> None:
        evaluated.append([len(labels) for _, labels in batches])
        clock[0] += 2.0

    monkeypatch.setattr(evaluation, "predict", predict)
    monkeypatch.setattr(time, "perf_counter", lambda: clock[0])
    results = evaluation.evaluate_at_batch_sizes(small(*OVERRIDES), [])
    assert evaluated == [[3, 3, 2], [3, 3, 2], [8], [8]]  # once to warm up
    assert {size: result["rate"] for size, result in results.items()} == {"3": 4.0, "128": 4.0}
    assert all(0 <= result["system_time_share"] <= 1 for result in results.values())


def test_c_library_takes_allocator_settings() -> None:
    code = "import ctypes; print(all(ctypes.CDLL(None).mallopt(p, v) for p, v in {}))"
    for mallopt, _ in evaluation.ALLOCATORS.values():
        assert run_python(["-c", code.format(list(mallopt))]).strip() == b"True"
