"""Learning-rate schedules: the one of a configuration, warm-up, and two that torch.optim lacks."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR, LRScheduler, ReduceLROnPlateau

from cnnzoo.config import instantiate
from cnnzoo.errors import UserError

# Settings that are not arguments of the schedule: how often it steps, and the metric whose plateau ReduceLROnPlateau
# looks for, after each epoch.
_CHOICES = {
    "interval": ("epoch", "step"),
    "monitor": ("val_accuracy", "val_loss", "train_accuracy", "train_loss"),
}


def build_scheduler(
    optimizer: Optimizer, node: Mapping[str, Any], total_steps: int, trusted_packages: Sequence[str] = ()
) -> LRScheduler | None:
    """Return the schedule that the section `scheduler`, `node`, describes; None if its `_target_` is null.

    The schedule is offered `total_steps`, the optimizer steps of the run. Where it sets learning rates itself
    (`max_lr`, `base_lr`), a parameter group with another rate than the optimizer's gets them in that proportion.

    Raises:
        UserError: there is no such schedule, or it refuses its arguments.
    """
    arguments = {key: value for key, value in node.items() if key not in _CHOICES}
    if arguments.get("_target_") is None:
        return None  # keys that an experiment has set may remain
    for key, choices in _CHOICES.items():
        if key in node and node[key] not in choices:
            raise UserError(f"scheduler.{key}={node[key]}: expected one of {', '.join(choices)}.")
    if arguments.get("total_steps", 0) is None:
        del arguments["total_steps"]
    for key in arguments.keys() & {"max_lr", "base_lr"}:
        arguments[key] = _for_each_group(optimizer, arguments[key])
    schedule = instantiate(
        LRScheduler,
        "scheduler",
        arguments,
        optimizer,
        offered={"total_steps": total_steps},
        trusted_packages=trusted_packages,
    )
    unread = "interval" if isinstance(schedule, ReduceLROnPlateau) else "monitor"
    if unread in node:
        raise UserError(
            f"scheduler.{unread}: {node['_target_']} does not read this key; take it away: ~scheduler.{unread}"
        )
    return schedule


def _for_each_group(optimizer: Optimizer, rate: Any) -> Any:
    default = optimizer.defaults["lr"]
    rates = [group["lr"] for group in optimizer.param_groups]
    if isinstance(rate, list) or not default or all(own == default for own in rates):
        return rate
    return [rate * (own / default) for own in rates]


def warmup_factor(step: int, steps: int, start_factor: float) -> float:
    """Factor of the learning rate in optimizer step `step`, counted from 0.

    It rises linearly from `start_factor` and reaches 1 after `steps` steps, as Goyal et al. 2017,
    https://arxiv.org/abs/1706.02677, section 2.2, and torch's LinearLR.
    """
    return 1.0 if step >= steps else start_factor + (1 - start_factor) * step / steps


def triangular(
    optimizer: Optimizer, total_steps: int, pct_start: float, start_factor: float, end_factor: float
) -> LambdaLR:
    """Linear rise from `start_factor` to 1 over `pct_start` of the steps, then linear fall to `end_factor`.

    The factors multiply each parameter group's own rate. As in Page 2018 and airbench, the slopes have whole numbers of
    steps that add up to `total_steps`, and the last step is one before `end_factor` is reached.

    Raises:
        ValueError: a fraction or factor is out of its range.
    """
    peak = _peak(total_steps, pct_start, start_factor, end_factor)

    def factor(step: int) -> float:
        if step < peak:
            return warmup_factor(step, peak, start_factor)
        return 1 + (end_factor - 1) * min(1.0, (step - peak) / (total_steps - peak))

    return LambdaLR(optimizer, factor)


def warmup_cosine(
    optimizer: Optimizer, total_steps: int, pct_start: float, start_factor: float, end_factor: float
) -> LambdaLR:
    """Linear rise from `start_factor` to 1 over `pct_start` of the steps, then half a cosine down to `end_factor`.

    The factors multiply each parameter group's own rate. The second part is Loshchilov and Hutter 2016,
    https://arxiv.org/abs/1608.03983, equation 5, without restarts; the last step is one before `end_factor` is reached.

    Raises:
        ValueError: a fraction or factor is out of its range.
    """
    peak = _peak(total_steps, pct_start, start_factor, end_factor)

    def factor(step: int) -> float:
        if step < peak:
            return warmup_factor(step, peak, start_factor)
        progress = min(1.0, (step - peak) / (total_steps - peak))
        return end_factor + (1 - end_factor) * (1 + math.cos(math.pi * progress)) / 2

    return LambdaLR(optimizer, factor)


def _peak(total_steps: int, pct_start: float, start_factor: float, end_factor: float) -> int:
    """The step with the highest rate."""
    if not 0 <= pct_start < 1:
        raise ValueError(f"pct_start={pct_start}: expected at least 0 and less than 1")
    if start_factor < 0 or end_factor < 0:
        raise ValueError(f"start_factor={start_factor}, end_factor={end_factor}: expected at least 0")
    return int(pct_start * total_steps)
