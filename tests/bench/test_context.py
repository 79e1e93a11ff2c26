"""The images that are measured, and the overrides that `cnnzoo.run` takes."""

from collections.abc import Callable

import pytest
import torch

from cnnzoo.bench.context import Context, load_images
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
    dataset, images = load_images(small(*overrides))
    assert images == expected
    assert dataset.train.shape[1:] == shape
    assert dataset.train.in_memory().images.dtype == torch.uint8


def test_context_reads_images_once(small: Small) -> None:
    context = Context(small())
    assert context.images == "auto"
    assert context.dataset is context.dataset
    assert context.images == "dataset"


def test_run_overrides(small: Small) -> None:
    overrides = [
        "model=resnet",
        "what=startup",
        "rounds=1",
        "out=x",
        "+extra.steps=3",
        "format=json",
        "warmup.epochs=1",
    ]
    assert Context(small(), overrides).run_overrides == ["model=resnet", "+extra.steps=3", "warmup.epochs=1"]
