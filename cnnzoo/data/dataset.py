"""A data set ready for training: split, in the channels asked for, with the statistics that normalise it."""

import logging
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from cnnzoo.config.instantiate import instantiate
from cnnzoo.config.schema import DatasetConfig
from cnnzoo.data import corruptions, memory
from cnnzoo.data.images import Images, Split, StreamedImages
from cnnzoo.data.sources import Source
from cnnzoo.data.splits import random_split_indices
from cnnzoo.errors import UserError

log = logging.getLogger(__name__)

# ITU-R BT.601 luma, with which PIL and torchvision turn colour into grey.
_LUMA = (0.299, 0.587, 0.114)


@dataclass(frozen=True)
class Dataset:
    """Three disjoint splits and the normalisation `(x / 255 - mean) / std`; `mean`, `std`: `[C] float32`.

    `val` may be empty: then there is no validation.
    `resident`, `workers`: as in `DatasetConfig`.
    `digest`: differs if any image or label of the source does.
    """

    train: Split
    val: Split
    test: Split
    classes: tuple[str, ...]
    mean: Tensor
    std: Tensor
    resident: bool | Literal["auto"]
    workers: int
    digest: str = ""

    @property
    def splits(self) -> tuple[Split, Split, Split]:
        return self.train, self.val, self.test

    def read(self) -> "Dataset":
        """Return it with the images read from disk into main memory, if they may be there.

        Raises:
            UserError: they must be, but do not fit.
        """
        to_read = sum(split.nbytes for split in self.splits if isinstance(split, StreamedImages))
        in_memory = _may_be_in_memory(to_read, memory.CPU, self.resident)
        splits = [split.in_memory() if in_memory else split.streamed(self.workers) for split in self.splits]
        return replace(self, train=splits[0], val=splits[1], test=splits[2])

    def to(self, device: torch.device | str) -> "Dataset":
        """Return it for `device`, where batches are augmented; images in main memory move there if they may.

        Raises:
            UserError: they must, but do not fit.
        """
        device = torch.device(device)
        to_move = sum(
            split.nbytes for split in self.splits if isinstance(split, Images) and split.device.type != device.type
        )
        splits: Sequence[Split] = self.splits
        if not _may_be_in_memory(to_move, device, self.resident):
            splits = [split.streamed(self.workers) for split in splits]
        train, val, test = (split.to(device) for split in splits)
        return replace(self, train=train, val=val, test=test, mean=self.mean.to(device), std=self.std.to(device))


def _may_be_in_memory(size: int, device: torch.device, resident: bool | Literal["auto"]) -> bool:
    """Whether `size` more bytes of images are to be kept in the memory of `device`."""
    if size == 0 or resident is False:
        return resident is not False
    sizes = f"{size / 1e9:.1f} GB of images, {(memory.free(device) or 0) / 1e9:.1f} GB of {device.type} memory free"
    if resident == "auto":
        resident = memory.has_room(size, device)
        if not resident:
            log.info("%s: reading them batch by batch (dataset.resident=true keeps them there)", sizes)
    elif not memory.has_room(size, device, spare=0):
        raise UserError(f"dataset.resident=true: {sizes}. dataset.resident=auto reads them batch by batch.")
    return resident


# What a source gets from the configuration if it has parameters of these names.
_OFFERED = ("root", "cache", "image_size", "channels", "num_classes", "val_size", "split_seed")


def load_dataset(config: DatasetConfig, trusted_packages: Sequence[str] = ()) -> Dataset:
    """Read and split the data set of a configuration.

    Args:
        trusted_packages: packages whose functions may be a source without a return annotation.

    Raises:
        UserError: the data are missing or damaged, or do not fit the configuration.
    """
    offered = {key: getattr(config, key) for key in _OFFERED}
    source = instantiate(Source, "dataset.source", config.source, offered=offered, trusted_packages=trusted_packages)
    if len(source.classes) != config.num_classes:
        raise UserError(
            f"dataset.num_classes={config.num_classes}, but the data have {len(source.classes)} classes:"
            f" {', '.join(source.classes[:20])}."
        )
    if config.test is not None:
        source = corruptions.with_corrupted_test(source, config.test, _folder(config))
    for name, split in (("training", source.train), ("validation", source.val), ("test", source.test)):
        if split is not None:
            _check(name, split, config.num_classes)
    digest = source.digest or _checksum(source)
    train, test = _with_channels(source.train, config.channels), _with_channels(source.test, config.channels)
    if config.mean is None or config.std is None:  # reads all images, which may take long
        mean, std = channel_statistics(train)
    if config.mean is not None:
        mean = torch.tensor(config.mean, dtype=torch.float32)
    if config.std is not None:
        std = torch.tensor(config.std, dtype=torch.float32)
    if source.val is not None:
        val = _with_channels(source.val, config.channels)
    else:
        train_index, val_index = random_split_indices(len(train), config.val_size, config.split_seed)
        train, val = train[train_index], train[val_index]
    dataset = Dataset(train, val, test, source.classes, mean, std, config.resident, config.workers, digest)
    return dataset.read()


