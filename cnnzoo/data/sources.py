"""Where images come from: each function reads one kind of source into uint8 tensors, or finds it in a file of them.

A data set of your own is one function like these and one YAML whose `dataset.source._target_` names it.
"""

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from cnnzoo.data.images import Images, Part
from cnnzoo.errors import UserError

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Source:
    """A data set as its makers divided it; without a validation part, that is taken from `train` later."""

    train: Part
    test: Part
    classes: tuple[str, ...]
    val: Part | None = None


def image_count(size: float, total: int) -> int:
    """A part's size as a number of images: below 1 it is a share of `total`."""
    return round(size * total) if size < 1 else int(size)


# Training and test images of the original releases.
_SIZES = {
    "CIFAR10": (50_000, 10_000),
    "CIFAR100": (50_000, 10_000),
    "MNIST": (60_000, 10_000),
    "FashionMNIST": (60_000, 10_000),
    "SVHN": (73_257, 26_032),
}


def torchvision_set(name: Literal["CIFAR10", "CIFAR100", "MNIST", "FashionMNIST", "SVHN"], root: str) -> Source:
    """A data set that torchvision knows, from `root`, downloaded to there when missing.

    Raises:
        UserError: missing or damaged and not to be downloaded.
    """
    parts = [_torchvision_part(name, root, part) for part in ("train", "test")]
    for part, data, expected in zip(("training", "test"), parts, _SIZES[name], strict=True):
        if len(data) != expected:
            raise UserError(
                f"{name} in {Path(root).resolve()} has {len(data)} {part} images instead of {expected}: it is damaged."
                " Delete its folder there to have it downloaded again."
            )
    train, test = parts
    classes = getattr(train, "classes", None) or [str(digit) for digit in range(10)]  # SVHN has no list of its own
    return Source(_images(train), _images(test), tuple(classes))


def _torchvision_part(name: str, root: str, part: str) -> Any:
    """torchvision's data set object for "train" or "test"."""
    import torchvision.datasets  # slow to import, and other sources do without

    cls = getattr(torchvision.datasets, name)
    kwargs: dict[str, Any] = {"split": part} if name == "SVHN" else {"train": part == "train"}
    where = Path(root).resolve()
    try:
        try:
            return cls(root, download=False, **kwargs)
        except RuntimeError:  # torchvision's word for: not there, or its checksum is wrong
            log.info("%s is missing or damaged in %s: downloading it", name, where)
            return cls(root, download=True, **kwargs)
    except Exception as error:
        raise UserError(
            f"{name} is missing or damaged in {where}, and downloading it failed ({_reason(error)})."
            " Point paths.data (or the environment variable CNNZOO_DATA) at a folder that holds it in torchvision's"
            " layout, or try again with a network connection. dataset=digits needs neither."
        ) from error


def _images(data: Any) -> Images:
    """Torchvision's arrays, whichever way round they lie, as `[N, C, H, W]`."""
    images = torch.as_tensor(np.asarray(data.data))
    if images.ndim == 3:  # grey
        images = images[:, None]
    elif images.shape[-1] == 3:
        images = images.permute(0, 3, 1, 2)
    labels = torch.as_tensor(np.asarray(data.labels if hasattr(data, "labels") else data.targets), dtype=torch.int64)
    return Images(images.contiguous(), labels)


def _reason(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}".strip().rstrip(".").split("\n")[0]


def digits(test_size: int, split_seed: int) -> Source:
    """scikit-learn's 1,797 handwritten digits, 8×8 grey, brightness 0..16 stretched to 0..255; stratified test set."""
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    data = load_digits()
    images = torch.as_tensor(np.rint(data.images * (255 / 16)).astype(np.uint8))[:, None]
    labels = torch.as_tensor(data.target, dtype=torch.int64)
    if not 10 <= test_size <= len(labels) - 10:
        raise UserError(
            f"dataset.source.test_size={test_size}: expected 10 to {len(labels) - 10} of {len(labels)} images."
        )
    train, test = train_test_split(
        np.arange(len(labels)), test_size=test_size, random_state=split_seed, stratify=data.target
    )
    everything = Images(images, labels)
    return Source(
        everything[torch.as_tensor(train)], everything[torch.as_tensor(test)], tuple(str(c) for c in data.target_names)
    )
