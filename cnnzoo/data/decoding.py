"""Images of any format and size, decoded once into a file of uint8 pixels, and divided into splits."""

import errno
import glob
import hashlib
import json
import logging
import math
import os
import shutil
import stat
import time
import zlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from torch import Tensor

from cnnzoo.console import console
from cnnzoo.data import memory
from cnnzoo.data.images import PixelFile, StreamedImages
from cnnzoo.data.sources import Source
from cnnzoo.data.splits import stratified_split
from cnnzoo.errors import UserError
from cnnzoo.io import atomic_path, exclusive_lock

log = logging.getLogger(__name__)

_CHUNK_BYTES = 2**26  # of decoded images in memory

Encoded = str | os.PathLike[str] | bytes | Image.Image  # a file, its contents, or what PIL has made of it


class EncodedImages(Protocol):
    """Images by their numbers, from 0; a list of files, for example."""

    def __len__(self) -> int: ...
    def __getitem__(self, index: int, /) -> Encoded: ...


@dataclass(frozen=True)
class Decoded:
    """`pixels` `[N, C, S, S] uint8`, black where an image could not be read.

    failures: why not, by the image's index.
    crc: CRC-32 of the pixels.
    """

    pixels: PixelFile | Tensor
    failures: dict[int, str]
    crc: int


def decode_once(
    images: EncodedImages, name: str, identity: bytes, state: object, image_size: int, channels: int, cache: Path
) -> Decoded:
    """All images from the cache, else decoded into it, or into memory where there is no room for it.

    Args:
        name: for messages and the file's name.
        identity: of the images: what differs for any others that are kept in the same folder.
        state: of them, for JSON: what differs once they have changed, so that they are decoded again.
        cache: the folder in whose `.cache` the file lies.

    Raises:
        UserError: there is room neither on disk nor in memory.
    """
    listing = hashlib.sha256(json.dumps(state).encode()).hexdigest()
    # One cache file for a data set and its settings: when the images change, it is replaced.
    digest = hashlib.sha256(identity).hexdigest()[:10]
    kept = cache.absolute() / ".cache" / f"{name}-{channels}x{image_size}-{digest}.npy"
    shape = (len(images), channels, image_size, image_size)
    try:
        if cached := _read_cache(kept, listing):
            return cached
        with exclusive_lock(kept.with_suffix(".lock")):  # the jobs of a sweep wait until the first one has decoded
            if cached := _read_cache(kept, listing):
                return cached
            start = time.perf_counter()
            written = _write_cache(kept, listing, images, shape)
            log.info("%s: %d images decoded in %.1f s", name, len(images), time.perf_counter() - start)
            return written
    except OSError as error:
        if not memory.has_room(size := math.prod(shape)):
            raise UserError(
                f"{len(images):,} images of {channels}×{image_size}×{image_size} take {size / 1e9:.1f} GB: more than"
                f" half of the free memory, and {kept.parent} cannot take them either ({error.strerror}). Point"
                " paths.data (or the environment variable CNNZOO_DATA) at a folder with room, or lower"
                f" dataset.image_size={image_size} (half of it takes a quarter)."
            ) from error
        log.warning("%s cannot be kept (%s): the images will be decoded again next time", kept, error.strerror)
    failures: dict[int, str] = {}
    pixels = np.concatenate([*_decode_all(images, shape, failures)])
    return Decoded(torch.from_numpy(pixels), failures, zlib.crc32(pixels.data))


def _read_cache(kept: Path, listing: str) -> Decoded | None:
    """What `_write_cache` kept, or None where it is missing, damaged or of other images."""
    try:
        pixels = PixelFile(kept)
        trailer = json.loads(pixels.trailer())
        if trailer["listing"] != listing:
            return None
        # What fits in memory is read at every start anyway; a larger file is not read only to be checked.
        if memory.has_room(pixels.nbytes) and pixels.crc() != trailer["crc"]:
            raise ValueError("wrong checksum")
        failures = {int(index): reason for index, reason in trailer["failures"].items()}
        return Decoded(pixels, failures, trailer["crc"])
    except FileNotFoundError:
        return None
    except (UserError, ValueError, KeyError, TypeError, AttributeError) as error:
        log.warning("%s is damaged (%s): decoding again", kept, error)
        kept.unlink()
        return None


