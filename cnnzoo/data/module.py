"""The data set as Lightning wants it: loaders made anew each epoch, for each epoch draws its own augmentation."""

import math
from collections.abc import Mapping
from typing import Any

import pytorch_lightning as pl

from cnnzoo.data.augment import Augmentation
from cnnzoo.data.batches import Batches
from cnnzoo.data.dataset import Dataset
from cnnzoo.data.images import Part

# On the CPU what counts is that a batch's activations stay in the caches, on a GPU that it is kept busy.
_EVAL_BATCH_SIZES = {"cpu": 128, "cuda": 1000}


def eval_batches(dataset: Dataset, part: Part, config: Mapping[str, Any]) -> Batches:
    """A part in its own order, without augmentation, for validation and test."""
    return Batches(
        part,
        dataset.mean,
        dataset.std,
        image_size=config["image_size"],
        batch_size=config["dataset"]["eval_batch_size"] or _EVAL_BATCH_SIZES[part.device.type],
        channels_last=config["trainer"]["channels_last"],
    )


def train_batches(
    dataset: Dataset, config: Mapping[str, Any], *, epoch: int = 0, rank: int = 0, world_size: int = 1
) -> Batches:
    """The training part in the order and with the augmentation of one epoch; the last one may be cut short."""
    return Batches(
        dataset.train,
        dataset.mean,
        dataset.std,
        image_size=config["image_size"],
        batch_size=config["dataset"]["batch_size"],
        channels_last=config["trainer"]["channels_last"],
        shuffle=True,
        augmentation=Augmentation(**config["augmentation"]),
        drop_last=config["dataset"]["drop_last"],
        limit=_batches_of(epoch, dataset, config),
        seed=config["seed"],
        epoch=epoch,
        rank=rank,
        world_size=world_size,
    )


def steps_until(epochs: float, steps_of_epoch: int) -> int:
    """Optimizer steps of so many epochs; those of a fraction of an epoch are rounded up."""
    return math.ceil(round(epochs * steps_of_epoch, 6))  # 10 × 1.1 is a little more than 11


def _batches_of(epoch: int, dataset: Dataset, config: Mapping[str, Any]) -> int | None:
    """Batches of the epoch that `trainer.max_epochs` ends within; None for any other."""
    trainer, settings = config["trainer"], config["dataset"]
    if epoch != int(trainer["max_epochs"]):  # as in every epoch, where there is no fraction
        return None
    images, size = len(dataset.train), settings["batch_size"]
    whole = images // size if settings["drop_last"] else math.ceil(images / size)
    whole, accumulated = min(whole, trainer["limit_train_batches"] or whole), trainer["accumulate_grad_batches"]
    steps = math.ceil(whole / accumulated)
    return accumulated * (steps_until(trainer["max_epochs"], steps) - epoch * steps)


class DataModule(pl.LightningDataModule):
    """Moves the data set, or batch after batch of it, to the device that trains."""

    def __init__(self, dataset: Dataset, config: Mapping[str, Any]) -> None:
        super().__init__()
        self.dataset = dataset
        self.config = config

    def setup(self, stage: str) -> None:
        assert self.trainer is not None
        self.dataset = self.dataset.to(self.trainer.strategy.root_device)

    def train_dataloader(self) -> Batches:
        assert self.trainer is not None
        return train_batches(
            self.dataset,
            self.config,
            epoch=self.trainer.current_epoch,
            rank=self.trainer.global_rank,
            world_size=self.trainer.world_size,
        )

    def val_dataloader(self) -> Batches:
        return eval_batches(self.dataset, self.dataset.val, self.config)
