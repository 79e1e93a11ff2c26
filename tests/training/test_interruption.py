"""SIGINT and SIGTERM within an epoch: a checkpoint, the right exit, and a resumed training that ends the same."""

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch

from cnnzoo.errors import Interrupted
from cnnzoo.training.interruption import Interruption

Train = Callable[..., Any]


class Signal(pl.Callback):
    """Send signals to this process after a batch: epoch and batch counted from 0."""

    def __init__(self, number: int, epoch: int = 2, batch: int = 3) -> None:
        self.number, self.epoch, self.batch = number, epoch, batch

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if (trainer.current_epoch, batch_idx) == (self.epoch, self.batch):
            os.kill(os.getpid(), self.number)


@pytest.fixture(autouse=True)
def default_handlers() -> Iterator[None]:
    """Of a process in the foreground: one in the background would ignore SIGINT."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize(
    "overrides",
    [
        ("model=inception_a", "image_size=16", "augmentation=crop", "scheduler=onecycle"),
        ("augmentation.mixup=0.5", "augmentation.cutmix=1.0", "warmup.epochs=2.5", "scheduler=cosine"),
        ("callbacks=[ema,early_stopping]", "callbacks.ema.decay=0.9", "optimizer=adam", "augmentation=flip_crop"),
        ("callbacks=lookahead", "callbacks.lookahead.every_n_steps=2", "scheduler=plateau", "scheduler.patience=0"),
        (
            *("model=resnet", "model.blocks_per_group=[1]", "model.widths=[4]", "freeze=['input_net.*']"),
            "+optimizer.groups={last: {names: ['blocks.*'], frozen_after: 1}}",
        ),
        ("freeze=[net.*.bias]", "loss.weight=balanced", "trainer.accumulate_grad_batches=2"),
        ("dataset.val_size=0", "trainer.max_epochs=3.6", "trainer.checkpoint_every_n_epochs=4"),
    ],
    ids=["dropout", "mixing", "ema", "lookahead", "freeze", "accumulation", "fraction"],
)
def test_resumed_epoch_ends_as_one_left_alone(overrides: tuple[str, ...], train: Train) -> None:
    overrides = ("trainer.max_epochs=4", *overrides)
    alone = train(*overrides, folder="alone")
    with pytest.raises(Interrupted) as raised:
        train(*overrides, callbacks=[Signal(signal.SIGTERM)])
    assert raised.value.exit_code == 143
    resumed = train(*overrides, callbacks=[Batches()])
    assert Batches.seen[:2] == [(2, 4), (2, 5)]  # nothing is trained twice
    assert resumed.results == alone.results
    for name in ("last", "best"):
        expected = alone.weights(name)
        assert all(torch.equal(value, expected[key]) for key, value in resumed.weights(name).items())
    assert (
        resumed.checkpoint()["optimizer_states"][0]["param_groups"]
        == (alone.checkpoint()["optimizer_states"][0]["param_groups"])
    )


class Batches(pl.Callback):
    seen: list[tuple[int, int]] = []  # noqa: RUF012

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.seen.clear()

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        self.seen.append((trainer.current_epoch, batch_idx))


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_signal_leaves_a_checkpoint_of_the_latest_step(number: int, code: int, train: Train, tmp_path: Path) -> None:
    before = [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)]
    with pytest.raises(Interrupted) as raised:
        train(callbacks=[Signal(number, epoch=1, batch=2)])
    assert raised.value.exit_code == code
    assert [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)] == before
    last = torch.load(tmp_path / "run" / "checkpoints" / "last.ckpt", weights_only=True)
    assert (last["epoch"], last["global_step"]) == (1, 9)


@pytest.mark.parametrize(("batch", "checkpoint"), [(5, (0, 6)), (0, (0, 1))], ids=["last batch", "first batch"])
def test_signal_at_the_ends_of_an_epoch(batch: int, checkpoint: tuple[int, int], train: Train, tmp_path: Path) -> None:
    """After the last batch, its validation and the epoch's own checkpoint are waited for."""
    with pytest.raises(Interrupted):
        train(callbacks=[Signal(signal.SIGTERM, epoch=0, batch=batch)])
    last = torch.load(tmp_path / "run" / "checkpoints" / "last.ckpt", weights_only=True)
    assert (last["epoch"], last["global_step"]) == checkpoint
    assert train().results == train(folder="alone").results


