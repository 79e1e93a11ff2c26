"""The script's section `parallel`."""

import statistics
import time
from collections.abc import Callable, Iterator

import pytest
import torch

from benchmarks import parallel
from cnnzoo.bench.context import Context
from cnnzoo.config.schema import BenchConfig
from cnnzoo.errors import UserError


@pytest.fixture
def threads() -> Iterator[int]:
    before = torch.get_num_threads()
    yield before
    torch.set_num_threads(before)


def test_section(context: Callable[..., Context]) -> None:
    entries = parallel.measure_parallel_runs(context(), [1, 2])["contestants"]
    assert list(entries) == ["1", "2"]
    one, two = entries["1"]["rounds"], entries["2"]["rounds"]
    assert entries["2"]["gain"] == pytest.approx(statistics.median(b / a for a, b in zip(one, two, strict=True)))


def test_process_trains_with_its_threads(small: Callable[..., BenchConfig], threads: int) -> None:
    parallel.prepare(small())
    started = time.perf_counter()
    begin, end = parallel.train(1)
    assert started < begin < end < time.perf_counter()
    assert torch.get_num_threads() == 1


def test_failure_in_a_process_is_raised(context: Callable[..., Context]) -> None:
    with pytest.raises(UserError, match="Nesterov momentum requires"):
        parallel.measure_parallel_runs(context("optimizer=sgd", "optimizer.nesterov=true", "optimizer.momentum=0"), [1])
