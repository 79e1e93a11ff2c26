"""The script `benchmarks/scaling.py`: its options, and how speed and memory scale."""

import time
from collections.abc import Callable
from typing import Any

import pytest

from benchmarks import scaling
from benchmarks.scaling import Point, train_point
from cnnzoo.bench.context import Context
from cnnzoo.bench.processes import in_fresh_process
from cnnzoo.config.schema import BenchConfig
from cnnzoo.errors import UserError

MIB = 2**20


def test_own_options() -> None:
    sizes, overrides = scaling.split_options(["what=parallel", "parallel=[4,1,4]", "model=resnet", "rounds=2"])
    assert sizes == scaling.SIZES | {"parallel": [1, 4]}
    assert overrides == ["what=parallel", "model=resnet", "rounds=2"]


@pytest.mark.parametrize("option", ["parallel=[1,0]", "image_sizes=[]", "sweep_sizes=3", "dataset_sizes=[x]"])
def test_bad_option(option: str) -> None:
    with pytest.raises(UserError, match="expected a list of positive numbers"):
        scaling.split_options([option])


def test_sections_of_the_package_are_none_of_the_script() -> None:
    with pytest.raises(SystemExit, match="error: what=training: expected one of image_size, dataset_size"):
        scaling.main(["what=training"])


def test_image_sizes(context: Callable[..., Context], monkeypatch: pytest.MonkeyPatch) -> None:
    def train(function: Callable[..., Any], config: BenchConfig) -> Point:
        assert config.image_size == config.dataset.image_size
        return Point(rate=100.0 / config.image_size, peak=5 * MIB, images=2 * MIB)

    monkeypatch.setattr(scaling, "in_fresh_process", train)
    entries = scaling.measure_image_sizes(context(), [8, 16])["contestants"]
    assert {name: entry["median"] for name, entry in entries.items()} == {"8": 12.5, "16": 6.25}
    assert entries["8"]["peak_memory_mib"] == 5
    assert entries["8"]["without_images_mib"] == 3


def test_dataset_sizes(context: Callable[..., Context], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scaling, "in_fresh_process", lambda function, config, size: Point(size, 5 * MIB, size))
    entries = scaling.measure_dataset_sizes(context(), [64, 4096])["contestants"]
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
