"""The optimizer of a configuration and its groups of parameters."""

from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import nn

from cnnzoo.config import compose
from cnnzoo.errors import UserError
from cnnzoo.training.muon import Muon
from cnnzoo.training.optimizers import build_optimizer, freeze_finished_groups

SGD = {"_target_": "torch.optim.SGD", "lr": 0.1, "weight_decay": 0.01}


def net() -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Flatten(), nn.Linear(8, 3))


def sizes(optimizer: torch.optim.Optimizer) -> list[list[tuple[int, ...]]]:
    return [[tuple(p.shape) for p in group["params"]] for group in optimizer.param_groups]


def test_groups_select_by_name_module_and_dimensions() -> None:
    groups = {
        "biases": {"names": "*.bias", "lr": 0.3},
        "norms": {"modules": ["BatchNorm2d"], "ndim": 1, "weight_decay": 0.0},
        "head": {"names": ["3.*"], "modules": "Linear", "ndim": 2, "frozen_after": 2},
    }
    optimizer = build_optimizer(net(), {**SGD, "groups": groups})
    # the rest first; where several groups match, the last one takes the parameter
    assert {tuple(shapes) for shapes in sizes(optimizer)} == {
        ((2, 1, 3, 3),),
        ((3, 8),),
        ((2,), (2,)),
        ((2,), (3,)),
    }
    assert sizes(optimizer)[0] == [(2, 1, 3, 3)]
    by_size = {tuple(shapes): group for shapes, group in zip(sizes(optimizer), optimizer.param_groups, strict=True)}
    assert (by_size[(2,), (3,)]["lr"], by_size[(2,), (3,)]["weight_decay"]) == (0.3, 0.01)
    assert (by_size[(2,), (2,)]["lr"], by_size[(2,), (2,)]["weight_decay"]) == (0.1, 0.0)


@pytest.mark.parametrize("frozen_after", [0, 1])
def test_frozen_group_stays_as_it_is(frozen_after: int) -> None:
    model = net()
    groups = {"first": {"names": "0.*", "frozen_after": frozen_after}}
    optimizer = build_optimizer(model, {**SGD, "momentum": 0.9, "groups": groups})
    before = []
    for epoch in range(3):
        freeze_finished_groups(optimizer, epoch)
        before.append([p.detach().clone() for p in model.parameters()])
        optimizer.zero_grad()
        model(torch.randn(4, 1, 4, 4)).square().sum().backward()
        optimizer.step()
    changed = [[not torch.equal(a, b) for a, b in zip(*pair, strict=True)] for pair in pairwise(before)]
    assert changed[0] == [frozen_after == 1] * 2 + [True] * 4
    assert changed[1][:2] == [False] * 2
    assert all(changed[1][2:])


def test_parameters_that_are_not_trained_are_left_out() -> None:
    model = net()
    model[0].weight.requires_grad_(False)
    assert sizes(build_optimizer(model, SGD)) == [[(2,), (2,), (2,), (3, 8), (3,)]]


@pytest.mark.parametrize("name", ["adam", "sgd", "muon"])
def test_optimizers_of_the_configuration(name: str) -> None:
    config = compose([f"optimizer={name}"])
    optimizer = build_optimizer(net(), config.optimizer)
    kind = {"adam": torch.optim.AdamW, "sgd": torch.optim.SGD, "muon": Muon}[name]
    assert type(optimizer) is kind
    for key, value in config.optimizer.items():
        if key not in ("_target_", "groups"):
            assert optimizer.defaults[key] == value


@pytest.mark.parametrize(
    ("optimizer", "words"),
    [
        ({"groups": {"a": {"names": "nothing.*"}}}, ["groups.a (names=nothing.*)", "0.weight", "cnnzoo.summary"]),
        ({"groups": {"a": {"names": "*"}, "b": {"modules": "Conv1d"}}}, ["groups.b (modules=Conv1d)"]),
        ({"groups": {"a": {"names": "*", "weight_decy": 0.1}}}, ["groups.a.weight_decy", "'weight_decay'"]),
        ({"groups": {"a": {"names": "*", "lr": "fast"}}}, ["optimizer.groups.a.lr=fast", "a number"]),
        ({"groups": {"a": {"names": "*", "lr": -1.0}}}, ["optimizer.groups.a", "Invalid learning rate: -1.0"]),
        ({"groups": {"a": {"lr": 1}}}, ["optimizer.groups.a", "names, modules or ndim"]),
        ({"groups": {"a": {"names": "*", "frozen_after": -1}}}, ["groups.a.frozen_after=-1", "at least 0"]),
        ({"groups": {"a": {"names": "*", "frozen_after": 0.5}}}, ["groups.a.frozen_after=0.5", "whole number"]),
        ({"groups": [1]}, ["optimizer.groups=[1]", "a name and settings"]),
        ({"lr": "fast"}, ["optimizer.lr=fast", "a number"]),
        ({"lr": -1.0}, ["Invalid learning rate: -1.0"]),
        ({"momentm": 0.9}, ["optimizer.momentm", "'momentum'"]),
        ({"_target_": "torch.nn.Linear"}, ["torch.nn.Linear", "Optimizer"]),
    ],
)
def test_mistakes_are_named(optimizer: dict[str, Any], words: list[str]) -> None:
    with pytest.raises(UserError) as error:
        build_optimizer(net(), SGD | optimizer)
    for word in words:
        assert word in str(error.value)
