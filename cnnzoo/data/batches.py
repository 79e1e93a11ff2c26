"""Batches of one epoch: select images, crop them and normalise them, on the device where the images are."""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from cnnzoo.config.schema import AugmentationConfig
from cnnzoo.data.augment import (
    Crops,
    alternating_flips,
    crop_and_resize,
    crop_reflect,
    draw_crops,
    draw_jitter,
    full_image_crops,
    jitter,
)
from cnnzoo.data.images import Split


def epoch_generator(seed: int, epoch: int) -> torch.Generator:
    """Return the generator of one epoch's order and augmentation: on the CPU, so that all devices see the same."""
    return _generator(seed, epoch)


def _generator(*numbers: int) -> torch.Generator:
    # torch keeps 32 bits of a seed: the sequence mixes all numbers into them.
    return torch.Generator().manual_seed(int(np.random.SeedSequence(numbers).generate_state(1)[0]))


class BatchLoader:
    """Iterate once over a split: `(images [B, C, S, S] float32 normalised, labels [B] int64)`.

    Args:
        split: the images and labels; batches are on its device.
        mean, std: of each channel, `[C] float32`, in units of 0..1.
        image_size: `S`; images of another size are resized.
        batch_size: over all processes together: process `rank` of `world_size` gets its share of every batch.
        shuffle: draw the order from (`seed`, `epoch`); otherwise the split's own.
        augmentation: draw crops, flips and jitter from (`seed`, `epoch`); None: images as they are.
        drop_last: leave out the last, incomplete batch.
        limit: number of batches to stop after.
    """

    def __init__(
        self,
        split: Split,
        mean: Tensor,
        std: Tensor,
        *,
        image_size: int,
        batch_size: int,
        channels_last: bool = False,
        shuffle: bool = False,
        augmentation: AugmentationConfig | None = None,
        drop_last: bool = False,
        limit: int | None = None,
        seed: int = 0,
        epoch: int = 0,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        self.split = split
        self.image_size = image_size
        self.batch_size = batch_size
        self.memory_format = torch.channels_last if channels_last else torch.contiguous_format
        self.shuffle = shuffle
        self.augmentation = augmentation
        self.drop_last, self.limit = drop_last, limit
        self.seed, self.epoch = seed, epoch
        self.rank, self.world_size = rank, world_size
        self.skip = self.delivered = 0  # batches
        # (x / 255 - mean) / std in one multiplication and one addition
        self.factor = (1 / (255 * std)).view(1, -1, 1, 1)
        self.offset = (-mean / std).view(1, -1, 1, 1)

    def state_dict(self) -> dict[str, int]:
        """What Lightning keeps in a checkpoint within an epoch."""
        return {"batches": self.delivered}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Go on after the batches that were delivered; all draws stay those of the whole epoch."""
        self.skip = self.delivered = state["batches"]

    def __len__(self) -> int:
        full, rest = divmod(len(self.split), self.batch_size)
        batches = full + (1 if rest and not self.drop_last else 0)
        return batches if self.limit is None else min(batches, self.limit)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        count = len(self.split)
        generator = epoch_generator(self.seed, self.epoch)
        order = torch.randperm(count, generator=generator) if self.shuffle else torch.arange(count)
        crops = self._draw_crops(order, generator)
        factors = self._draw_jitter(count, generator)
        starts = range(0, len(self) * self.batch_size, self.batch_size)
        batch_slices = [slice(i + self.rank, min(i + self.batch_size, count), self.world_size) for i in starts]
        batch_slices = batch_slices[self.skip :]
        for batch, (images, labels) in zip(batch_slices, self.split.fetch(order, batch_slices), strict=True):
            x = self._crop(images, None if crops is None else crops[batch])
            if factors is not None:
                x = jitter(x, factors[batch])
            x = x.contiguous(memory_format=self.memory_format)
            self.delivered += 1
            yield x.mul_(self.factor).add_(self.offset), labels

    def _draw_crops(self, order: Tensor, generator: torch.Generator) -> Crops | None:
        """The crop of each image of `order`; None: all of them stay as they are."""
        count, _, height, width = self.split.shape
        augmentation = self.augmentation
        if augmentation and (augmentation.flip or augmentation.scale or augmentation.padding):
            crops = draw_crops(augmentation, count, height, width, generator)
            if augmentation.flip_mode == "alternating":
                # Drawn once for the whole training, and by the image, whatever the order.
                flip = alternating_flips(augmentation.flip, count, self.epoch, _generator(self.seed, 0, 1))
                crops = replace(crops, flip=flip[order])
        elif (height, width) != (self.image_size, self.image_size):
            crops = full_image_crops(count, height, width)
        else:
            return None
        return crops.to(self.split.device)

    def _draw_jitter(self, count: int, generator: torch.Generator) -> Tensor | None:
        augmentation = self.augmentation
        if augmentation and (augmentation.brightness or augmentation.contrast):
            return draw_jitter(augmentation, count, generator)
        return None

    def _crop(self, images: Tensor, crops: Crops | None) -> Tensor:
        """`[B, C, S, S] float32`, values 0..255."""
        if crops is None:
            return images.float()
        if self.augmentation and self.augmentation.padding and self.augmentation.padding_mode == "reflect":
            images = crop_reflect(images, crops)
            height, width = images.shape[2:]
            if (height, width) == (self.image_size, self.image_size):
                return images.float()
            crops = full_image_crops(len(images), height, width).to(images.device)
        return crop_and_resize(images, crops, self.image_size)
