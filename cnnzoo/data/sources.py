"""Where images come from: a source is a function that returns a `Source`, made from one kind of files.

A data set of your own is a function like these, annotated `-> Source`, and a YAML whose `dataset.source._target_` names
it. Of its parameters, those called `root`, `cache`, `image_size`, `channels`, `val_size` or `split_seed` get the values
of the section `dataset`.
"""

import hashlib
import logging
from collections.abc import Mapping
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
    """A data set as its authors split it; without a validation split, that is taken from `train` later.

    digest: differs if any image or label does. Without one, a check sum of the images is made.
    """

    train: Split
    test: Split
    classes: tuple[str, ...]
    val: Split | None = None
    digest: str | None = None


# Training and test images of the original releases.
_SIZES = {
    "CIFAR10": (50_000, 10_000),
    "CIFAR100": (50_000, 10_000),
    "MNIST": (60_000, 10_000),
    "FashionMNIST": (60_000, 10_000),
    "SVHN": (73_257, 26_032),
}

# SHA-256 of the extracted files, which torchvision does not verify.
_IDX_FILES = {
    "MNIST": {
        "train-images-idx3-ubyte": "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
        "train-labels-idx1-ubyte": "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
        "t10k-images-idx3-ubyte": "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
        "t10k-labels-idx1-ubyte": "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
    },
    "FashionMNIST": {
        "train-images-idx3-ubyte": "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
        "train-labels-idx1-ubyte": "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
        "t10k-images-idx3-ubyte": "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
        "t10k-labels-idx1-ubyte": "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
    },
}


def torchvision_set(
    name: Literal["CIFAR10", "CIFAR100", "MNIST", "FashionMNIST", "SVHN"], root: str, download: bool = True
) -> Source:
    """A data set of `torchvision.datasets`, from the folder `root`, downloaded to there when missing.

    Raises:
        UserError: it is missing or damaged, and cannot be downloaded.
    """
    if name in _IDX_FILES:
        _verify_idx_files(name, Path(root).resolve() / name)
    train, test = (_torchvision_split(name, root, split, download) for split in ("train", "test"))
    for split, data, expected in zip(("training", "test"), (train, test), _SIZES[name], strict=True):
        if len(data) != expected:
            raise UserError(
                f"{name} in {Path(root).resolve()} has {len(data)} {split} images instead of {expected}: it is damaged."
                " Delete its folder there to have it downloaded again."
            )
    classes = getattr(train, "classes", None) or [str(digit) for digit in range(10)]  # SVHN has no list of its own
    return Source(_images(train), _images(test), tuple(classes), digest=name)  # its files are verified


def _verify_idx_files(name: str, folder: Path) -> None:
    """Refuse files of MNIST or Fashion-MNIST that are not the published ones; those that are missing are downloaded."""
    if (folder / "processed").is_dir():
        raise UserError(
            f"{folder / 'processed'}: torchvision would read these files of its early versions, which have no checksum,"
            " instead of those in raw. Delete the folder."
        )
    if damaged := _damaged(folder / "raw", _IDX_FILES[name]):
        raise UserError(
            f"{name} is damaged: {', '.join(damaged)} in {folder / 'raw'} differs from the published file (SHA-256)."
            " Delete it to have it downloaded again, or copy it anew."
        )


def _damaged(folder: Path, checksums: Mapping[str, str]) -> list[str]:
    """The names of those files in `folder` that exist with another MD5 or SHA-256 than the one given."""

    def digest(path: Path, algorithm: str) -> str:
        try:
            with path.open("rb") as file:
                return hashlib.file_digest(file, algorithm).hexdigest()
        except OSError as error:
            raise UserError(f"{path} cannot be read ({error.strerror}): make it readable.") from error

    files = {folder / name: checksum for name, checksum in checksums.items()}
    return [
        path.name
        for path, checksum in files.items()
        if path.exists() and digest(path, "md5" if len(checksum) == 32 else "sha256") != checksum
    ]


def _checksums(dataset: Any) -> dict[str, str]:
    """torchvision's own checksums of the files of CIFAR or SVHN, by their paths."""
    if hasattr(dataset, "base_folder"):
        files = [*dataset.train_list, *dataset.test_list, (dataset.meta["filename"], dataset.meta["md5"])]
        return {f"{dataset.base_folder}/{name}": md5 for name, md5 in files}
    return {name: md5 for _, name, md5 in map(dataset.split_list.get, ("train", "test"))}


def _torchvision_split(name: str, root: str, split: str, download: bool) -> Any:
    """torchvision's data set object for "train" or "test"."""
    import torchvision.datasets  # slow to import, and not needed by other sources

    cls = getattr(torchvision.datasets, name)
    kwargs: dict[str, Any] = {"split": split} if name == "SVHN" else {"train": split == "train"}
    where = Path(root).resolve()
    try:
        try:
            return cls(root, download=False, **kwargs)
        except RuntimeError:  # what torchvision raises if it is not there or a checksum is wrong
            if not download:
                raise
            log.info("%s is missing or damaged in %s: downloading it", name, where)
            return cls(root, download=True, **kwargs)
    except Exception as error:
        reason = f"{type(error).__name__}: {error}".strip().rstrip(".").split("\n")[0]
        damaged = [] if name in _IDX_FILES else _damaged(where, _checksums(cls))
        files = f" (damaged: {', '.join(damaged)})" if damaged else ""
        tried = f", and downloading it failed ({reason})" if download else ""
        raise UserError(
            f"{name} is missing or damaged in {where}{files}{tried}."
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
