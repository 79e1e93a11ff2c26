"""How a validation or test split is drawn from the training images."""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cnnzoo.errors import UserError


def image_count(size: float, total: int) -> int:
    """The size of a split as a number of images; below 1 it is a share of `total`."""
    return round(size * total) if size < 1 else int(size)


def random_split_indices(size: int, val_size: float, seed: int) -> tuple[Tensor, Tensor]:
    """Draw the indices of training and validation split, as `random_split` does after `torch.manual_seed(seed)`.

    `val_size` below 1 is a share of the images, else their number; 0 leaves all of them for training.
    """
    count = image_count(val_size, size)
    if not 0 <= count < size:
        raise UserError(f"dataset.val_size={val_size}: cannot take {count} of {size} training images for validation.")
    order = torch.randperm(size, generator=torch.Generator().manual_seed(seed))
    return order[: size - count], order[size - count :]


def stratified_split(
    index: NDArray[np.int64],
    labels: NDArray[np.int64],
    classes: Sequence[str],
    size: float,
    key: str,
    generator: torch.Generator,
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Divide `index` into what stays and what is drawn: of each class its share, and at least one image on each side.

    The number drawn from a class is its share rounded by largest remainders, within those bounds.

    Raises:
        UserError: `size` leaves a class without images on one side.
    """
    sizes = np.bincount(labels[index], minlength=len(classes))
    total = image_count(size, len(index))
    if size < 1:
        total = max(total, len(classes))
    smallest = int(sizes.argmin())
    if sizes[smallest] < 2:
        raise UserError(
            f"class '{classes[smallest]}' is too small to be divided: {sizes[smallest]} image(s) left. Each class needs"
            " one for training and one for each split that is drawn from the training images."
        )
    if not len(classes) <= total <= len(index) - len(classes):
        raise UserError(
            f"{key}={size}: cannot draw {total} of {len(index)} images and have all {len(classes)} classes on both"
            f" sides. Between {len(classes)} and {len(index) - len(classes)} can be drawn; below 1 it is a share."
        )
    quota = sizes * (total / len(index))
    counts = np.clip(np.floor(quota), 1, sizes - 1)
    while counts.sum() < total:
        counts[np.where(counts < sizes - 1, quota - counts, -np.inf).argmax()] += 1
    while counts.sum() > total:
        counts[np.where(counts > 1, counts - quota, -np.inf).argmax()] -= 1
    drawn = np.zeros(len(index), dtype=bool)
    for label, count in enumerate(counts.astype(int)):
        members = np.flatnonzero(labels[index] == label)
        drawn[members[torch.randperm(len(members), generator=generator).numpy()[:count]]] = True
    return index[~drawn], index[drawn]
