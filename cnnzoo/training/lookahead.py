"""Lookahead-like averaging of the weights: Jordan 2024, https://arxiv.org/abs/2404.00498, after hlb-CIFAR10."""

from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor

from cnnzoo.training.classifier import Classifier


class Lookahead(pl.Callback):
    """Update an exponential average of the weights every `every_n_steps` steps, and continue from the average.

    The decay of the average grows over the run as `decay` · (step / all steps) ** `power`. The run ends with the
    average as its weights. Buffers such as batch norm's statistics are averaged as well, as published.

    Raises:
        ValueError: an argument is out of its range.
    """

    def __init__(self, every_n_steps: int, decay: float, power: float) -> None:
        if every_n_steps < 1:
            raise ValueError(f"every_n_steps={every_n_steps}: expected at least 1")
        if not 0 <= decay < 1:
            raise ValueError(f"decay={decay}: expected at least 0 and less than 1")
        self.every_n_steps, self.decay, self.power = every_n_steps, decay, power
        self.average: list[Tensor] = []
        self.latest_step = 0

    def state_dict(self) -> dict[str, Any]:
        return {"average": self.average, "latest_step": self.latest_step}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.average, self.latest_step = state_dict["average"], state_dict["latest_step"]

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        weights = _weights(pl_module)
        if self.average:  # from a checkpoint
            self.average = [a.to(w.device) for a, w in zip(self.average, weights, strict=True)]
        else:
            self.average = [w.clone() for w in weights]

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        assert isinstance(pl_module, Classifier)
        step, total = trainer.global_step, pl_module.total_steps
        if step == self.latest_step:  # gradients are still being accumulated
            return
        self.latest_step = step
        weights = _weights(pl_module)
        if step % self.every_n_steps == 0:
            torch._foreach_lerp_(self.average, weights, 1 - self.decay * (step / total) ** self.power)
            torch._foreach_copy_(weights, self.average)
        elif step == total:
            torch._foreach_copy_(weights, self.average)


def _weights(module: pl.LightningModule) -> list[Tensor]:
    return [value.detach() for value in module.state_dict().values() if value.is_floating_point()]