def test_signal_after_the_last_batch_of_all_comes_before_the_test(train: Train) -> None:
    with pytest.raises(Interrupted):
        train(callbacks=[Signal(signal.SIGTERM, epoch=1, batch=5)])
    assert train().results == train(folder="alone").results


class SignalAtStart(Signal):
    def on_train_batch_start(self, *args: Any) -> None:
        os.kill(os.getpid(), self.number)
        raise AssertionError("the signal should have ended the training")


def test_signal_before_the_first_step_ends_the_training_at_once(train: Train, tmp_path: Path) -> None:
    """Where compiling takes minutes, nothing is lost by it."""
    with pytest.raises(Interrupted):
        train(callbacks=[SignalAtStart(signal.SIGINT)])
    assert not list((tmp_path / "run" / "checkpoints").iterdir())


class Impatient(Signal):
    def on_validation_start(self, *args: Any) -> None:
        os.kill(os.getpid(), self.number)  # is noted
        os.kill(os.getpid(), self.number)  # an echo of the first
        interruption = next(c for c in args[0].callbacks if isinstance(c, Interruption))
        interruption.received_at -= 10
        os.kill(os.getpid(), self.number)
        raise AssertionError("the second signal should have ended the training")


def test_second_signal_does_not_wait_for_a_checkpoint(train: Train, tmp_path: Path) -> None:
    with pytest.raises(Interrupted):
        train(callbacks=[Impatient(signal.SIGTERM, epoch=9)])
    assert not list((tmp_path / "run" / "checkpoints").iterdir())


def test_signal_that_somebody_else_handles_remains_theirs(train: Train) -> None:
    """As submitit does with SIGTERM, and a shell with SIGINT of a process in the background."""
    noted: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, frame: noted.append(number))
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    result = train(callbacks=[Signal(signal.SIGTERM, 0, 1), Signal(signal.SIGINT, 0, 2)])
    assert noted == [signal.SIGTERM]
    assert len(result.results) == 2


class Crash(Signal):
    def on_train_batch_end(self, trainer: pl.Trainer, *args: Any) -> None:
        if (trainer.current_epoch, args[-1]) == (self.epoch, self.batch):
            raise RuntimeError("crash")


def test_checkpoints_within_an_epoch_by_time(train: Train, tmp_path: Path) -> None:
    overrides = ("augmentation.mixup=0.5", "callbacks.checkpoint.minutes=0")
    with pytest.raises(RuntimeError, match="crash"):
        train(*overrides, callbacks=[Crash(0, epoch=1, batch=4)])
    last = torch.load(tmp_path / "run" / "checkpoints" / "last.ckpt", weights_only=True)
    assert (last["epoch"], last["global_step"]) == (1, 10)
    resumed, alone = train(*overrides, callbacks=[Batches()]), train(*overrides[:1], folder="alone")
    assert Batches.seen == [(1, 4), (1, 5)]
    assert resumed.results == alone.results
    with pytest.raises(RuntimeError, match="crash"):
        train("callbacks.checkpoint.minutes=null", folder="none", callbacks=[Crash(0, epoch=1, batch=4)])
    last = torch.load(tmp_path / "none" / "checkpoints" / "last.ckpt", weights_only=True)
    assert (last["epoch"], last["global_step"]) == (0, 6)


def test_gradients_that_are_accumulated_are_not_lost(train: Train, tmp_path: Path) -> None:
    """Batch 3 is the first of two; the checkpoint waits for the second."""
    overrides = ("trainer.accumulate_grad_batches=2",)
    with pytest.raises(Interrupted):
        train(*overrides, callbacks=[Signal(signal.SIGTERM, epoch=1, batch=2)])
    last = torch.load(tmp_path / "run" / "checkpoints" / "last.ckpt", weights_only=True)
    assert (last["epoch"], last["global_step"]) == (1, 5)
