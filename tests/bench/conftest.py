"""A network and images so small that a step takes milliseconds."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from cnnzoo.bench.context import Context, random_dataset
from cnnzoo.config.schema import BenchConfig
from cnnzoo.data.dataset import Dataset

SMALL = (
    "dataset=digits",
    "image_size=8",
    "dataset.batch_size=4",
    "model.blocks_per_group=[1,1,1]",
    "model.widths=[4,4,4]",
    "rounds=2",
    "warmup_steps=1",
    "steps=2",
    "workers=0",
    "trainer=cpu",
    "logger=none",
)


@pytest.fixture
def small(config: Callable[..., Any]) -> Callable[..., BenchConfig]:
    """Compose the small benchmark with more overrides: `small("steps=10")`."""

    def compose(*overrides: str) -> BenchConfig:
        result = config(*SMALL, *overrides, name="bench")
        assert isinstance(result, BenchConfig)
        return result

    return compose


@pytest.fixture
def dataset(small: Callable[..., BenchConfig]) -> Dataset:
    """40 training images of 8×8, 10 batches of the small benchmark."""
    return random_dataset(replace(small().dataset, image_size=8), train=40, test=8)


@pytest.fixture
def context(small: Callable[..., BenchConfig], dataset: Dataset) -> Callable[..., Context]:
    """The context of the small benchmark with more overrides, and `dataset` as its images."""

    def make(*overrides: str) -> Context:
        return Context(small(*overrides), dataset)

    return make


@pytest.fixture
def resident_bytes() -> Callable[[], int]:
    """Return the resident set of this process; Linux only."""

    def read() -> int:
        lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
        return 1024 * next(int(line.split()[1]) for line in lines if line.startswith("VmRSS"))

    return read
