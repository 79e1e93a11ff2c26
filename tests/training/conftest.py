"""A training of a second: digits of 8×8, a network with one hidden layer, six batches per epoch."""

import functools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from torch import nn

from cnnzoo.config import Config, compose
from cnnzoo.data.dataset import Dataset, load_dataset
from cnnzoo.nn.build import build_model
from cnnzoo.training.fit import Fit, fit
from cnnzoo.training.loggers import open_loggers

TINY = (
    "dataset=digits",
    "dataset.batch_size=200",
    "image_size=8",
    "trainer=cpu",
    "trainer.max_epochs=2",
    "trainer.precision=32-true",
    "trainer.progress_bar=false",
    "logger=none",
)
NETWORK = ("model=mlp", "model.widths=[16]")
METHOD = ("optimizer=sgd", "optimizer.lr=0.05", "scheduler=none")


def compose_tiny(*overrides: str) -> Config:
    """With a network of its own or a whole experiment, that takes the place of the small one."""
    groups = {override.partition("=")[0] for override in overrides}
    network = () if groups & {"model", "experiment"} else NETWORK
    method = () if "experiment" in groups else METHOD
    return compose([*TINY, *network, *method, *overrides])


@dataclass
class Training:
    """A training and what it left."""

    config: Config
    dataset: Dataset
    model: nn.Module
    folder: Path
    fit: Fit

    @property
    def results(self) -> list[dict[str, Any]]:
        """The rows of metrics.csv without time and memory, which differ between machines."""
        return [{k: v for k, v in row.items() if "second" not in k and "memory" not in k} for row in self.fit.rows]

    def checkpoint(self, name: str = "last") -> dict[str, Any]:
        content: dict[str, Any] = torch.load(self.folder / "checkpoints" / f"{name}.ckpt", weights_only=True)
        return content

    def weights(self, name: str = "last") -> dict[str, torch.Tensor]:
        state: dict[str, torch.Tensor] = self.checkpoint(name)["state_dict"]
        return state


@pytest.fixture(autouse=True, scope="session")
def one_thread() -> Iterator[None]:
    """More of them only wait for each other at this size."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@functools.cache
def digits(val_size: int) -> Dataset:
    return load_dataset(compose(["dataset=digits", f"dataset.val_size={val_size}"]).dataset)


@pytest.fixture
def tiny() -> Callable[..., Config]:
    """`tiny(*overrides)`: the configuration of the tiny training."""
    return compose_tiny


@pytest.fixture
def dataset() -> Dataset:
    """The digits of the tiny training."""
    return digits(180)


@pytest.fixture
def train(tmp_path: Path) -> Callable[..., Training]:
    """`train(*overrides)`: run the tiny training in `folder`; a second one there resumes."""

    def run(*overrides: str, folder: str = "run", callbacks: Sequence[pl.Callback] = ()) -> Training:
        config = compose_tiny(*overrides)
        dataset = digits(config.dataset.val_size)
        pl.seed_everything(config.seed, verbose=False)
        model = build_model(config)
        with open_loggers(config, tmp_path / folder) as loggers:
            result = fit(model, dataset, config, tmp_path / folder, callbacks, loggers)
        return Training(config, dataset, model, tmp_path / folder, result)

    return run


class PowerCut(Exception):
    pass


class CutPowerIn(pl.Callback):
    """Fail in the middle of an epoch, counted from 0."""

    def __init__(self, epoch: int) -> None:
        self.epoch = epoch

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if trainer.current_epoch == self.epoch and batch_idx == 1:
            raise PowerCut


@pytest.fixture
def interrupt_and_resume(train: Callable[..., Training], tmp_path: Path) -> Callable[..., Training]:
    """`interrupt_and_resume(*overrides)`: the tiny training, which failed once within its third epoch.

    `between` is called with its folder after the failure.
    """

    def run(*overrides: str, between: Callable[[Path], object] = lambda folder: None) -> Training:
        with pytest.raises(PowerCut):
            train(*overrides, folder="interrupted", callbacks=[CutPowerIn(2)])
        between(tmp_path / "interrupted")
        return train(*overrides, folder="interrupted")

    return run


class Rates(pl.Callback):
    """Note the learning rate of each parameter group in every optimizer step."""

    def __init__(self) -> None:
        self.steps: list[list[float]] = []

    def on_before_optimizer_step(self, trainer: pl.Trainer, pl_module: pl.LightningModule, optimizer: Any) -> None:
        self.steps.append([float(group["lr"]) for group in optimizer.param_groups])


@pytest.fixture
def rates() -> Rates:
    return Rates()
