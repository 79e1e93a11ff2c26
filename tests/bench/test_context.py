"""The images that are measured."""

from collections.abc import Callable

import pytest
import torch

from cnnzoo.bench.context import Context
from cnnzoo.config.schema import BenchConfig

Small = Callable[..., BenchConfig]


@pytest.mark.parametrize(
    ("overrides", "expected", "shape"),
    [
        ([], "dataset", (1, 8, 8)),
        (["images=random"], "random", (1, 32, 32)),
        (["dataset.val_size=2000"], "random", (1, 32, 32)),  # more than there are
    ],
)
def test_random_images_instead_of_missing_ones(
    overrides: list[str], expected: str, shape: tuple[int, ...], small: Small
) -> None:
    context = Context(small(*overrides))
    assert context.dataset.train.shape[1:] == shape
    assert context.dataset.train.in_memory().images.dtype == torch.uint8
    assert context.images == expected


def test_context_reads_images_once(small: Small) -> None:
    context = Context(small())
    assert context.images == "auto"
    assert context.dataset is context.dataset
    assert context.images == "dataset"
