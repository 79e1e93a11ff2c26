from collections.abc import Callable
from typing import Any

import pytest

# A ResNet small enough for seconds.
SMALL = (
    "dataset=digits",
    "image_size=16",
    "model=resnet",
    "model.blocks_per_group=[1,1]",
    "model.widths=[8,16]",
    "trainer.max_epochs=2",
    "trainer.progress_bar=false",
    "optimizer.lr=0.01",
    "logger=none",
)


@pytest.fixture
def small_overrides() -> tuple[str, ...]:
    return SMALL


@pytest.fixture
def small(config: Callable[..., Any]) -> Callable[..., Any]:
    return lambda *overrides, name="run": config(*SMALL, *overrides, name=name)
