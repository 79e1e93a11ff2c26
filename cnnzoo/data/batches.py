"""Batches: an index, a crop and a normalisation, the last two on the device that trains."""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from cnnzoo.data.augment import Augmentation, Crops, alternating_flips, draw_crops, resample, shift, whole_images
from cnnzoo.data.images import Part


def epoch_generator(seed: int, epoch: int) -> torch.Generator:
    """The generator that decides the order and the augmentation of one epoch; CPU, so every device sees the same."""
    return _generator(seed, epoch)


def _generator(*numbers: int) -> torch.Generator:
    # torch keeps 32 bits of a seed: the sequence mixes all numbers into them.
    return torch.Generator().manual_seed(int(np.random.SeedSequence(numbers).generate_state(1)[0]))


class Batches:
    """Iterates once over a part of a data set: `(images [B, C, S, S] float32 normalised, labels [B] int64)`.

    In the given order and as they are, or, with `augmentation`, in an order and with crops and flips that
    (`seed`, `epoch`) determine. Of every batch, process `rank` of `world_size` gets its share, so `batch_size` means
    the same however many devices train. `limit` ends after so many batches.
    """

    def __init__(
        self,
        part: Part,
        mean: Tensor,
        std: Tensor,
        *,
        image_size: int,
        batch_size: int,
        channels_last: bool = False,
        shuffle: bool = False,
        augmentation: Augmentation | None = None,
        drop_last: bool = False,
        limit: int | None = None,
        seed: int = 0,
        epoch: int = 0,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        self.part = part
        self.image_size = image_size
        self.batch_size = batch_size
        self.memory_format = torch.channels_last if channels_last else torch.contiguous_format
        self.shuffle = shuffle
        self.augmentation = augmentation or Augmentation()
        self.drop_last, self.limit = drop_last, limit
        self.seed, self.epoch = seed, epoch
        self.rank, self.world_size = rank, world_size
        # (x / 255 - mean) / std in one multiplication and one addition
        self.factor = (1 / (255 * std)).view(1, -1, 1, 1)
        self.offset = (-mean / std).view(1, -1, 1, 1)

    def __len__(self) -> int:
        full, rest = divmod(len(self.part), self.batch_size)
        batches = full + (1 if rest and not self.drop_last else 0)
        return batches if self.limit is None else min(batches, self.limit)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        count, _, height, width = self.part.shape
        device = self.part.device
        generator = epoch_generator(self.seed, self.epoch)
        order = torch.randperm(count, generator=generator) if self.shuffle else torch.arange(count)
        crops = None
        if self.augmentation:
            crops = draw_crops(self.augmentation, count, height, width, generator)
            if self.augmentation.flip_mode == "alternating":
                once = _generator(self.seed, 0, 1)  # of the image, so whatever the order
                flip = alternating_flips(self.augmentation.flip, count, self.epoch, once)
                crops = replace(crops, flip=flip[order])
        elif (height, width) != (self.image_size, self.image_size):
            crops = whole_images(count, height, width)
        if crops is not None:
            crops = crops.to(device)
        starts = range(0, len(self) * self.batch_size, self.batch_size)
        cuts = [slice(i + self.rank, min(i + self.batch_size, count), self.world_size) for i in starts]
        for cut, (images, labels) in zip(cuts, self.part.fetch(order, cuts), strict=True):
            x = self._cut(images, None if crops is None else crops[cut])
            x = x.contiguous(memory_format=self.memory_format)
            yield x.mul_(self.factor).add_(self.offset), labels

    def _cut(self, images: Tensor, crops: Crops | None) -> Tensor:
        """`[B, C, S, S] float32`, values 0..255."""
        if crops is None:
            return images.float()
        if self.augmentation.padding and self.augmentation.padding_mode == "reflect":
            images = shift(images, crops)
            height, width = images.shape[2:]
            if (height, width) == (self.image_size, self.image_size):
                return images.float()
            crops = whole_images(len(images), height, width).to(images.device)
        return resample(images, crops, self.image_size)
