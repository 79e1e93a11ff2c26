"""Logits of a network over a part of a data set, and the figures that follow from them."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cnnzoo.data.batches import Batches
from cnnzoo.data.dataset import Dataset
from cnnzoo.data.module import eval_batches
from cnnzoo.training.devices import keep_freed_memory


@dataclass(frozen=True)
class Predictions:
    """`logits` `[N, classes] float32` and `labels` `[N] int64`, on the CPU, in the data's own order."""

    logits: Tensor
    labels: Tensor

    @property
    def accuracy(self) -> float:
        """Top-1, 0..1."""
        return (self.logits.argmax(dim=1) == self.labels).double().mean().item()

    @property
    def loss(self) -> float:
        """Mean cross-entropy, in nats."""
        return F.cross_entropy(self.logits.double(), self.labels).item()


@torch.inference_mode()
def predict(model: nn.Module, batches: Batches) -> Predictions:
    """Runs `model` in evaluation mode and full precision over all batches, on the device of their images."""
    was_training = model.training
    model.eval()
    outputs = [(model.forward(images), labels) for images, labels in batches]
    model.train(was_training)
    logits, labels = zip(*outputs, strict=True)
    return Predictions(torch.cat(logits).float().cpu(), torch.cat(labels).cpu())


def evaluate(
    model: nn.Module, dataset: Dataset, config: Mapping[str, Any], device: torch.device
) -> tuple[Predictions, Predictions]:
    """Predictions of `model` for the validation and the test part, computed on `device`."""
    keep_freed_memory()
    dataset, model = dataset.to(device), model.to(device)
    if config["trainer"]["channels_last"]:
        model = model.to(memory_format=torch.channels_last)
    val, test = (predict(model, eval_batches(dataset, part, config)) for part in (dataset.val, dataset.test))
    return val, test
