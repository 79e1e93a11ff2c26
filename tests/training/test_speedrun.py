"""The speed recipes: the source's hyperparameters, and how their parts work together in a training."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from cnnzoo.config import Config
from cnnzoo.training.predict import evaluate
from cnnzoo.training.schedules import triangular

Train = Callable[..., Any]

# At the size of seconds: bundled digits, thin blocks.
SMALL = ("model.widths=[8,16,16]", "image_size=16", "dataset.val_size=0")


def test_published_hyperparameters(config: Callable[..., Config]) -> None:
    """The source's, in its own terms: lr 11.5, weight decay 0.0153, bias scaler 64, momentum 0.85; loss summed."""
    sgd = config("experiment=speedrun/cifar10_94_sgd")
    kilostep = 1024 * (1 + 1 / (1 - 0.85))
    lr, decay = 11.5 / kilostep, 0.0153 * 1024 / kilostep
    assert sgd.optimizer["lr"] == pytest.approx(1024 * lr)
    assert sgd.optimizer["lr"] * sgd.optimizer["weight_decay"] == pytest.approx(decay)
    norms = sgd.optimizer["groups"]["norms"]
    assert norms["lr"] == pytest.approx(64 * 1024 * lr)
    assert norms["lr"] * norms["weight_decay"] == pytest.approx(decay)
    assert sgd.callbacks["lookahead"]["decay"] == pytest.approx(0.95**5)
    muon = config("experiment=speedrun/cifar10_94")
    for name, rate in (("vectors", 0.053), ("whitening", 0.053), ("head", 0.67)):
        group = muon.optimizer["groups"][name]
        assert group["lr"] == pytest.approx(2000 * rate)
        assert group["lr"] * group["weight_decay"] == pytest.approx(2e-6 * 2000)
        assert (group["momentum"], group["orthogonalize"]) == (0.85, False)


def test_schedule_ends_with_the_training(train: Train) -> None:
    """6.4 epochs of 7 batches are 45 steps: the rate is then one step before 0.07 of its peak."""
    result = train(
        "experiment=speedrun/cifar10_94_sgd", *SMALL, "trainer.max_epochs=6.4", "trainer.checkpoint_every_n_epochs=7"
    )
    assert [row["step"] for row in result.results] == [7, 14, 21, 28, 35, 42, 45]
    schedule = triangular(torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.5), 45, 0.23, 0.2, 0.07)
    (state,) = result.checkpoint()["optimizer_states"]
    assert state["param_groups"][0]["lr"] == pytest.approx(1.5 * schedule.lr_lambdas[0](45))
    _, test, test_tta = evaluate(result.model, result.dataset, result.config, torch.device("cpu"))
    assert test.accuracy > 0.5
    assert test_tta is not None
    assert test_tta.accuracy != test.accuracy


def test_whitening_bias_stops_after_its_epochs_and_the_filters_never_move(train: Train) -> None:
    one, three, four = (
        train(
            "experiment=speedrun/cifar10_94",
            *SMALL,
            "scheduler=none",
            f"trainer.max_epochs={epochs}",
            "trainer.checkpoint_every_n_epochs=1",
            folder=str(epochs),
        ).weights("best")
        for epochs in (1, 3, 4)
    )
    bias = "model.whitening.bias"
    assert not torch.equal(one[bias], three[bias])
    assert torch.equal(three[bias], four[bias])
    assert torch.equal(one["model.whitening.weight"], four["model.whitening.weight"])
    assert not torch.equal(three["model.head.weight"], four["model.head.weight"])
