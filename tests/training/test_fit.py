"""Training from start to end: repeatable, resumable to the last digit, and clear when it cannot go on."""

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch

from cnnzoo.config import Config
from cnnzoo.data.dataset import Dataset
from cnnzoo.data.loaders import DataModule
from cnnzoo.errors import UserError
from cnnzoo.nn.build import build_model
from cnnzoo.training.fit import fit

Train = Callable[..., Any]


def same_weights(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(value, b[key]) for key, value in a.items()) and a.keys() == b.keys()


def test_repeated_training_is_identical(train: Train) -> None:
    first, second = (train("augmentation=flip_crop", folder=name) for name in ("first", "second"))
    assert first.results == second.results
    assert same_weights(first.weights(), second.weights())
    assert train("augmentation=flip_crop", "seed=0", folder="zero").results != first.results


@pytest.mark.parametrize(
    "overrides",
    [
        ("model=inception_a", "image_size=16", "augmentation=crop", "scheduler=onecycle"),
        ("augmentation.mixup=0.5", "augmentation.cutmix=1.0", "warmup.epochs=2.5", "scheduler=cosine"),
        ("callbacks=ema", "callbacks.ema.decay=0.9", "optimizer=adam", "scheduler=warmup_cosine"),
        ("scheduler=plateau", "scheduler.patience=0", "optimizer.lr=1e-5"),
        ("scheduler=plateau", "scheduler.monitor=train_loss", "scheduler.mode=min", "scheduler.threshold=1"),
        ("freeze=[net.*.bias]", "loss.weight=balanced", "trainer.accumulate_grad_batches=2"),
    ],
    ids=["dropout", "mixing", "ema", "plateau", "plateau-train", "freeze"],
)
def test_resumed_training_ends_as_one_left_alone(
    overrides: tuple[str, ...], train: Train, interrupt_and_resume: Train
) -> None:
    overrides = (*overrides, "trainer.max_epochs=4")
    alone, resumed = train(*overrides), interrupt_and_resume(*overrides)
    assert len(alone.results) == 4
    assert resumed.results == alone.results
    assert same_weights(resumed.weights(), alone.weights())
    assert same_weights(resumed.weights("best"), alone.weights("best"))


@pytest.mark.parametrize("recipe", ["cifar10_94", "cifar10_94_sgd"])
def test_resumed_speedrun_ends_as_one_left_alone(recipe: str, train: Train, interrupt_and_resume: Train) -> None:
    """Frozen bias, flips, momenta, schedule and running average: all come from the checkpoint or the epoch."""
    overrides = (
        f"experiment=speedrun/{recipe}",
        "model.widths=[8,16,16]",
        "image_size=16",
        "dataset.val_size=0",
        "trainer.max_epochs=4.5",
        "trainer.checkpoint_every_n_epochs=1",
    )
    alone, resumed = train(*overrides), interrupt_and_resume(*overrides)
    assert [row["step"] for row in resumed.results] == [row["step"] for row in alone.results]
    assert resumed.results == alone.results
    assert same_weights(resumed.weights(), alone.weights())


def test_fraction_of_an_epoch_and_no_validation(train: Train) -> None:
    """1437 images make 7 batches of 200; 0.4 of them are 3."""
    result = train("dataset.val_size=0", "trainer.max_epochs=3.4", "trainer.checkpoint_every_n_epochs=4")
    assert [row["step"] for row in result.results] == [7, 14, 21, 24]
    assert all(row["val_accuracy"] is None for row in result.results)
    assert result.fit.best_epoch == result.fit.epochs == 4
    assert same_weights(result.weights("last"), result.weights("best"))


def test_best_epoch_has_the_highest_validation_accuracy(train: Train) -> None:
    """A learning rate that is raised far too high in the third epoch makes the second one the best."""
    result = train("trainer.max_epochs=3", "scheduler=multistep", "scheduler.milestones=[2]", "scheduler.gamma=1000")
    accuracies = [row["val_accuracy"] for row in result.results]
    assert accuracies[2] < accuracies[1]
    assert result.fit.best_epoch == 2
    assert not same_weights(result.weights("last"), result.weights("best"))


def test_seconds_and_memory_follow_from_the_rows(train: Train) -> None:
    result = train("trainer.max_epochs=3")
    rows = result.fit.rows
    assert result.fit.train_seconds == pytest.approx(sum(row["epoch_seconds"] for row in rows))
    assert result.fit.images_per_second == sorted(row["images_per_second"] for row in rows)[1]
    assert rows[0]["images_per_second"] == pytest.approx(1200 / rows[0]["epoch_seconds"])
    assert (result.fit.device, result.fit.precision) == (torch.device("cpu"), "32-true")
    assert result.fit.peak_memory_bytes == max(row["peak_memory_bytes"] for row in rows)


