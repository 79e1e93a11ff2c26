"""Trainings that go wrong, and what is said about them; gradients that are scaled down."""

import logging
import math
import re
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from torch import Tensor, nn

from cnnzoo.config import Config
from cnnzoo.data.dataset import Dataset
from cnnzoo.errors import UserError
from cnnzoo.training.classifier import Classifier
from cnnzoo.training.divergence import SpikeGuard, StopOnDivergence, _moves
from cnnzoo.training.fit import fit

Train = Callable[..., Any]


class Net(nn.Module):
    """Two layers, with something between them that goes wrong in the forward call of number `at`, counted from 0."""

    def __init__(self, wrong: Callable[[Tensor], Tensor], at: int = 2) -> None:
        super().__init__()
        self.first, self.middle, self.last = nn.Linear(64, 16), nn.Identity(), nn.Linear(16, 10)
        self.wrong, self.at, self.calls = wrong, at, 0

    def forward(self, images: Tensor) -> Tensor:
        hidden = self.middle(self.first(images.flatten(1)))
        self.calls += self.training
        return self.last(self.wrong(hidden) if self.calls > self.at else hidden)  # type: ignore[no-any-return]


class InfiniteGradient(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.clone()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        return gradients[0] * math.inf


@pytest.fixture
def train_net(tiny: Callable[..., Config], dataset: Dataset, tmp_path: Path) -> Callable[..., Any]:
    def run(net: nn.Module, *overrides: str) -> Any:
        torch.manual_seed(0)
        return fit(net, dataset, tiny("trainer.compile=false", *overrides), tmp_path / "run")

    return run


def test_exploding_loss(train: Train, tmp_path: Path) -> None:
    """With epoch, step, learning rate, layer and advice, and without a checkpoint."""
    with pytest.raises(UserError) as error:
        train("optimizer.lr=1e30", "warmup.epochs=1", "warmup.start_factor=0.5")
    message = str(error.value)
    assert "The training loss is nan in epoch 1, batch 2 (step 2, learning rate 5.833e+29)" in message
    assert "The first layer with outputs that are not finite is net." in message
    assert "warmup.epochs=1" in message
    assert "trainer.gradient_clip_val=1" in message
    assert not [*(tmp_path / "run" / "checkpoints").glob("*.ckpt")]


def test_loss_that_is_no_number_within_an_epoch(train_net: Callable[..., Any]) -> None:
    """Before the step, which would hide where it comes from."""
    net = Net(lambda x: x * math.nan)
    with pytest.raises(UserError, match=r"loss is nan in epoch 1, batch 3 \(step 3, .*outputs .* is last \(Linear\)"):
        train_net(net)
    assert all(p.isfinite().all() for p in net.parameters())


def test_step_of_accumulated_gradients(train_net: Callable[..., Any]) -> None:
    with pytest.raises(UserError, match=r"epoch 1, batch 4 \(step 2, learning rate 0\.05\)"):
        train_net(Net(lambda x: x / 0, at=3), "trainer.accumulate_grad_batches=2")


def test_infinite_gradient_is_noticed_by_the_weights(train_net: Callable[..., Any]) -> None:
    with pytest.raises(UserError, match=r"batch 4 .*layer with weights that are not finite is first: 1024 of 1024"):
        train_net(Net(InfiniteGradient.apply))


def test_weights_are_looked_at_before_the_checkpoint(train_net: Callable[..., Any], tmp_path: Path) -> None:
    """Here only the last step of the epoch spoils them."""
    with pytest.raises(UserError, match=r"end of epoch 1 \(step 6, learning rate 0\.05\): .*not finite is first"):
        train_net(Net(InfiniteGradient.apply, at=5))
    assert not (tmp_path / "run" / "checkpoints" / "last.ckpt").exists()


def test_validation_loss_that_is_no_number(train_net: Callable[..., Any]) -> None:
    class WrongInValidation(Net):
        def forward(self, images: Tensor) -> Tensor:
            return super().forward(images) if self.training else super().forward(images) * math.nan

    with pytest.raises(UserError, match=r"validation loss is nan in epoch 1, though the training loss is .* finite"):
        train_net(WrongInValidation(lambda x: x))


def test_images_that_are_not_finite(train: Train, monkeypatch: pytest.MonkeyPatch) -> None:
    from cnnzoo.data.batches import BatchLoader

    batches = BatchLoader.__iter__
    monkeypatch.setattr(BatchLoader, "__iter__", lambda loader: ((x / 0, y) for x, y in batches(loader)))
    with pytest.raises(UserError, match=r"images are not finite: look at dataset\.mean, dataset\.std"):
        train()


# --- a loss that does not move


def test_loss_that_does_not_move_is_said(train: Train, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        train(folder="usual")
        train("dataset.batch_size=40", folder="usual, more batches")
        assert "does not move" not in caplog.text
        train("optimizer.lr=0", "trainer.max_epochs=4", folder="six batches: too few within an epoch")
        assert caplog.text.count("does not move") == 1
        assert re.search(r"does not move in epoch 2: 2\.\d+, then 2\.\d+\. Look at optimizer\.lr=0,", caplog.text)


@pytest.mark.parametrize(
    ("losses", "rates", "said"),
    [
        ([2.3] * 400, [0.1, 0.1], True),
        ([2.3] * 400, [0.01, 0.1], False),  # the rate is still rising
        ([2.3] * 200 + [2.1] * 200, [0.1, 0.1], False),
        ([2.3] * 40, [0.1, 0.1], False),  # too few batches to tell
    ],
)
def test_first_epoch(losses: list[float], rates: list[float], said: bool, caplog: pytest.LogCaptureFixture) -> None:
    callback = StopOnDivergence(SimpleNamespace())  # type: ignore[arg-type]
    callback.rates = rates
    trainer: Any = SimpleNamespace(current_epoch=0, is_global_zero=True)
    callback._say_if_it_does_not_move(trainer, torch.tensor(losses))
    assert ("does not move in epoch 1" in caplog.text) == said


@pytest.mark.parametrize(
    ("before", "after", "moves"),
    [
        ([2.0, 2.2], [1.0, 1.2], True),
        ([2.30, 2.31], [2.29, 2.30], False),
        ([2.30], [2.30], False),
        ([1.0, 1.2], [1.1, 1.2], True),  # it rises: not learning well, but not standing still
        ([1.402], [1.081], True),
    ],
)
def test_what_moves(before: list[float], after: list[float], moves: bool) -> None:
    assert _moves(torch.tensor(before), torch.tensor(after)) == moves


# --- spikes


def step(guard: SpikeGuard, *gradients: float) -> list[float]:
    """The gradients that one optimizer step gets."""
    parameters = [nn.Parameter(torch.zeros(1)) for _ in gradients]
    for parameter, gradient in zip(parameters, gradients, strict=True):
        parameter.grad = torch.tensor([float(gradient)])
    optimizer = torch.optim.SGD(parameters, lr=1.0)
    guard.on_before_optimizer_step(SimpleNamespace(), SimpleNamespace(), optimizer)  # type: ignore[arg-type]
    return [float(parameter.grad) for parameter in parameters if parameter.grad is not None]


def test_spikes_are_scaled_down() -> None:
    guard = SpikeGuard(factor=2, decay=0.5)
    assert step(guard, 3, 4) == [3, 4]  # norm 5, the first
    assert step(guard, 6, 8) == [6, 8]  # 10: just within; the average becomes 7.5
    assert step(guard, 60, 80) == pytest.approx([9, 12])  # 15 instead of 100
    assert float(guard.average) == pytest.approx((7.5 + 15) / 2)
    assert step(guard, math.inf, 1) == [math.inf, 1]
    assert float(guard.average) == pytest.approx((7.5 + 15) / 2)
    assert int(guard.spikes) == 1


def test_first_gradient_may_be_infinite() -> None:
    """As with 16-mixed, whose scale is lowered until they are finite."""
    guard = SpikeGuard(factor=2, decay=0.5)
    step(guard, math.inf)
    assert step(guard, 1.0) == [1.0]
    assert step(guard, 8.0) == [2.0]


def test_training_with_spike_guard_is_resumed_exactly(train: Train, interrupt_and_resume: Train) -> None:
    overrides = (
        "callbacks=spike_guard",
        "callbacks.spike_guard.factor=1.01",
        "callbacks.spike_guard.decay=0",
        "trainer.max_epochs=4",
    )
    alone, resumed = train(*overrides), interrupt_and_resume(*overrides)
    assert alone.results == resumed.results
    plain = train("trainer.max_epochs=4", folder="plain")
    assert plain.results != alone.results


@pytest.mark.parametrize("override", ["factor=1", "decay=1"])
def test_ranges_of_the_guard(train: Train, override: str) -> None:
    with pytest.raises(UserError, match=r"factor=1\b.*more than 1|decay=1\b.*less than 1"):
        train("callbacks=spike_guard", f"callbacks.spike_guard.{override}")


# --- a GPU, which is not waited for


def test_losses_of_a_gpu_are_looked_at_once_they_have_arrived(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Tensor, "pin_memory", Tensor.clone)
    guard = StopOnDivergence(SimpleNamespace(rows=[]))  # type: ignore[arg-type]
    sums = torch.zeros(2, dtype=torch.float64)
    module = Classifier.__new__(Classifier)
    pl.LightningModule.__init__(module)
    module.model, module.train_metrics = nn.Linear(1, 1), SimpleNamespace(sums=sums)  # type: ignore[assignment]
    module.warmup_factor = lambda: 0.5  # type: ignore[method-assign]
    monkeypatch.setattr(Classifier, "device", SimpleNamespace(type="cuda"))
    trainer: Any = SimpleNamespace(
        optimizers=[torch.optim.SGD(module.parameters(), lr=0.2)],
        accumulate_grad_batches=1,
        current_epoch=4,
        global_step=1000,
        precision="16-mixed",
    )

    def batches(start: int, stop: int) -> None:
        for index in range(start, stop):
            loss = torch.tensor(math.inf if index == 70 else 1.0)
            sums[0] += loss
            guard.on_train_batch_start(trainer, module, None, index)
            guard.on_train_batch_end(trainer, module, {"loss": loss}, None, index)

    batches(0, 149)
    with pytest.raises(UserError, match=r"inf in epoch 5, batch 71 \(step 1071, learning rate 0\.1\).*32-true"):
        batches(149, 150)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")
@pytest.mark.parametrize("at", [10, 130])
def test_step_on_a_gpu(train_net: Callable[..., Any], at: int) -> None:
    overrides = ("trainer=gpu", "trainer.compile=false", "dataset.batch_size=5", "trainer.precision=32-true")
    with pytest.raises(UserError, match=rf"loss is nan in epoch 1, batch {at + 1} \(step {at + 1}, "):
        train_net(Net(lambda x: x * math.nan, at=at), *overrides)
