"""A data set ready for training: split, in the channels asked for, with its statistics."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from torch import Tensor

from cnnzoo.config.targets import call_target
from cnnzoo.data import memory
from cnnzoo.data.images import Images, Part, StreamedImages
from cnnzoo.data.sources import Source, image_count
from cnnzoo.errors import UserError

log = logging.getLogger(__name__)

# ITU-R BT.601 luma, as PIL and torchvision turn colour into grey.
_LUMA = (0.299, 0.587, 0.114)


@dataclass(frozen=True)
class Dataset:
    """Three disjoint parts and the normalisation `(x / 255 - mean) / std`; `mean`, `std`: `[C] float32`.

    `val` may be empty: then there is no validation.
    `resident`, `workers`: as in a configuration.
    """

    train: Part
    val: Part
    test: Part
    classes: tuple[str, ...]
    mean: Tensor
    std: Tensor
    resident: bool | Literal["auto"]
    workers: int

    def to(self, device: torch.device | str) -> "Dataset":
        """Made for `device`, where batches are augmented; images in memory move there if they may.

        Raises:
            UserError: they must, but do not fit.
        """
        device = torch.device(device)
        parts: list[Part] = [self.train, self.val, self.test]
        to_move = sum(part.nbytes for part in parts if isinstance(part, Images) and part.device.type != device.type)
        if not _may_hold(device, to_move, self.resident):
            parts = [part.streamed(self.workers) for part in parts]
        train, val, test = (part.to(device) for part in parts)
        mean, std = self.mean.to(device), self.std.to(device)
        return replace(self, train=train, val=val, test=test, mean=mean, std=std)

    def read(self) -> "Dataset":
        """With the images on a disk read into main memory if they may be there.

        Raises:
            UserError: they must, but do not fit.
        """
        parts = (self.train, self.val, self.test)
        to_read = sum(part.nbytes for part in parts if isinstance(part, StreamedImages))
        resident = _may_hold(memory.CPU, to_read, self.resident)
        train, val, test = (part.resident() if resident else part.streamed(self.workers) for part in parts)
        return replace(self, train=train, val=val, test=test)


def _may_hold(device: torch.device, size: int, resident: bool | Literal["auto"]) -> bool:
    """Whether `size` bytes of images shall be in the memory of `device`."""
    if size == 0 or resident is False:
        return resident is not False
    numbers = f"{size / 1e9:.1f} GB of images, {(memory.free(device) or 0) / 1e9:.1f} GB of {device.type} memory free"
    if resident == "auto":
        resident = memory.has_room(size, device)
        if not resident:
            log.info("%s: reading them batch by batch (dataset.resident=true keeps them there)", numbers)
    elif not memory.has_room(size, device, spare=0):
        raise UserError(f"dataset.resident=true: {numbers}. dataset.resident=auto reads them batch by batch.")
    return resident


def load_dataset(config: Mapping[str, Any]) -> Dataset:
    """Reads and prepares what the section `dataset` of a configuration describes.

    Raises:
        UserError: the data are missing or damaged, or the section does not fit them.
    """
    source: Source = call_target("dataset.source", config["source"])
    if len(source.classes) != config["num_classes"]:
        raise UserError(
            f"dataset.num_classes={config['num_classes']}, but the data have {len(source.classes)} classes:"
            f" {', '.join(source.classes[:20])}."
        )
    train, test = (_with_channels(part, config["channels"]) for part in (source.train, source.test))
    if config["mean"] is None or config["std"] is None:  # reads all images, which may take long
        mean, std = channel_statistics(train)
    if config["mean"] is not None:
        mean = torch.tensor(config["mean"], dtype=torch.float32)
    if config["std"] is not None:
        std = torch.tensor(config["std"], dtype=torch.float32)
    if source.val is not None:
        val = _with_channels(source.val, config["channels"])
    else:
        train_index, val_index = split_indices(len(train), config["val_size"], config["split_seed"])
        train, val = train[train_index], train[val_index]
    return Dataset(
        train, val, test, source.classes, mean, std, resident=config["resident"], workers=config["workers"]
    ).read()


def split_indices(size: int, val_size: float, seed: int) -> tuple[Tensor, Tensor]:
    """Indices of the training and the validation part, as `torch.manual_seed(seed)` and `random_split` give them.

    `val_size` below 1 is a share of the images, else their number; 0 leaves all of them for training.
    """
    count = image_count(val_size, size)
    if not 0 <= count < size:
        raise UserError(f"dataset.val_size={val_size}: cannot take {count} of {size} training images for validation.")
    order = torch.randperm(size, generator=torch.Generator().manual_seed(seed))
    return order[: size - count], order[size - count :]


def pixel_counts(part: Part) -> Tensor:
    """How often each of the 256 values occurs in each channel: `[C, 256] int64`."""
    counts = torch.zeros(part.shape[1], 256, dtype=torch.int64)
    step = max(1, 2**22 // part.shape[1:].numel())
    cuts = [slice(start, start + step) for start in range(0, len(part), step)]
    for images, _ in part.fetch(torch.arange(len(part)), cuts):
        for channel, count in zip(images.unbind(dim=1), counts, strict=True):
            count += channel.flatten().bincount(minlength=256)
    return counts


def channel_statistics(part: Part) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of each channel, scaled to 0..1; exact up to the last digit.

    Counting the 256 values instead of summing pixels needs no copy of the images in floating point.
    """
    values = torch.arange(256, dtype=torch.float64) / 255
    means, stds = [], []
    for counts in pixel_counts(part).double():
        mean = (counts * values).sum() / counts.sum()
        variance = (counts * (values - mean) ** 2).sum() / counts.sum()
        means.append(mean)
        stds.append(variance.sqrt())
    # A channel without any contrast stays as it is rather than being divided by zero.
    std = torch.stack(stds)
    return torch.stack(means).float(), torch.where(std > 0, std, torch.ones_like(std)).float()


def _with_channels(part: Part, channels: int) -> Part:
    """Grey repeated to any number of channels, or colour turned into grey."""
    present = part.shape[1]
    if present == channels:
        return part
    if isinstance(part, StreamedImages):
        raise UserError(
            f"dataset.channels={channels}: the images have {present} channels, and stay as they are in a file."
        )
    if present == 1:
        return Images(part.images.repeat(1, channels, 1, 1), part.labels)
    if present == 3 and channels == 1:
        weights = torch.tensor(_LUMA).view(1, 3, 1, 1)
        grey = torch.cat([(chunk * weights).sum(1, keepdim=True).round_().byte() for chunk in part.images.split(4096)])
        return Images(grey, part.labels)
    raise UserError(
        f"dataset.channels={channels}: the images have {present} channels, which can be kept"
        f"{' or turned into 1' if present == 3 else ''}; grey images can be repeated to any number."
    )