def _write_cache(kept: Path, listing: str, images: EncodedImages, shape: tuple[int, ...]) -> Decoded:
    """Decode into a `.npy` file with a trailer behind its array, which holds what `_read_cache` checks.

    Raises:
        OSError: it cannot be written.
    """
    for leftover in kept.parent.glob(f".{glob.escape(kept.name)}.*"):
        leftover.unlink()  # of a process that was killed: whoever decodes holds the lock
    free, size = shutil.disk_usage(kept.parent).free, math.prod(shape)
    if size > free:
        raise OSError(errno.ENOSPC, f"{free / 1e9:.1f} GB of disk are free")
    failures: dict[int, str] = {}
    crc = 0
    with atomic_path(kept) as temporary, temporary.open("wb") as file:
        header = {"descr": "|u1", "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(file, header)
        for chunk in _decode_all(images, shape, failures):
            file.write(chunk.data)
            crc = zlib.crc32(chunk.data, crc)
        file.write(json.dumps({"listing": listing, "crc": crc, "failures": failures}).encode())
    return Decoded(PixelFile(kept), failures, crc)


def _decode_all(images: EncodedImages, shape: tuple[int, ...], failures: dict[int, str]) -> Iterator[NDArray[np.uint8]]:
    """Yield all images in chunks `[n, C, S, S]`, black where one cannot be read, with the reason in `failures`."""
    count, channels, image_size, _ = shape
    step = max(1, _CHUNK_BYTES // math.prod(shape[1:]))

    def decode_into(pixels: NDArray[np.uint8], index: int) -> str | None:
        try:
            # Fetched here, so that no more of them are in memory than there are threads.
            pixels[:] = decode(images[index], image_size, channels)
        except Exception as error:  # a damaged file can make a decoder raise anything
            return decoding_failure(error)
        return None

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    # Threads suffice, because PIL's decoders and resizing release the interpreter's lock.
    with Progress(*columns, console=console, transient=True) as progress, ThreadPoolExecutor() as pool:
        task = progress.add_task("decoding images", total=count)
        try:
            for start in range(0, count, step):
                chunk = range(start, min(start + step, count))
                pixels = np.zeros((len(chunk), *shape[1:]), dtype=np.uint8)
                for index, reason in zip(chunk, pool.map(decode_into, pixels, chunk), strict=True):
                    progress.advance(task)
                    if reason is not None:
                        failures[index] = reason
                yield pixels
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def decoding_failure(error: Exception) -> str:
    """Say in words why `decode` failed."""
    if isinstance(error, UnidentifiedImageError):
        return "not in a format that PIL reads"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return f"{type(error).__name__}: {error}"


def decode(encoded: Encoded, image_size: int, channels: int) -> NDArray[np.uint8]:
    """Read one image as `[C, S, S]`: upright, the largest central square, scaled bilinearly with antialiasing.

    Colour becomes grey, or grey colour, as PIL converts them; transparency is dropped. JPEGs much larger than
    `image_size` are decoded at the smallest of the format's own scales (1/2, 1/4, 1/8) that leaves twice the size.

    Raises:
        Exception: whatever PIL raises where it cannot read the image.
    """
    if isinstance(encoded, Image.Image):
        image = ImageOps.exif_transpose(encoded)
    else:
        if not isinstance(encoded, bytes) and not stat.S_ISREG(Path(encoded).stat().st_mode):
            raise ValueError("not a regular file")  # a pipe or device, which might never end
        with Image.open(BytesIO(encoded) if isinstance(encoded, bytes) else encoded) as opened:
            opened.draft(None, (2 * image_size, 2 * image_size))
            image = ImageOps.exif_transpose(opened)
    if image.mode.startswith("I"):  # 16 bits, which PIL would cut off at 255
        image = Image.fromarray(np.rint(np.asarray(image, dtype=np.float64) / 257).clip(0, 255).astype(np.uint8))
    elif image.mode == "F":
        raise ValueError("floating-point pixels, whose range is not known")
    elif image.mode == "P":
        image = image.convert("RGBA")  # a palette's transparency would raise a warning otherwise
    image = image.convert("RGB" if channels == 3 else "L")
    square = ImageOps.fit(image, (image_size, image_size), Image.Resampling.BILINEAR)
    return np.asarray(square).reshape(image_size, image_size, channels).transpose(2, 0, 1)


def divide(
    decoded: Decoded,
    splits: Sequence[str],
    labels: Sequence[int],
    classes: Sequence[str],
    *,
    name: str,
    image_name: Callable[[int], str],
    contents: Any,
    test_size: float,
    val_size: float,
    split_seed: int,
    unreadable: str,
) -> Source:
    """Make a data set of decoded images, each with its split, "train", "val" or "test", and its label.

    Args:
        image_name: of the image with this index, for messages.
        contents: what besides the pixels makes the data set, for JSON; part of its digest.
        test_size, val_size, split_seed: of what is drawn from train, class by class, where there is no such split.
        unreadable: "refuse" or "skip" images that could not be decoded.

    Raises:
        UserError: images are unreadable, or a class is too small.
    """
    if decoded.failures:
        _report_unreadable(decoded, len(labels), image_name, unreadable)
    readable = np.array([index not in decoded.failures for index in range(len(labels))])
    places, targets = np.array(splits), np.array(labels)
    train, val, test = (np.flatnonzero(readable & (places == split)) for split in ("train", "val", "test"))
    generator = torch.Generator().manual_seed(split_seed)
    if not len(test):
        train, test = stratified_split(train, targets, classes, test_size, "dataset.source.test_size", generator)
    if not len(val) and val_size:
        train, val = stratified_split(train, targets, classes, val_size, "dataset.val_size", generator)
    sizes = f"{len(train)} training, {len(val)} validation and {len(test)} test images"
    log.info("%s: %d classes, %s", name, len(classes), sizes)

    def images(index: NDArray[np.int64]) -> StreamedImages:
        return StreamedImages(decoded.pixels, torch.from_numpy(index), torch.from_numpy(targets[index]))

    digest = hashlib.sha256(json.dumps([decoded.crc, sorted(decoded.failures), contents]).encode()).hexdigest()
    return Source(images(train), images(test), tuple(classes), val=images(val), digest=digest)


def _report_unreadable(decoded: Decoded, total: int, image_name: Callable[[int], str], unreadable: str) -> None:
    """List the images that cannot be read, as an error unless they are to be skipped."""
    failures = decoded.failures
    shown = [f"  {image_name(index)}: {reason.splitlines()[0]}" for index, reason in [*failures.items()][:5]]
    if len(failures) > len(shown):
        shown.append(f"  … and {len(failures) - len(shown)} more")
    listed = "\n".join(shown)
    text = f"{len(failures)} of {total} files cannot be read as images"
    if unreadable == "refuse":
        raise UserError(f"{text}; repair or remove them, or skip them: dataset.source.unreadable=skip\n{listed}")
    log.warning("%s and are skipped:\n%s", text, listed)
