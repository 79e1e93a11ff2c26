"""Where images come from: a source is a function that returns a `Source`, made from one kind of files.

A data set of your own is a function like these, annotated `-> Source`, and a YAML whose `dataset.source._target_` names
it. Of its parameters, those called `root`, `cache`, `image_size`, `channels`, `val_size` or `split_seed` get the values
of the section `dataset`.
"""

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from cnnzoo.data.images import Images, Split
from cnnzoo.errors import UserError

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Source:
    """A data set as its authors split it; without a validation split, that is taken from `train` later."""

    train: Split
    test: Split
    classes: tuple[str, ...]
    val: Split | None = None


# Training and test images of the original releases.
_SIZES = {
    "CIFAR10": (50_000, 10_000),
    "CIFAR100": (50_000, 10_000),
    "MNIST": (60_000, 10_000),
    "FashionMNIST": (60_000, 10_000),
    "SVHN": (73_257, 26_032),
}


def torchvision_set(name: Literal["CIFAR10", "CIFAR100", "MNIST", "FashionMNIST", "SVHN"], root: str) -> Source:
    """A data set of `torchvision.datasets`, from the folder `root`, downloaded to there when missing.

    Raises:
        UserError: it is missing or damaged, and cannot be downloaded.
    """
    train, test = (_torchvision_split(name, root, split) for split in ("train", "test"))
    for split, data, expected in zip(("training", "test"), (train, test), _SIZES[name], strict=True):
        if len(data) != expected:
            raise UserError(
                f"{name} in {Path(root).resolve()} has {len(data)} {split} images instead of {expected}: it is damaged."
                " Delete its folder there to have it downloaded again."
            )
    classes = getattr(train, "classes", None) or [str(digit) for digit in range(10)]  # SVHN has no list of its own
    return Source(_images(train), _images(test), tuple(classes))


def _torchvision_split(name: str, root: str, split: str) -> Any:
    """torchvision's data set object for "train" or "test"."""
    import torchvision.datasets  # slow to import, and not needed by other sources

    cls = getattr(torchvision.datasets, name)
    kwargs: dict[str, Any] = {"split": split} if name == "SVHN" else {"train": split == "train"}
    where = Path(root).resolve()
    try:
        try:
            return cls(root, download=False, **kwargs)
        except RuntimeError:  # what torchvision raises if it is not there or a checksum is wrong
            log.info("%s is missing or damaged in %s: downloading it", name, where)
            return cls(root, download=True, **kwargs)
    except Exception as error:
        reason = f"{type(error).__name__}: {error}".strip().rstrip(".").split("\n")[0]
        raise UserError(
            f"{name} is missing or damaged in {where}, and downloading it failed ({reason})."
            " Point paths.data (or the environment variable CNNZOO_DATA) at a folder that holds it in torchvision's"
            " layout, or try again with a network connection. dataset=digits needs neither."
        ) from error


def _images(data: Any) -> Images:
    """torchvision's arrays, whichever order their axes have, as `[N, C, H, W]`."""
    images = torch.as_tensor(np.asarray(data.data))
    if images.ndim == 3:  # grey
        images = images[:, None]
    elif images.shape[-1] == 3:
        images = images.permute(0, 3, 1, 2)
    labels = torch.as_tensor(np.asarray(data.labels if hasattr(data, "labels") else data.targets), dtype=torch.int64)
    return Images(images.contiguous(), labels)


def digits(test_size: int, split_seed: int) -> Source:
    """scikit-learn's 1,797 handwritten digits, 8×8 grey, brightness 0..16 scaled to 0..255; stratified test split."""
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    data = load_digits()
    images = torch.as_tensor(np.rint(data.images * (255 / 16)).astype(np.uint8))[:, None]
    labels = torch.as_tensor(data.target, dtype=torch.int64)
    if not 10 <= test_size <= len(labels) - 10:
        raise UserError(
            f"dataset.source.test_size={test_size}: expected 10 to {len(labels) - 10} of {len(labels)} images."
        )
    everything = Images(images, labels)
    train, test = train_test_split(
        np.arange(len(labels)), test_size=test_size, random_state=split_seed, stratify=data.target
    )
    classes = tuple(str(name) for name in data.target_names)
    return Source(everything[torch.as_tensor(train)], everything[torch.as_tensor(test)], classes)
