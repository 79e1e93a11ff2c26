"""What a training step and an epoch do: metrics, mixed images, warm-up, plateau, frozen parts."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import SGD
from torch.optim.lr_scheduler import CosineAnnealingLR, OneCycleLR, ReduceLROnPlateau

from cnnzoo.config import Config
from cnnzoo.errors import UserError
from cnnzoo.nn.build import build_model
from cnnzoo.training.classifier import Classifier, EpochMetrics

Train = Callable[..., Any]


def test_epoch_metrics_weigh_images_alike() -> None:
    rng = np.random.default_rng(0)
    logits, labels = rng.normal(size=(70, 5)).astype(np.float32), rng.integers(0, 5, 70)
    metrics = EpochMetrics()
    for batch in (slice(0, 32), slice(32, 64), slice(64, 70)):
        x, y = torch.tensor(logits[batch]), torch.tensor(labels[batch])
        metrics.update(F.cross_entropy(x, y), x, y)
    loss, accuracy, images = metrics.compute()
    probabilities = np.exp(logits.astype(np.float64))
    probabilities /= probabilities.sum(1, keepdims=True)
    assert loss == pytest.approx(-np.log(probabilities[np.arange(70), labels]).mean(), rel=1e-6)
    assert accuracy == (logits.argmax(1) == labels).mean()
    assert images == 70


def test_epoch_metrics_count_the_heavier_label_of_mixed_images() -> None:
    logits = torch.tensor([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0], [1.0, 0.0, 0.0]])
    mixed = torch.tensor([[0.6, 0.4, 0.0], [0.7, 0.3, 0.0], [0.0, 0.1, 0.9], [0.0, 0.2, 0.8]])
    metrics = EpochMetrics()
    metrics.update(torch.tensor(1.0), logits, mixed)
    assert metrics.compute()[1] == 0.5


def test_no_batches_have_no_metrics() -> None:
    assert math.isnan(EpochMetrics().compute()[0])


class TwoHeads(nn.Module):
    """Logits and, in training, those of an auxiliary head."""

    auxiliary_weight = 0.3

    def __init__(self) -> None:
        super().__init__()
        self.main, self.side = nn.Linear(4, 3), nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Any:
        x = x.flatten(1)
        return (self.main(x), self.side(x)) if self.training else self.main(x)


@pytest.mark.parametrize("mixed", [False, True])
def test_auxiliary_heads_are_part_of_the_loss_alone(mixed: bool, tiny: Callable[..., Config]) -> None:
    model, batch = TwoHeads(), (torch.randn(6, 1, 2, 2), torch.tensor([0, 1, 2, 0, 1, 2]))
    classifier = Classifier(model, tiny(), nn.CrossEntropyLoss())
    targets: Tensor = batch[1]
    if mixed:
        targets = torch.softmax(torch.randn(6, 3), 1)
        classifier.mixing = lambda images, labels: (images, targets)
    loss = classifier.training_step(batch, 0)
    main, side = model(batch[0])
    expected = F.cross_entropy(main, targets) + 0.3 * F.cross_entropy(side, targets)
    torch.testing.assert_close(loss, expected)
    assert classifier.train_metrics.compute()[0] == pytest.approx(F.cross_entropy(main, targets).item(), rel=1e-6)


def test_training_on_mixed_images(train: Train) -> None:
    """Epochs draw other ratios; the loss of mixed images does not fall to that of plain ones."""
    plain = train("trainer.max_epochs=6", folder="plain").results
    mixed = train("trainer.max_epochs=6", "augmentation.mixup=1.0", folder="mixed").results
    assert mixed[-1]["train_loss"] > plain[-1]["train_loss"] + 0.1
    assert mixed[-1]["val_accuracy"] > 0.5


def plain_rates(schedule: Callable[[SGD], Any], steps: int, per_epoch: int = 1) -> list[float]:
    """Rates of a schedule of torch in a loop by hand; it steps after every `per_epoch` optimizer steps."""
    optimizer = SGD([nn.Parameter(torch.zeros(1))], lr=0.05)
    scheduler, rates = schedule(optimizer), []
    for step in range(steps):
        rates.append(float(optimizer.param_groups[0]["lr"]))
        optimizer.step()
        if (step + 1) % per_epoch == 0:
            scheduler.step()
    return rates


def test_warm_up_scales_any_schedule(train: Train, rates: Any) -> None:
    """1.5 epochs of 6 steps: nine steps from a tenth to the whole rate, in every parameter group."""
    warm = [0.1 + 0.9 * min(step, 9) / 9 for step in range(18)]
    warmup = ("warmup.epochs=1.5", "warmup.start_factor=0.1", "trainer.max_epochs=3")
    result = train(*warmup, "scheduler=cosine", "+optimizer.groups.b={ndim: 1, lr: 0.5}", callbacks=[rates])
    cosine = plain_rates(lambda optimizer: CosineAnnealingLR(optimizer, 3), 18, per_epoch=6)
    for step, factor, rate in zip(rates.steps, warm, cosine, strict=True):
        assert step == pytest.approx([factor * rate, 10 * factor * rate], rel=1e-12)
    # what metrics.csv reports is the rate of the epoch's first step
    assert [row["learning_rate"] for row in result.results] == [rates.steps[step][0] for step in (0, 6, 12)]

    rates.steps.clear()
    train(*warmup, "scheduler=onecycle", folder="onecycle", callbacks=[rates])
    onecycle = plain_rates(lambda optimizer: OneCycleLR(optimizer, 0.05, total_steps=18, cycle_momentum=False), 18)
    for step, factor, rate in zip(rates.steps, warm, onecycle, strict=True):
        assert step == pytest.approx([factor * rate], rel=1e-12)


def test_multistep_rates_are_the_published_ones(train: Train) -> None:
    result = train("scheduler=multistep", "scheduler.milestones=[2,3]", "trainer.max_epochs=4")
    assert [row["learning_rate"] for row in result.results] == pytest.approx([0.05, 0.05, 0.005, 0.0005])


@pytest.mark.parametrize("every", [1, 2])
def test_plateau_follows_validation(every: int, train: Train) -> None:
    """As torch's own schedule steps on the accuracies of the epochs that were validated."""
    result = train(
        "scheduler=plateau",
        "scheduler.patience=0",
        "scheduler.factor=0.5",
        "optimizer.lr=1e-6",
        "trainer.max_epochs=6",
        f"trainer.check_val_every_n_epoch={every}",
    )
    optimizer = SGD([nn.Parameter(torch.zeros(1))], lr=1e-6)
    reference = ReduceLROnPlateau(optimizer, mode="max", factor=0.5, patience=0, threshold=0.0)
    for row in result.results:
        assert row["learning_rate"] == optimizer.param_groups[0]["lr"]
        if row["val_accuracy"] is not None:
            reference.step(row["val_accuracy"])
    assert result.results[-1]["learning_rate"] < 1e-6


def test_plateau_needs_validation(train: Train) -> None:
    with pytest.raises(UserError, match=r"scheduler\.monitor=val_accuracy: there is no validation"):
        train("scheduler=plateau", "dataset.val_size=0")
    monitored = ("scheduler.monitor=train_loss", "scheduler.mode=min")
    assert train("scheduler=plateau", "dataset.val_size=0", *monitored).fit.epochs == 2


def test_frozen_parts_stay_as_they_are(train: Train) -> None:
    """Weights, and running statistics of the norms among them, over two epochs with validation in between."""
    network = ("model=resnet", "model.blocks_per_group=[1,1]", "model.widths=[4,8]")
    result = train(*network, "freeze=[input_net.*]")
    pl.seed_everything(result.config.seed, verbose=False)
    initial = build_model(result.config).state_dict()
    changed = {
        key for key, value in result.weights().items() if not torch.equal(value, initial[key.removeprefix("model.")])
    }
    frozen = {f"model.{key}" for key in initial if key.startswith("input_net.")}
    assert {"model.input_net.1.running_mean", "model.input_net.1.num_batches_tracked"} <= frozen
    assert changed == {f"model.{key}" for key in initial} - frozen
