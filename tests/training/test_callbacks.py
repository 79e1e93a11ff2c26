"""What accompanies a training: rows, stopping, averaging, compilation."""

import csv
import logging
import math
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from torch.nn import functional as F

from cnnzoo.config import Config
from cnnzoo.data.dataset import Dataset
from cnnzoo.data.loaders import eval_loader
from cnnzoo.errors import UserError
from cnnzoo.nn.build import build_model
from cnnzoo.training import devices
from cnnzoo.training.callbacks import COLUMNS, describe

Train = Callable[..., Any]


def test_metrics_csv_holds_the_rows(train: Train) -> None:
    result = train("trainer.check_val_every_n_epoch=2")
    text = (result.folder / "metrics.csv").read_text()
    assert text.splitlines()[0] == (
        "epoch,step,learning_rate,train_loss,train_accuracy,val_loss,val_accuracy,"
        "epoch_seconds,images_per_second,peak_memory_bytes"
    )
    rows = list(csv.DictReader(text.splitlines()))
    assert [(row["epoch"], row["step"], row["learning_rate"]) for row in rows] == [
        ("0", "6", "0.05"),
        ("1", "12", "0.05"),
    ]
    assert [row["val_accuracy"] == "" for row in rows] == [True, False]
    assert float(rows[1]["val_loss"]) == result.fit.rows[1]["val_loss"]
    assert float(rows[1]["epoch_seconds"]) == result.fit.rows[1]["epoch_seconds"]


def test_resumed_training_drops_rows_after_the_checkpoint(interrupt_and_resume: Train) -> None:
    def write_third_row(folder: Path) -> None:
        with (folder / "metrics.csv").open("a") as file:
            file.write("2,18,0.05,1.0,0.5,1.0,0.5,1.0,1.0,1\n")

    result = interrupt_and_resume("trainer.max_epochs=3", between=write_third_row)
    lines = (result.folder / "metrics.csv").read_text().splitlines()
    assert [line.split(",")[0] for line in lines] == ["epoch", "0", "1", "2"]
    assert float(lines[3].split(",")[3]) == result.fit.rows[2]["train_loss"] != 1.0


def test_rows_in_checkpoints_of_earlier_versions_are_found(train: Train) -> None:
    """Their callback was called EpochLog."""
    assert len(train().checkpoint()["callbacks"]["EpochLog"]["rows"]) == 2


def test_validation_metrics_are_those_of_the_whole_split(train: Train) -> None:
    result = train()
    result.model.load_state_dict({key.removeprefix("model."): value for key, value in result.weights().items()})
    (logits, labels), *rest = [
        (result.model.eval()(images), labels)
        for images, labels in eval_loader(result.dataset, result.dataset.val, result.config)
    ]
    for more, their in rest:
        logits, labels = torch.cat([logits, more]), torch.cat([labels, their])
    assert len(labels) == 180
    assert result.results[-1]["val_loss"] == pytest.approx(F.cross_entropy(logits, labels).item(), rel=1e-6)
    assert result.results[-1]["val_accuracy"] == (logits.argmax(1) == labels).double().mean().item()


def test_peak_and_seconds_before_the_first_epoch_count_once(train: Train, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cnnzoo.training.fit._initialize", lambda *args: 1000.0)
    monkeypatch.setattr("cnnzoo.training.callbacks.peak_memory", lambda device: 12345)
    first, second = train().fit.rows
    assert 1000 < first["epoch_seconds"] < 1100
    assert second["epoch_seconds"] < 100
    assert first["peak_memory_bytes"] == 12345


def test_exploding_loss_ends_the_training_without_a_checkpoint(train: Train, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"loss is (nan|inf) in epoch 1.*optimizer\.lr"):
        train("optimizer.lr=1e30")
    assert not (tmp_path / "run" / "checkpoints" / "last.ckpt").exists()


def test_ema_weights_are_validated_and_tested(train: Train, tiny: Callable[..., Config], dataset: Dataset) -> None:
    """Against an average by hand over the weights after every step: the first is taken as it is."""

    class Weights(pl.Callback):
        steps: list[torch.Tensor] = []  # noqa: RUF012

        def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *args: Any) -> None:
            self.steps.append(torch.cat([p.detach().flatten() for p in pl_module.parameters()]).clone())

    result = train("callbacks=ema", "callbacks.ema.decay=0.8", "optimizer.lr=0.5", callbacks=[Weights()])
    average = Weights.steps[0]
    for weights in Weights.steps[1:]:
        average = 0.8 * average + 0.2 * weights
    left = torch.cat([value.flatten() for value in result.weights("last").values()])
    torch.testing.assert_close(left, average)
    assert not torch.allclose(left, Weights.steps[-1])
    model = build_model(tiny())
    model.load_state_dict({key.removeprefix("model."): value for key, value in result.weights("last").items()})
    batches = list(eval_loader(dataset, dataset.val, result.config))
    logits = torch.cat([model.eval()(images) for images, _ in batches])
    loss = F.cross_entropy(logits, torch.cat([labels for _, labels in batches])).item()
    assert result.results[-1]["val_loss"] == pytest.approx(loss, rel=1e-6)


