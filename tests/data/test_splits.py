"""How validation and test splits are drawn, for any sizes and labels."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from cnnzoo.data.splits import image_count, random_split_indices, stratified_split
from cnnzoo.errors import UserError

SIZES = st.floats(0, 0.999) | st.integers(-3, 120).map(float) | st.floats(1, 1e12)


@given(total=st.integers(1, 100), size=SIZES, seed=st.integers(0, 2**32 - 1))
def test_random_split_is_a_partition(total: int, size: float, seed: int) -> None:
    try:
        train, val = random_split_indices(total, size, seed)
    except UserError:
        assert not 0 <= image_count(size, total) < total
        return
    assert len(val) == image_count(size, total)
    assert sorted([*train.tolist(), *val.tolist()]) == list(range(total))
    again = random_split_indices(total, size, seed)
    assert torch.equal(train, again[0])


@given(counts=st.lists(st.integers(0, 30), min_size=2, max_size=6), size=SIZES, seed=st.integers(0, 2**32 - 1))
def test_stratified_split_has_every_class_on_both_sides(counts: list[int], size: float, seed: int) -> None:
    labels = np.repeat(np.arange(len(counts)), counts)
    index = np.arange(len(labels))
    classes = [f"class {label}" for label in range(len(counts))]
    generator = torch.Generator().manual_seed(seed)
    try:
        stay, drawn = stratified_split(index, labels, classes, size, "dataset.val_size", generator)
    except UserError:
        total = max(image_count(size, len(labels)), len(counts) if size < 1 else 0)
        assert min(counts) < 2 or not len(counts) <= total <= len(labels) - len(counts)
        return
    assert sorted([*stay, *drawn]) == list(index)
    for part in (stay, drawn):
        assert (np.bincount(labels[part], minlength=len(counts)) > 0).all()
    if size >= 1:
        assert len(drawn) == int(size)
    # in proportion, but for rounding and the image that each class has at least
    expected = np.array(counts) * len(drawn) / len(labels)
    assert (np.abs(np.bincount(labels[drawn], minlength=len(counts)) - expected) <= len(counts)).all()


@pytest.mark.parametrize("size", [0.5, 3])
def test_split_depends_on_the_seed(size: float) -> None:
    draws = {tuple(random_split_indices(50, size, seed)[1].tolist()) for seed in range(5)}
    assert len(draws) == 5
