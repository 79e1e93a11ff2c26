"""Corrupted test images: the published files of CIFAR-10-C (Hendrycks & Dietterich 2019), as another test split.

https://arxiv.org/abs/1903.12261. `dataset.test=cifar10_c/fog/3` is one corruption at one of the severities 1 to 5,
`cifar10_c/fog` all five of them, and `cifar10_c` all of the 15 corruptions whose mean is published.
"""

import hashlib
import zlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from cnnzoo.data.images import Images
from cnnzoo.data.sources import Source
from cnnzoo.errors import UserError, nearest

NAME = "cifar10_c"
FOLDER = "CIFAR-10-C"
SEVERITIES = 5
# The 15 of the paper's mean: noise, blur, weather, digital.
CORRUPTIONS = (
    *("gaussian_noise", "shot_noise", "impulse_noise"),
    *("defocus_blur", "glass_blur", "motion_blur", "zoom_blur"),
    *("snow", "frost", "fog", "brightness"),
    *("contrast", "elastic_transform", "pixelate", "jpeg_compression"),
)
_EXTRA = ("speckle_noise", "gaussian_blur", "spatter", "saturate")  # to choose settings by, not in the mean

# MD5 of the files of the archive, whose own one is 56bf5dcef84df0e2308c6dcbcbbd8499.
_MD5 = {
    "brightness": "0a81ef75e0b523c3383219c330a85d48",
    "contrast": "3c8262171c51307f916c30a3308235a8",
    "defocus_blur": "7d1322666342a0702b1957e92f6254bc",
    "elastic_transform": "9421657c6cd452429cf6ce96cc412b5f",
    "fog": "7b397314b5670f825465fbcd1f6e9ccd",
    "frost": "31f6ab3bce1d9934abfb0cc13656f141",
    "gaussian_blur": "c33370155bc9b055fb4a89113d3c559d",
    "gaussian_noise": "ecaf8b9a2399ffeda7680934c33405fd",
    "glass_blur": "7361fb4019269e02dbf6925f083e8629",
    "impulse_noise": "2090e01c83519ec51427e65116af6b1a",
    "jpeg_compression": "2b9cc4c864e0193bb64db8d7728f8187",
    "labels": "c439b113295ed5254878798ffe28fd54",
    "motion_blur": "fffa5f852ff7ad299cfe8a7643f090f4",
    "pixelate": "0f14f7e2db14288304e1de10df16832f",
    "saturate": "1cfae0964219c5102abbb883e538cc56",
    "shot_noise": "3a7239bb118894f013d9bf1984be7f11",
    "snow": "bb238de8555123da9c282dea23bd6e55",
    "spatter": "8a5a3903a7f8f65b59501a6093b4311e",
    "speckle_noise": "ef00b87611792b00df09c0b0237a1e30",
    "zoom_blur": "6ea8e63f1c5cdee1517533840641641b",
}
_WHERE = (
    f"Expected {FOLDER} in paths.data (or CNNZOO_DATA): get CIFAR-10-C.tar from https://zenodo.org/records/2535967"
    " (MD5 56bf5dcef84df0e2308c6dcbcbbd8499) and unpack it there."
)


def parse(test: str) -> tuple[str | None, int | None]:
    """Return the corruption and the severity that `dataset.test` names; None for all of them.

    Raises:
        UserError: there is no such test set.
    """
    name, *parts = test.split("/")
    corruption, severity = (*parts, None, None)[:2]
    expected = f"{NAME}, {NAME}/CORRUPTION, or {NAME}/CORRUPTION/SEVERITY with a severity of 1 to {SEVERITIES}"
    if name != NAME or len(parts) > 2:
        raise UserError(f"dataset.test={test}: expected {expected}.{nearest(name, [NAME])}")
    known = (*CORRUPTIONS, *_EXTRA)
    if corruption is not None and corruption not in known:
        raise UserError(
            f"dataset.test={test}: no such corruption.{nearest(corruption, known)} There are {', '.join(known)}."
        )
    if severity is not None and severity not in map(str, range(1, SEVERITIES + 1)):
        raise UserError(f"dataset.test={test}: expected {expected}.")
    return corruption, None if severity is None else int(severity)


def with_corrupted_test(source: Source, test: str, folder: Path) -> Source:
    """Return a source with the test images that `test` names in the place of its own.

    Raises:
        UserError: `test` names none, or all corruptions together; or as `read_corrupted`.
    """
    corruption, severity = parse(test)
    if corruption is None:
        raise UserError(
            f"dataset.test={test} stands for {len(CORRUPTIONS)} test sets, which only evaluate takes: train without it,"
            f" then python -m cnnzoo.evaluate weights=RUN dataset.test={test}. A run takes one of them, such as"
            f" {NAME}/fog."
        )
    images = read_corrupted(folder, corruption, source.test.labels.numpy(), severity)
    crc = zlib.crc32(images.images.numpy().data)
    return replace(source, test=images, digest=source.digest and f"{source.digest} {test} {crc:08x}")


def read_corrupted(
    folder: Path, corruption: str, clean_labels: NDArray[np.int64], severity: int | None = None
) -> Images:
    """Read the images of one corruption, `[N, 3, 32, 32]`: at one severity, or at all of them, the lowest first.

    Args:
        folder: where the folder `CIFAR-10-C` lies.
        clean_labels: of the test images that were corrupted, `[N]`.

    Raises:
        UserError: a file is missing or damaged, or the test images are not those that were corrupted.
    """
    labels, images = (_read(folder / FOLDER / f"{name}.npy") for name in ("labels", corruption))
    count = SEVERITIES * len(clean_labels)
    if labels.shape != (count,) or not np.array_equal(labels, np.tile(clean_labels, SEVERITIES)):
        raise UserError(
            f"{folder / FOLDER}: its {len(labels)} labels are not those of this data set's {len(clean_labels)} test"
            f" images, once for each of {SEVERITIES} severities. dataset.test={NAME} goes with dataset=cifar10."
        )
    if images.dtype != np.uint8 or images.shape != (count, 32, 32, 3):
        raise UserError(
            f"{folder / FOLDER / corruption}.npy holds {images.dtype} {[*images.shape]}; expected uint8"
            f" {[count, 32, 32, 3]}: it is damaged. {_WHERE}"
        )
    for name in ("labels", corruption):
        path = folder / FOLDER / f"{name}.npy"
        with path.open("rb") as file:
            if hashlib.file_digest(file, "md5").hexdigest() != _MD5[name]:
                raise UserError(f"{path} differs from the published file (MD5): it is damaged. {_WHERE}")
    part = slice(None) if severity is None else slice((severity - 1) * len(clean_labels), severity * len(clean_labels))
    pixels = torch.from_numpy(np.ascontiguousarray(images[part].transpose(0, 3, 1, 2)))
    return Images(pixels, torch.from_numpy(labels[part].astype(np.int64)))


def _read(path: Path) -> NDArray[np.generic]:
    """An array that stays on disk."""
    try:
        array: NDArray[np.generic] = np.load(path, mmap_mode="r", allow_pickle=False)
    except FileNotFoundError:
        raise UserError(f"{path}: there is no such file. {_WHERE}") from None
    except (OSError, ValueError, EOFError) as error:
        raise UserError(f"{path} cannot be read ({error}): it is damaged. {_WHERE}") from error
    return array
