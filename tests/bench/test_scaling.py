"""The sections `batch_size`, `image_size`, `dataset_size`, `devices` and `sweep_size`."""

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from cnnzoo.bench import scaling
from cnnzoo.bench.context import Context
from cnnzoo.bench.processes import in_fresh_process
from cnnzoo.bench.scaling import Point, train_point
from cnnzoo.config.schema import BenchConfig
from cnnzoo.errors import UserError

MIB = 2**20


def train_if_it_fits(function: Callable[..., Any], config: BenchConfig) -> Point:
    size = config.dataset.batch_size
    if size > 100:
        raise UserError("out of memory")
    return Point(10.0 * size, size * MIB, 0)


def test_batch_size_is_doubled_until_training_fails(
    context: Callable[..., Context], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scaling, "in_fresh_process", train_if_it_fits)
    result = scaling.measure_batch_sizes(context())
    assert {name: entry["median"] for name, entry in result["contestants"].items()} == {"16": 160, "32": 320, "64": 640}
    assert result["contestants"]["32"]["peak_memory_mib"] == 32
    assert result["largest"] == 64


def test_batch_size_is_doubled_until_memory_would_end(
    context: Callable[..., Context], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scaling, "in_fresh_process", train_if_it_fits)
    monkeypatch.setattr(scaling, "memory_free", lambda device: 40 * MIB)
    assert scaling.measure_batch_sizes(context())["largest"] == 32


def test_failure_at_smallest_batch_size_is_raised(
    context: Callable[..., Context], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scaling, "_BATCH_SIZES", [128])
    monkeypatch.setattr(scaling, "in_fresh_process", train_if_it_fits)
    with pytest.raises(UserError, match="out of memory"):
        scaling.measure_batch_sizes(context())


def test_train_bare(small: Callable[..., BenchConfig], resident_bytes: Callable[[], int]) -> None:
    resident, begin = resident_bytes(), time.perf_counter()
    point = scaling.train_bare(small("steps=3", "dataset.batch_size=8"))
    assert point.rate * (time.perf_counter() - begin) > 3 * 8  # the timed steps are a part of the call
    assert 0.9 * resident < point.peak < resident + 256 * MIB
    assert point.images == 8 * 32 * 32


def test_image_sizes(context: Callable[..., Context], monkeypatch: pytest.MonkeyPatch) -> None:
    def train(function: Callable[..., Any], config: BenchConfig) -> Point:
        assert config.image_size == config.dataset.image_size
        return Point(rate=100.0 / config.image_size, peak=5 * MIB, images=2 * MIB)

    monkeypatch.setattr(scaling, "in_fresh_process", train)
    entries = scaling.measure_image_sizes(context("image_sizes=[8,16]"))["contestants"]
    assert {name: entry["median"] for name, entry in entries.items()} == {"8": 12.5, "16": 6.25}
    assert entries["8"]["peak_memory_mib"] == 5
    assert entries["8"]["without_images_mib"] == 3


def test_dataset_sizes(context: Callable[..., Context], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scaling, "in_fresh_process", lambda function, config, size: Point(size, 5 * MIB, size))
    entries = scaling.measure_dataset_sizes(context("dataset_sizes=[64,4096]"))["contestants"]
    assert {name: entry["median"] for name, entry in entries.items()} == {"64": 64, "4096": 4096}


def test_memory_grows_with_the_images_alone(small: Callable[..., BenchConfig]) -> None:
    few, many = (in_fresh_process(train_point, small(), count) for count in (64, 200_000))
    assert (few.images, many.images) == (64 * 32 * 32, 200_000 * 32 * 32)
    # Besides its 1024 bytes, an image costs some 40 for its label, its place in the order of the epoch and its crop.
    assert 0.9 < (many.peak - few.peak) / many.images < 1.3


def test_devices(small: Callable[..., BenchConfig]) -> None:
    begin = time.perf_counter()
    rate = scaling.train_on_devices(small(), 1)
    # Two of the three epochs, of three batches of four images, are no faster than their median.
    assert rate * (time.perf_counter() - begin) > 2 * 3 * 4


def test_sweep_sizes(small: Callable[..., BenchConfig], monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]

    def run_python(arguments: Sequence[str]) -> None:
        clock[0] += 3 + 0.5 * int(arguments[-1].removeprefix("seed=range(0,").removesuffix(")"))

    monkeypatch.setattr(time, "perf_counter", lambda: clock[0])
    monkeypatch.setattr(scaling, "run_python", run_python)
    monkeypatch.setattr(scaling, "in_fresh_process", lambda function, *args: None)
    result = scaling.measure_sweep_sizes(Context(small("sweep_sizes=[30,1]")))
    assert {name: entry["median"] for name, entry in result["contestants"].items()} == {"1": 3.5, "30": 18}
    assert result["seconds_per_skipped_run"] == pytest.approx(0.5)


def test_sweep_that_trains_is_an_error(small: Callable[..., BenchConfig], monkeypatch: pytest.MonkeyPatch) -> None:
    def run_python(arguments: Sequence[str]) -> None:
        outputs = next(text.partition("=")[2] for text in arguments if text.startswith("paths.outputs="))
        Path(outputs, "metrics.csv").touch()

    monkeypatch.setattr(scaling, "run_python", run_python)
    monkeypatch.setattr(scaling, "in_fresh_process", lambda function, *args: None)
    with pytest.raises(UserError, match="should count as finished"):
        scaling.measure_sweep_sizes(Context(small("sweep_sizes=[1]")))