def corrupted_tests(dataset: Dataset, config: DatasetConfig) -> Iterator[tuple[str, Split]]:
    """Yield each corruption of the published mean, and the test images with it at all severities, the lowest first.

    Raises:
        UserError: their files are missing or damaged, or go with other test images.
    """
    for corruption in corruptions.CORRUPTIONS:
        test = corruptions.read_corrupted(_folder(config), corruption, dataset.test.labels.cpu().numpy())
        yield corruption, _with_channels(test, config.channels)


def _folder(config: DatasetConfig) -> Path:
    """Where standard sets lie, `paths.data`."""
    return Path(config.cache or config.root or ".")


def _check(name: str, split: Split, num_classes: int) -> None:
    """Refuse what would fail or mislead later, from a source of the user's own or a damaged file."""
    labels = split.labels
    if isinstance(split, Images):
        images = split.images
        if (images.dtype, images.ndim, labels.dtype, labels.shape) != (torch.uint8, 4, torch.int64, images.shape[:1]):
            raise UserError(
                f"dataset.source: the {name} images are {images.dtype} {[*images.shape]} and their labels"
                f" {labels.dtype} {[*labels.shape]}; expected torch.uint8 [N, C, H, W] and torch.int64 [N]."
            )
    wrong = labels[(labels < 0) | (labels >= num_classes)]
    if len(wrong):
        raise UserError(
            f"dataset.source: {len(wrong)} of {len(labels)} {name} images have labels such as {int(wrong[0])}; expected"
            f" 0 to {num_classes - 1} (dataset.num_classes={num_classes}). The data are damaged, or have other classes."
        )


def _checksum(source: Source, most: int = 1000) -> str:
    """CRC-32 of all labels and images; of a split that is not in memory, of `most` images throughout it."""
    crc = 0
    for split in (source.train, source.val, source.test):
        if split is None:
            continue
        crc = zlib.crc32(split.labels.cpu().contiguous().numpy().data, crc)
        if isinstance(split, StreamedImages):
            split = split[torch.arange(0, len(split), max(1, len(split) // most))]
        crc = zlib.crc32(split.in_memory().images.cpu().contiguous().numpy().data, crc)
    return f"{crc:08x}"


def pixel_counts(split: Split) -> Tensor:
    """Count how often each of the 256 values occurs in each channel: `[C, 256] int64`."""
    counts = torch.zeros(split.shape[1], 256, dtype=torch.int64)
    step = max(1, 2**22 // split.shape[1:].numel())
    batch_slices = [slice(start, start + step) for start in range(0, len(split), step)]
    for images, _ in split.fetch(torch.arange(len(split)), batch_slices):
        for channel, count in zip(images.unbind(dim=1), counts, strict=True):
            count += channel.flatten().bincount(minlength=256)
    return counts


def channel_statistics(split: Split) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of each channel, `[C] float32` in units of 0..1, exact up to the last digit.

    Counting the 256 values instead of summing pixels needs no copy of the images in floating point.
    """
    values = torch.arange(256, dtype=torch.float64) / 255
    means, stds = [], []
    for counts in pixel_counts(split).double():
        mean = (counts * values).sum() / counts.sum()
        variance = (counts * (values - mean) ** 2).sum() / counts.sum()
        means.append(mean)
        stds.append(variance.sqrt())
    # A channel without any contrast is not scaled, instead of being divided by zero.
    std = torch.stack(stds)
    return torch.stack(means).float(), torch.where(std > 0, std, torch.ones_like(std)).float()


def _with_channels(split: Split, channels: int) -> Split:
    """Repeat grey to any number of channels, or turn colour into grey."""
    present = split.shape[1]
    if present == channels:
        return split
    if isinstance(split, StreamedImages):
        raise UserError(
            f"dataset.channels={channels}: the images have {present} channels, and are used as they are in their file."
        )
    if present == 1:
        return Images(split.images.repeat(1, channels, 1, 1), split.labels)
    if present == 3 and channels == 1:
        weights = torch.tensor(_LUMA).view(1, 3, 1, 1)
        grey = torch.cat(
            [(chunk * weights).sum(1, keepdim=True).round_().byte() for chunk in torch.split(split.images, 4096)]
        )
        return Images(grey, split.labels)
    raise UserError(
        f"dataset.channels={channels}: the images have {present} channels, which can be kept"
        f"{' or turned into 1' if present == 3 else ''}; grey images can be repeated to any number."
    )