def test_early_stopping_stops(train: Train) -> None:
    """Weights that do not change cannot become more accurate: the second epoch of patience is the third of all."""
    result = train(
        "callbacks=early_stopping", "callbacks.early_stopping.patience=2", "optimizer.lr=0.0", "trainer.max_epochs=8"
    )
    assert result.fit.epochs == 3


def test_several_callbacks_by_name(train: Train) -> None:
    result = train("callbacks=[ema,early_stopping]")
    assert {"EMAWeightAveraging", "EarlyStopping"} <= {
        key.partition("{")[0] for key in result.checkpoint()["callbacks"]
    }


def test_callback_that_is_none_is_refused(train: Train) -> None:
    with pytest.raises(UserError, match=r"callbacks\.mine\._target_=torch\.nn\.Linear.*expected a class of .*Callback"):
        train("+callbacks.mine._target_=torch.nn.Linear")


@pytest.mark.parametrize(
    ("overrides", "min_steps", "compiler_works", "expected"),
    [
        ((), 10, True, True),
        ((), 10, False, False),
        ((), 13, True, False),
        (("trainer.compile=true",), 13, True, True),
        (("trainer.compile=false",), 10, True, False),
    ],
)
def test_compile_auto_is_for_long_trainings(
    overrides: tuple[str, ...],
    min_steps: int,
    compiler_works: bool,
    expected: bool,
    train: Train,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The tiny training has 12 steps."""
    compiled: list[torch.nn.Module] = []
    devices._has_compiler.cache_clear()
    monkeypatch.setattr(torch.nn.Module, "compile", lambda module, mode: compiled.append(module))
    monkeypatch.setattr(devices, "MIN_STEPS_TO_COMPILE", min_steps)

    def probe(function: Callable[..., Any]) -> Callable[..., Any]:
        if not compiler_works:
            raise RuntimeError("no C++ compiler found\nand much more")
        return function

    monkeypatch.setattr(torch, "compile", probe)
    for _ in range(2):  # the second time, nothing is left to train
        assert (result := train(*overrides).fit).epochs == 2
        assert result.compiled == expected
    assert len(compiled) == expected
    assert ("does not work here: no C++ compiler found\n" in caplog.text) == (not compiler_works)
    devices._has_compiler.cache_clear()


@pytest.mark.parametrize("setting", ["auto", "true"])
def test_compile_auto_falls_back_to_eager(setting: str, train: Train, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*args: Any, **kwargs: Any) -> None:
        raise RuntimeError("no code for this one")

    monkeypatch.setattr(devices, "MIN_STEPS_TO_COMPILE", 1)
    monkeypatch.setattr(devices, "_has_compiler", lambda device: True)
    monkeypatch.setattr("torch._inductor.compile_fx.compile_fx", fail)
    torch.compiler.reset()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if setting == "auto":
            assert train("trainer.compile=auto").fit.epochs == 2
        else:
            with pytest.raises(Exception, match="no code for this one"):
                train("trainer.compile=true")
    assert torch._dynamo.config.suppress_errors is False
    torch.compiler.reset()


@pytest.mark.slow
def test_compiled_network_trains_to_the_same_names(train: Train) -> None:
    """Compiling takes a minute, changes rounding only, and leaves no trace in the checkpoint."""
    plain = train(folder="plain")
    compiled = train("trainer.compile=true", folder="compiled")
    assert compiled.results[-1]["val_loss"] == pytest.approx(plain.results[-1]["val_loss"], rel=1e-3)
    assert compiled.weights().keys() == plain.weights().keys()


def test_log_line_fits_a_terminal() -> None:
    """80 characters with the time before it, of a long training that has learnt its images by heart on a GPU."""
    row = {"train_loss": 0.0012, "train_accuracy": 1.0, "val_loss": 0.3456, "val_accuracy": 0.9184}
    line = describe(row | {"epoch": 179, "images_per_second": 112_500.0}, 180)
    assert line == "epoch 180/180  train 0.001 100.00 %  val 0.346 91.84 %  112500 images/s"
    assert len(f"12:34:56 {line}") <= 80


def test_log_line_of_an_epoch(train: Train, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        row = train().fit.rows[1]
    assert f"epoch 2/2  train {row['train_loss']:.3f} {100 * row['train_accuracy']:.2f} %" in caplog.text
    assert not math.isnan(row["train_loss"])
    assert tuple(row) == COLUMNS
