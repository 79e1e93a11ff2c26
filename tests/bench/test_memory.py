"""The sections `memory` and `batch_size`."""

import mmap
import time
from collections.abc import Callable
from typing import Any

import pytest

from cnnzoo.bench import memory
from cnnzoo.bench.context import Context
from cnnzoo.config.schema import BenchConfig
from cnnzoo.errors import UserError

MIB = 2**20


def test_peak_is_of_the_measurement(small: Callable[..., BenchConfig], resident_bytes: Callable[[], int]) -> None:
    earlier = mmap.mmap(-1, 2**30)
    for page in range(0, 2**30, mmap.PAGESIZE):
        earlier[page] = 1
    earlier.close()
    resident = resident_bytes()
    peak = memory.peak_of_candidate(small(), "bare_fp32")
    assert 0.9 * resident < peak < resident + 2**29


def test_memory_section(context: Callable[..., Context], monkeypatch: pytest.MonkeyPatch) -> None:
    peaks = {"cnnzoo": 3 * 2**30, "bare_fp32": 2**30}
    monkeypatch.setattr(memory, "in_fresh_process", lambda function, config, name: peaks[name])
    result = memory.measure_memory(context("contestants=[cnnzoo,bare_fp32]"))
    assert result["unit"] == "MiB"
    assert result["contestants"]["cnnzoo"]["median"] == 3072
    assert result["ratios"]["bare_fp32"]["median"] == 3


def train_if_it_fits(function: Callable[..., Any], config: BenchConfig) -> tuple[float, int]:
    size = config.dataset.batch_size
    if size > 100:
        raise UserError("out of memory")
    return 10.0 * size, size * MIB


def test_batch_size_is_doubled_until_training_fails(
    context: Callable[..., Context], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory, "in_fresh_process", train_if_it_fits)
    result = memory.measure_batch_sizes(context())
    assert {name: entry["median"] for name, entry in result["contestants"].items()} == {"16": 160, "32": 320, "64": 640}
    assert result["contestants"]["32"]["peak_memory_mib"] == 32
    assert result["largest"] == 64


def test_batch_size_is_doubled_until_memory_would_end(
    context: Callable[..., Context], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory, "in_fresh_process", train_if_it_fits)
    monkeypatch.setattr(memory, "memory_free", lambda device: 40 * MIB)
    assert memory.measure_batch_sizes(context())["largest"] == 32


def test_failure_at_smallest_batch_size_is_raised(
    context: Callable[..., Context], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory, "_BATCH_SIZES", [128])
    monkeypatch.setattr(memory, "in_fresh_process", train_if_it_fits)
    with pytest.raises(UserError, match="out of memory"):
        memory.measure_batch_sizes(context())


def test_train_bare(small: Callable[..., BenchConfig], resident_bytes: Callable[[], int]) -> None:
    resident, begin = resident_bytes(), time.perf_counter()
    rate, peak = memory.train_bare(small("steps=3", "dataset.batch_size=8"))
    assert rate * (time.perf_counter() - begin) > 3 * 8  # the timed steps are a part of the call
    assert 0.9 * resident < peak < resident + 256 * MIB
