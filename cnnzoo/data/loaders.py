"""The data set as a LightningDataModule.

Its loaders are rebuilt every epoch, because augmentation is drawn per epoch.
"""

import math
from typing import Any

import pytorch_lightning as pl

from cnnzoo.config.schema import Config
from cnnzoo.data.batches import BatchLoader
from cnnzoo.data.dataset import Dataset
from cnnzoo.data.images import Split
from cnnzoo.errors import UserError

# On the CPU a batch's activations should stay in the caches, a GPU should be kept busy.
_EVAL_BATCH_SIZES = {"cpu": 128, "cuda": 1000}


def eval_loader(dataset: Dataset, split: Split, config: Config) -> BatchLoader:
    """Batches of a split in its own order, without augmentation, for validation and test."""
    return BatchLoader(
        split,
        dataset.mean,
        dataset.std,
        image_size=config.image_size,
        batch_size=config.dataset.eval_batch_size or _EVAL_BATCH_SIZES[split.device.type],
        channels_last=config.trainer.channels_last,
    )


def train_loader(
    dataset: Dataset, config: Config, *, epoch: int = 0, rank: int = 0, world_size: int = 1
) -> BatchLoader:
    """Batches of the training split in the order and with the augmentation of one epoch.

    The epoch within which `trainer.max_epochs` ends is cut short.

    Raises:
        UserError: `dataset.drop_last` leaves no batch.
    """
    images, batch_size, drop_last = len(dataset.train), config.dataset.batch_size, config.dataset.drop_last
    if drop_last and images < batch_size:
        raise UserError(
            f"dataset.batch_size={batch_size}: more than the {images} training images, and dataset.drop_last=true"
            f" leaves out an incomplete batch, so nothing would be trained. Set dataset.batch_size to at most {images},"
            " or dataset.drop_last=false."
        )
    return BatchLoader(
        dataset.train,
        dataset.mean,
        dataset.std,
        image_size=config.image_size,
        batch_size=batch_size,
        channels_last=config.trainer.channels_last,
        shuffle=True,
        augmentation=config.augmentation,
        drop_last=drop_last,
        limit=_batches_in_epoch(epoch, images, config),
        seed=config.seed,
        epoch=epoch,
        rank=rank,
        world_size=world_size,
    )


def steps_until(epochs: float, steps_per_epoch: int) -> int:
    """Optimizer steps in so many epochs; those in a fraction of an epoch are rounded up."""
    return math.ceil(round(epochs * steps_per_epoch, 6))  # 10 × 1.1 is a little more than 11


def _batches_in_epoch(epoch: int, images: int, config: Config) -> int | None:
    """Number of batches of the epoch within which training ends; None, all of them, for any other."""
    trainer, batch_size = config.trainer, config.dataset.batch_size
    if epoch != int(trainer.max_epochs):  # every epoch, where `max_epochs` has no fraction
        return None
    whole = images // batch_size if config.dataset.drop_last else math.ceil(images / batch_size)
    whole = min(whole, trainer.limit_train_batches or whole)
    steps = math.ceil(whole / trainer.accumulate_grad_batches)
    return trainer.accumulate_grad_batches * (steps_until(trainer.max_epochs, steps) - epoch * steps)


class DataModule(pl.LightningDataModule):
    """Moves the data set, or batch after batch of it, to the training device."""

    def __init__(self, dataset: Dataset, config: Config) -> None:
        super().__init__()
        self.dataset = dataset
        self.config = config
        self.loader: BatchLoader | None = None  # of the epoch
        self.resumed: dict[str, Any] = {}

    def state_dict(self) -> dict[str, Any]:
        position = {} if self.loader is None else {"epoch": self.loader.epoch, **self.loader.state_dict()}
        return {"digest": self.dataset.digest, **position}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Resume within an epoch, and refuse to with other images than those that the checkpoint was trained on."""
        self.resumed = state_dict
        if state_dict.get("digest", self.dataset.digest) != self.dataset.digest:
            raise UserError(
                f"The images of {self.config.dataset.name} have changed since this run was interrupted: its test images"
                " may be among those that it has been trained on. Bring the former ones back, or train again with those"
                " that there are now: rerun=true."
            )

    def setup(self, stage: str) -> None:
        assert self.trainer is not None
        self.dataset = self.dataset.to(self.trainer.strategy.root_device)

    def train_dataloader(self) -> BatchLoader:
        assert self.trainer is not None
        self.loader = train_loader(
            self.dataset,
            self.config,
            epoch=self.trainer.current_epoch,
            rank=self.trainer.global_rank,
            world_size=self.trainer.world_size,
        )
        if self.resumed.get("epoch") == self.loader.epoch:
            # Lightning does so in later epochs only: it needs the first one's loader before it reads a checkpoint
            self.loader.load_state_dict(self.resumed)
        return self.loader

    def val_dataloader(self) -> BatchLoader:
        return eval_loader(self.dataset, self.dataset.val, self.config)
