"""Logits of a network over a split, and the metrics that follow from them."""

import time
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cnnzoo.config import Config
from cnnzoo.data.batches import BatchLoader
from cnnzoo.data.dataset import Dataset
from cnnzoo.data.loaders import eval_loader
from cnnzoo.training.devices import disable_malloc_trim, synchronize
from cnnzoo.training.tta import tta_views


@dataclass(frozen=True)
class Predictions:
    """`logits` `[N, classes] float32` and `labels` `[N] int64`, on the CPU, in the split's own order.

    `seconds`: from images on the device to logits on the CPU.
    """

    logits: Tensor
    labels: Tensor
    seconds: float

    @property
    def accuracy(self) -> float:
        """Top-1, 0..1."""
        return (self.logits.argmax(dim=1) == self.labels).double().mean().item()

    @property
    def loss(self) -> float:
        """Mean cross-entropy, in nats."""
        return F.cross_entropy(self.logits.double(), self.labels).item()


class Evaluation(NamedTuple):
    """`val` is None without a validation split, `test_tta` without test-time augmentation."""

    val: Predictions | None
    test: Predictions
    test_tta: Predictions | None


def evaluate(model: nn.Module, dataset: Dataset, config: Config, device: torch.device) -> Evaluation:
    """Return the predictions of `model` for the validation and the test split, computed on `device`."""
    disable_malloc_trim()
    dataset, model = dataset.to(device), model.to(device)
    if config.trainer.channels_last:
        model = model.to(memory_format=torch.channels_last)
    test = eval_loader(dataset, dataset.test, config)
    return Evaluation(
        predict(model, eval_loader(dataset, dataset.val, config)) if len(dataset.val) else None,
        predict(model, test),
        predict(model, test, config.tta) if config.tta != "none" else None,
    )


@torch.inference_mode()
def predict(model: nn.Module, loader: BatchLoader, tta: str = "none") -> Predictions:
    """Run `model` in evaluation mode and full precision over all batches, on the device of their images.

    With test-time augmentation `tta`, the logits are a mean over several views of each image, see `views`.
    """
    was_training = model.training
    model.eval()
    synchronize(loader.split.device)
    started = time.perf_counter()
    outputs = [
        (sum(share * model.forward(view) for share, view in tta_views(images, tta)), labels)
        for images, labels in loader
    ]
    logits, labels = zip(*outputs, strict=True)
    result = torch.cat(logits).float().cpu(), torch.cat(labels).cpu()
    seconds = time.perf_counter() - started
    model.train(was_training)
    return Predictions(*result, seconds)
