"""Logits of a network over a split, and the metrics that follow from them."""

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cnnzoo.config import Config
from cnnzoo.data.batches import BatchLoader
from cnnzoo.data.dataset import Dataset
from cnnzoo.data.loaders import eval_loader
from cnnzoo.errors import UserError
from cnnzoo.training.devices import disable_malloc_trim, synchronize
from cnnzoo.training.tta import mean_over_views


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
    loader = eval_loader(dataset, dataset.test, config)
    test = predict(model, loader)
    return Evaluation(
        predict(model, eval_loader(dataset, dataset.val, config)) if len(dataset.val) else None,
        test,
        predict_tta(model, loader, test, config.tta, config.tta_confidence) if config.tta != "none" else None,
    )


def check_evaluation(val: Predictions | None, test: Predictions, row: Mapping[str, Any], config: Config) -> None:
    """Compare an evaluation of the best checkpoint with that epoch's row of metrics.csv.

    Raises:
        UserError: they contradict each other, or a loss is no number.
    """
    for name, predictions in (("validation", val), ("test", test)):
        if predictions is not None and not math.isfinite(predictions.loss):
            raise UserError(
                f"The {name} loss of the best checkpoint is {predictions.loss}: the network computes no numbers for"
                f" some of the {name} images. Look at the data, or train with a lower optimizer.lr."
            )
    if val is None or row["val_accuracy"] is None or config.trainer.limit_val_batches is not None:
        return
    # Another device may round differently, which moves an image or two across a boundary.
    tolerance = max(0.005, 2 / len(val.labels))
    if abs(val.accuracy - row["val_accuracy"]) > tolerance:
        raise UserError(
            f"The best checkpoint, of epoch {row['epoch'] + 1}, has {100 * val.accuracy:.2f} % validation accuracy, but"
            f" metrics.csv {100 * row['val_accuracy']:.2f} %: the file, the data or the network's code is no longer"
            " that of the training. rerun=true trains this run anew."
        )


def predict(model: nn.Module, loader: BatchLoader) -> Predictions:
    """Run `model` in evaluation mode and full precision over all batches, on the device of their images."""
    return _predict(model, loader, model.forward)


def predict_tta(
    model: nn.Module, loader: BatchLoader, plain: Predictions, tta: str, confidence: float | None = None
) -> Predictions:
    """Make of the predictions of the images themselves, `plain`, those with test-time augmentation.

    Its logits are the mean over several views of each image, see `mean_over_views`; its seconds include `plain`'s.
    """
    logits = iter(torch.split(plain.logits, loader.batch_size))
    predictions = _predict(
        model, loader, lambda images: mean_over_views(model.forward, images, next(logits), tta, confidence)
    )
    return replace(predictions, seconds=plain.seconds + predictions.seconds)


@torch.inference_mode()
def _predict(model: nn.Module, loader: BatchLoader, forward: Callable[[Tensor], Tensor]) -> Predictions:
    was_training = model.training
    model.eval()
    synchronize(loader.split.device)
    started = time.perf_counter()
    dtype = next((p.dtype for p in model.parameters()), torch.float32)  # float64 after trainer.precision=64-true
    logits, labels = zip(*((forward(images.to(dtype)), labels) for images, labels in loader), strict=True)
    result = torch.cat(logits).float().cpu(), torch.cat(labels).cpu()
    seconds = time.perf_counter() - started
    model.train(was_training)
    return Predictions(*result, seconds)
