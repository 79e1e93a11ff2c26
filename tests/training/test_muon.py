"""Muon against a decomposition, and against torch's SGD and Muon."""

from collections.abc import Iterable
from typing import Any

import pytest
import torch
from torch import nn

from cnnzoo.training.muon import COEFFICIENTS, Muon, orthogonalize, orthogonalize_all


@pytest.mark.parametrize("shape", [(6, 20), (20, 6), (3, 8, 8)])
def test_newton_schulz_moves_the_singular_values_alone(shape: tuple[int, ...]) -> None:
    """The reference applies the polynomial to the singular values of a decomposition, one by one."""
    matrix = torch.randn(shape, generator=torch.manual_seed(0), dtype=torch.float64)
    u, s, vh = torch.linalg.svd(matrix, full_matrices=False)
    s = s / s.square().sum(-1, keepdim=True).sqrt()
    a, b, c = COEFFICIENTS
    for _ in range(5):
        s = a * s + b * s**3 + c * s**5
    torch.testing.assert_close(orthogonalize(matrix, 5, eps=0.0), u @ torch.diag_embed(s) @ vh, atol=1e-9, rtol=1e-9)
    if shape != (3, 8, 8):  # a square Gaussian matrix has singular values near zero
        nearly = torch.linalg.svdvals(orthogonalize(matrix, 5))
        assert 0.65 < nearly.min() <= nearly.max() < 1.25  # the bounds of the iteration's own paper


def muon(params: Iterable[nn.Parameter], **options: Any) -> Muon:
    defaults: dict[str, Any] = {
        "lr": 0.1,
        "momentum": 0.9,
        "nesterov": True,
        "weight_decay": 0.0,
        "orthogonalize": True,
        "normalize": False,
        "ns_steps": 5,
    }
    return Muon(params, **defaults | options)


def descend(optimizer: torch.optim.Optimizer, parameter: nn.Parameter, steps: int, start: int = 0) -> None:
    for step in range(start, start + steps):
        parameter.grad = torch.randn(parameter.shape, generator=torch.manual_seed(step))
        optimizer.step()


def test_without_orthogonalizing_it_is_torchs_sgd() -> None:
    ours, theirs = (nn.Parameter(torch.ones(4, 3)) for _ in range(2))
    descend(muon([ours], orthogonalize=False, weight_decay=0.1), ours, 5)
    descend(torch.optim.SGD([theirs], lr=0.1, momentum=0.9, nesterov=True, weight_decay=0.1), theirs, 5)
    torch.testing.assert_close(ours, theirs)


def test_steps_are_torchs_muon_on_matrices() -> None:
    # Square, because torch's rate depends on the ratio of the sides; torch weights the new gradient with 1 - momentum,
    # which the normalisation undoes, and computes in bfloat16.
    ours, theirs = (nn.Parameter(torch.eye(16)) for _ in range(2))
    descend(muon([ours], weight_decay=0.1), ours, 3)
    descend(torch.optim.Muon([theirs], lr=0.1, momentum=0.9, nesterov=True, weight_decay=0.1), theirs, 3)
    torch.testing.assert_close(ours, theirs, atol=0.03, rtol=0)


def test_filters_are_the_rows_of_a_matrix_and_keep_their_norm() -> None:
    conv = nn.Parameter(torch.randn(4, 2, 3, 3, generator=torch.manual_seed(0)).to(memory_format=torch.channels_last))
    optimizer = muon([conv], lr=0.0, normalize=True)
    descend(optimizer, conv, 1)
    assert conv.norm().item() == pytest.approx(2, rel=1e-5)  # √4
    optimizer.param_groups[0]["lr"] = 1.0
    before = conv.detach().clone()
    descend(optimizer, conv, 1, start=1)
    values = torch.linalg.svdvals((before - conv.detach()).flatten(1))
    assert 0.65 < values.min() <= values.max() < 1.25


def test_padding_changes_the_batches_alone() -> None:
    shapes = [(4, 2, 3, 3), (4, 30), (6, 4), (4, 2, 3, 3), (3, 3)]
    tensors = [torch.randn(shape, generator=torch.manual_seed(i)) for i, shape in enumerate(shapes)]
    for ours, theirs in zip(orthogonalize_all(tensors, 5, pad=True), orthogonalize_all(tensors, 5), strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(("normalize", "normalized"), [(True, [0, 1, 2, 3]), (3, [0, 3]), (False, [])])
def test_norms_are_set_every_few_steps(normalize: bool | int, normalized: list[int]) -> None:
    """With a rate of zero nothing else changes the norm."""
    weight = nn.Parameter(torch.ones(4, 9))
    optimizer = muon([weight], lr=0.0, normalize=normalize)
    for step in range(4):
        weight.data.fill_(1.0)
        descend(optimizer, weight, 1, start=step)
        expected = 2.0 if step in normalized else 6.0  # √4, √36
        assert weight.norm().item() == pytest.approx(expected)


def test_state_of_an_older_version_is_continued() -> None:
    weight = nn.Parameter(torch.ones(4, 3))
    first = muon([weight])
    descend(first, weight, 1)
    state = first.state_dict()
    for group in state["param_groups"]:
        del group["pad"], group["step"]
    second = muon([weight])
    second.load_state_dict(state)
    descend(second, weight, 1)


def test_state_dict_continues_exactly() -> None:
    whole, halves = (nn.Parameter(torch.ones(4, 3)) for _ in range(2))
    descend(muon([whole]), whole, 4)
    first = muon([halves])
    descend(first, halves, 2)
    second = muon([halves])
    second.load_state_dict(first.state_dict())
    descend(second, halves, 2, start=2)
    assert torch.equal(whole, halves)


def test_vectors_cannot_be_orthogonalized() -> None:
    with pytest.raises(ValueError, match="orthogonalize=false"):
        muon([nn.Parameter(torch.ones(3))])