def test_checkpoint_of_another_configuration_is_refused(train: Train) -> None:
    result = train()
    with pytest.raises(UserError, match="made by another configuration"):
        train("seed=7")
    for name in ("last.ckpt", "previous.ckpt"):
        (result.folder / "checkpoints" / name).write_bytes(b"not a checkpoint")
    with pytest.raises(UserError, match=r"cannot be read.*rerun=true"):
        train()


def test_resuming_with_other_images_is_refused(train: Train, monkeypatch: pytest.MonkeyPatch) -> None:
    """The digest of those that it began with is in the checkpoint."""
    result = train()
    assert result.checkpoint()["DataModule"]["digest"] == result.dataset.digest != ""
    monkeypatch.setattr(DataModule, "state_dict", lambda module: {"digest": "of other images"})
    train(folder="other")
    monkeypatch.undo()
    with pytest.raises(UserError, match=r"images of digits have changed since.*rerun=true"):
        train(folder="other")


def test_initial_weights_are_not_replaced_from_images(
    train: Train, tiny: Callable[..., Config], dataset: Dataset, tmp_path: Path
) -> None:
    """The whitening filters of airbench come from the training images, unless weights to start from are given."""
    overrides = ("model=airbench94", "model.widths=[8,16,16]", "image_size=16", "trainer.max_epochs=1")
    whitened = train(*overrides).weights()["model.whitening.weight"]
    config = tiny(*overrides, "weights=some.ckpt")
    model = build_model(config)
    before = model.get_parameter("whitening.weight").clone()
    fit(model, dataset, config, tmp_path / "other")
    assert torch.equal(model.get_parameter("whitening.weight"), before)
    assert not torch.equal(before, whitened)


class RaiseInSetup(pl.Callback):
    def __init__(self, error: BaseException) -> None:
        self.error = error

    def setup(self, *args: Any, **kwargs: Any) -> None:
        raise self.error


class RaiseInTraining(RaiseInSetup):
    def setup(self, *args: Any, **kwargs: Any) -> None:
        pass

    def on_train_batch_end(self, *args: Any) -> None:
        raise self.error


@pytest.mark.parametrize("callback", [RaiseInSetup, RaiseInTraining])
def test_ctrl_c_is_a_keyboard_interrupt(train: Train, callback: type[RaiseInSetup]) -> None:
    """Lightning would exit, and during its set-up it would ignore SIGINT from then on."""
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        train(callbacks=[callback(KeyboardInterrupt())])
    assert signal.getsignal(signal.SIGINT) is before
    with pytest.raises(SystemExit, match="7"):
        train(callbacks=[callback(SystemExit(7))])


class Terminate(pl.Callback):
    def on_train_batch_end(self, *args: Any) -> None:
        os.kill(os.getpid(), signal.SIGTERM)


def test_sigterm_leaves_an_unfinished_training(train: Train) -> None:
    """As batch systems send it before they end a job."""
    with pytest.raises(KeyboardInterrupt):
        train(callbacks=[Terminate()])


class StopAtOnce(pl.Callback):
    def on_train_batch_start(self, trainer: pl.Trainer, *args: Any) -> None:
        trainer.should_stop = True


def test_training_that_is_stopped_within_its_first_epoch(train: Train) -> None:
    result = train("trainer.max_epochs=5", callbacks=[StopAtOnce()])
    assert [row["step"] for row in result.results] == [1]
    assert result.fit.rows[0]["images_per_second"] == pytest.approx(200 / result.fit.train_seconds)
    with pytest.raises(UserError, match="stopped before its first epoch"):
        train("+trainer.extra.max_time={seconds: 0}", folder="at once")


def test_two_processes_train_to_the_weights_of_one(train: Train) -> None:
    """Each takes half of every batch, so a network without batch norm gets the same weights, to rounding."""
    one, two = (train(f"trainer.devices={n}", folder=str(n)) for n in (1, 2))
    for row, expected in zip(two.results, one.results, strict=True):
        assert row["epoch"] == expected["epoch"]
        assert row["train_loss"] == pytest.approx(expected["train_loss"], rel=1e-4)
        assert row["val_loss"] == pytest.approx(expected["val_loss"], rel=1e-4)
    assert "epoch 2/2" in (two.folder / "run.log").read_text()
    assert two.fit.best_epoch == one.fit.best_epoch
