"""Schedules against numpy, closed formulas and torch's own."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.optim import SGD
from torch.optim.lr_scheduler import LinearLR, LRScheduler, OneCycleLR

from cnnzoo.config import compose
from cnnzoo.errors import UserError
from cnnzoo.training.schedules import build_scheduler, triangular, warmup_cosine, warmup_factor

ONECYCLE = {"_target_": "torch.optim.lr_scheduler.OneCycleLR", "interval": "step", "max_lr": 0.1, "total_steps": None}


def sgd(*group_rates: float, lr: float = 0.1) -> SGD:
    groups = [{"params": [nn.Parameter(torch.zeros(1))]}]
    groups += [{"params": [nn.Parameter(torch.zeros(1))], "lr": rate} for rate in group_rates]  # type: ignore[dict-item]
    return SGD(groups, lr=lr, momentum=0.9)


def rates(optimizer: SGD, schedule: LRScheduler, steps: int, group: int = 0) -> list[float]:
    result = []
    for _ in range(steps):
        result.append(optimizer.param_groups[group]["lr"])
        optimizer.step()
        schedule.step()
    return result


@pytest.mark.parametrize(("pct_start", "start", "end"), [(0.23, 0.2, 0.07), (0.0, 1.0, 0.0)])
def test_triangular_is_numpys_interpolation(pct_start: float, start: float, end: float) -> None:
    total = 476
    optimizer = sgd(2.0)
    found = rates(optimizer, triangular(optimizer, total, pct_start, start, end), total, group=1)
    points = {0: start, int(pct_start * total): 1.0, total: end}
    np.testing.assert_allclose(found, 2 * np.interp(range(total), list(points), list(points.values())), rtol=1e-6)


def test_warmup_cosine_is_the_published_formula() -> None:
    """η_min + (η_max - η_min) (1 + cos(π T_cur / T_i)) / 2 after a straight line."""
    optimizer = sgd(lr=2.0)
    found = rates(optimizer, warmup_cosine(optimizer, 100, 0.2, 0.1, 0.05), 120)
    line = [2 * (0.1 + 0.9 * step / 20) for step in range(20)]
    cosine = [0.1 + (2 - 0.1) * (1 + math.cos(math.pi * step / 80)) / 2 for step in range(80)]
    np.testing.assert_allclose(found[:100], line + cosine, rtol=1e-12)
    np.testing.assert_allclose(found[100:], 0.1, rtol=1e-12)


@pytest.mark.parametrize("schedule", [triangular, warmup_cosine])
@pytest.mark.parametrize("arguments", [(1.0, 0.1, 0.1), (-0.1, 0.1, 0.1), (0.2, -1.0, 0.1), (0.2, 0.1, -1.0)])
def test_fractions_out_of_range_are_refused(schedule: Any, arguments: tuple[float, float, float]) -> None:
    with pytest.raises(ValueError, match="expected at least 0"):
        schedule(sgd(), 10, *arguments)


def test_warmup_is_torchs_linear_lr() -> None:
    optimizer = sgd(lr=1.0)
    expected = rates(optimizer, LinearLR(optimizer, start_factor=0.01, end_factor=1.0, total_iters=7), 10)
    np.testing.assert_allclose([warmup_factor(step, 7, 0.01) for step in range(10)], expected, rtol=1e-12)
    assert warmup_factor(0, 0, 0.01) == 1


def test_group_rates_under_onecycle() -> None:
    """Each group follows the cycle that it would follow alone."""
    optimizer = sgd(0.4, 0.1)
    schedule = build_scheduler(optimizer, ONECYCLE, total_steps=30)
    assert schedule is not None
    found = []
    for _ in range(30):
        found.append([group["lr"] for group in optimizer.param_groups])
        optimizer.step()
        schedule.step()
    for group, rate in enumerate((0.1, 0.4, 0.1)):
        alone = sgd(lr=rate)
        expected = rates(alone, OneCycleLR(alone, max_lr=rate, total_steps=30), 30)
        np.testing.assert_allclose([step[group] for step in found], expected, rtol=1e-12)


def test_onecycle_maximum_stays_the_configured_one() -> None:
    optimizer = sgd(0.4)
    build_scheduler(optimizer, {**ONECYCLE, "max_lr": 0.5}, total_steps=30)
    assert [group["max_lr"] for group in optimizer.param_groups] == pytest.approx([0.5, 2.0])
    optimizer = sgd(0.4)
    build_scheduler(optimizer, {**ONECYCLE, "max_lr": [0.5, 0.6]}, total_steps=30)
    assert [group["max_lr"] for group in optimizer.param_groups] == [0.5, 0.6]


def test_total_steps_are_offered_unless_set() -> None:
    optimizer = sgd()
    with_all = build_scheduler(optimizer, compose(["scheduler=onecycle"]).scheduler, total_steps=30)
    assert isinstance(with_all, OneCycleLR)
    assert with_all.total_steps == 30
    fewer = build_scheduler(sgd(), {**ONECYCLE, "total_steps": 20}, total_steps=30)
    assert isinstance(fewer, OneCycleLR)
    assert fewer.total_steps == 20


def test_no_schedule() -> None:
    assert build_scheduler(sgd(), compose(["scheduler=none"]).scheduler, total_steps=30) is None
    recipe = compose(["experiment=speedrun/cifar10_94", "scheduler=none"])
    assert build_scheduler(sgd(), recipe.scheduler, total_steps=30) is None


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["scheduler=cosine", "scheduler.interval=steps"], ["scheduler.interval=steps", "epoch, step"]),
        (["scheduler=cosine", "+scheduler.gama=1"], ["scheduler.gama", "T_max"]),
        (["scheduler=cosine", "+scheduler.monitor=val_loss"], ["scheduler.monitor", "CosineAnnealingLR"]),
        (["scheduler=plateau", "scheduler.monitor=val_acc"], ["scheduler.monitor=val_acc", "val_accuracy"]),
        (["scheduler=plateau", "+scheduler.interval=step"], ["scheduler.interval", "ReduceLROnPlateau"]),
        (["scheduler=triangular", "scheduler.pct_start=1.5"], ["pct_start=1.5"]),
        (["scheduler._target_=torch.optim.SGD"], ["torch.optim.SGD", "LRScheduler"]),
    ],
)
def test_mistakes_are_named(overrides: list[str], words: list[str]) -> None:
    with pytest.raises(UserError) as error:
        build_scheduler(sgd(), compose(overrides).scheduler, total_steps=30)
    for word in words:
        assert word in str(error.value)
