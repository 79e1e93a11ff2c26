"""Batches straight from memory: an index, a crop and a normalisation, all on the device that holds the images."""

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from cnnzoo.data.augment import Augmentation, draw_crops, resample, whole_images
from cnnzoo.data.sources import Images


def epoch_generator(seed: int, epoch: int) -> torch.Generator:
    """The generator that decides the order and the augmentation of one epoch; CPU, so every device sees the same."""
    # torch keeps 32 bits of a seed: the sequence mixes both numbers into them.
    state = np.random.SeedSequence([seed, epoch]).generate_state(1)[0]
    return torch.Generator().manual_seed(int(state))


class Batches:
    """Iterates once over a part of a data set: `(images [B, C, S, S] float32 normalised, labels [B] int64)`.

    In the given order and as they are, or, with `augmentation`, in an order and with crops and flips that
    (`seed`, `epoch`) determine. Of every batch, process `rank` of `world_size` gets its share, so `batch_size` means
    the same however many devices train.
    """

    def __init__(
        self,
        part: Images,
        mean: Tensor,
        std: Tensor,
        *,
        image_size: int,
        batch_size: int,
        channels_last: bool = False,
        shuffle: bool = False,
        augmentation: Augmentation | None = None,
        drop_last: bool = False,
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
        self.drop_last = drop_last
        self.seed, self.epoch = seed, epoch
        self.rank, self.world_size = rank, world_size
        # (x / 255 - mean) / std in one multiplication and one addition
        self.factor = (1 / (255 * std)).view(1, -1, 1, 1)
        self.offset = (-mean / std).view(1, -1, 1, 1)

    def __len__(self) -> int:
        full, rest = divmod(len(self.part), self.batch_size)
        return full + (1 if rest and not self.drop_last else 0)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        images, labels = self.part.images, self.part.labels
        count, _, height, width = images.shape
        device = images.device
        generator = epoch_generator(self.seed, self.epoch)
        order = torch.randperm(count, generator=generator) if self.shuffle else torch.arange(count)
        order = order.to(device)
        resize = (height, width) != (self.image_size, self.image_size)
        crops = None
        if self.augmentation:
            crops = draw_crops(self.augmentation, count, height, width, generator).to(device)
        elif resize:
            crops = whole_images(count, height, width).to(device)
        for batch in range(len(self)):
            start = batch * self.batch_size
            places = slice(start + self.rank, min(start + self.batch_size, count), self.world_size)
            index = order[places]
            x = images[index]
            x = x.float() if crops is None else resample(x, crops[places], self.image_size)
            x = x.contiguous(memory_format=self.memory_format)
            yield x.mul_(self.factor).add_(self.offset), labels[index]
