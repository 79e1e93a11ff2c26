"""A data set ready for training: split, in the channels asked for, with its statistics."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from cnnzoo.config.targets import call_target
from cnnzoo.data.sources import Images, Source, image_count
from cnnzoo.errors import UserError

# ITU-R BT.601 luma, as PIL and torchvision turn colour into grey.
_LUMA = (0.299, 0.587, 0.114)


@dataclass(frozen=True)
class Dataset:
    """Three disjoint parts and the normalisation `(x / 255 - mean) / std`; `mean`, `std`: `[C] float32`.

    `val` may be empty: then there is no validation.
    """

    train: Images
    val: Images
    test: Images
    classes: tuple[str, ...]
    mean: Tensor
    std: Tensor

    def to(self, device: torch.device | str) -> "Dataset":
        """All of it on `device`, where batches are then cut and augmented."""
        train, val, test = (part.to(device) for part in (self.train, self.val, self.test))
        return Dataset(train, val, test, self.classes, self.mean.to(device), self.std.to(device))


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
    mean, std = channel_statistics(train.images)
    if config["mean"] is not None:
        mean = torch.tensor(config["mean"], dtype=torch.float32)
    if config["std"] is not None:
        std = torch.tensor(config["std"], dtype=torch.float32)
    if source.val is not None:
        return Dataset(train, _with_channels(source.val, config["channels"]), test, source.classes, mean, std)
    train_index, val_index = split_indices(len(train), config["val_size"], config["split_seed"])
    return Dataset(train[train_index], train[val_index], test, source.classes, mean, std)


def split_indices(size: int, val_size: float, seed: int) -> tuple[Tensor, Tensor]:
    """Indices of the training and the validation part, as `torch.manual_seed(seed)` and `random_split` give them.

    `val_size` below 1 is a share of the images, else their number; 0 leaves all of them for training.
    """
    count = image_count(val_size, size)
    if not 0 <= count < size:
        raise UserError(f"dataset.val_size={val_size}: cannot take {count} of {size} training images for validation.")
    order = torch.randperm(size, generator=torch.Generator().manual_seed(seed))
    return order[: size - count], order[size - count :]


def channel_statistics(images: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of each channel of `[N, C, H, W] uint8`, scaled to 0..1; exact up to the last digit.

    Counting the 256 values instead of summing pixels needs no copy of the images in floating point.
    """
    values = torch.arange(256, dtype=torch.float64) / 255
    means, stds = [], []
    for channel in images.unbind(dim=1):
        counts = torch.bincount(channel.flatten(), minlength=256).double()
        mean = (counts * values).sum() / counts.sum()
        variance = (counts * (values - mean) ** 2).sum() / counts.sum()
        means.append(mean)
        stds.append(variance.sqrt())
    # A channel without any contrast stays as it is rather than being divided by zero.
    std = torch.stack(stds)
    return torch.stack(means).float(), torch.where(std > 0, std, torch.ones_like(std)).float()


def _with_channels(part: Images, channels: int) -> Images:
    """Grey repeated to any number of channels, or colour turned into grey."""
    present = part.images.shape[1]
    if present == channels:
        return part
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
