"""A folder of the user's own images, one sub-folder a class; decoded once into a file of uint8."""

import contextlib
import errno
import fcntl
import hashlib
import json
import logging
import math
import os
import shutil
import time
import zlib
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from torch import Tensor

from cnnzoo.config.folders import class_folders, part_folders, subfolders
from cnnzoo.console import console
from cnnzoo.data import memory
from cnnzoo.data.images import PixelFile, StreamedImages
from cnnzoo.data.sources import Source, image_count
from cnnzoo.errors import UserError

log = logging.getLogger(__name__)

_CHUNK_BYTES = 2**26  # images that are in memory while a folder is decoded


def image_folder(
    root: str,
    image_size: int,
    channels: Literal[1, 3],
    test_size: float,
    val_size: float,
    split_seed: int,
    unreadable: Literal["refuse", "skip"],
    cache: str,
) -> Source:
    """Images under `root/<class>/` or `root/{train,val,test}/<class>/`, in sub-folders too, as `image_size` squares.

    What is missing of test and val is drawn from train with `split_seed`, class by class: `test_size` of the images,
    then `val_size` of those left, below 1 a share, else a number, 0 none. `cache` is the folder in whose `.cache` the
    decoded images are kept, until a file's name, size or time of change is another.

    Raises:
        UserError: a class is empty or too small, files are `unreadable`, or there is room for the decoded images
            neither in `cache` nor in memory.
    """
    folder = Path(root)
    classes = [entry.name for entry in class_folders(folder)]
    files = _listing(folder, classes)
    pixels, failures = _pixels(folder, files, image_size, channels, Path(cache))
    if failures:
        _judge(files, failures, unreadable)
    readable = np.array([index not in failures for index in range(len(files))])
    labels = np.array([file.label for file in files])

    def part_of(name: str) -> NDArray[np.int64]:
        return np.flatnonzero(readable & np.array([file.part == name for file in files]))

    generator = torch.Generator().manual_seed(split_seed)
    train, val, test = part_of("train"), part_of("val"), part_of("test")
    if not len(test):
        train, test = _draw(train, labels, classes, test_size, "dataset.source.test_size", generator)
    if not len(val) and val_size:
        train, val = _draw(train, labels, classes, val_size, "dataset.val_size", generator)

    def images(index: NDArray[np.int64]) -> StreamedImages:
        return StreamedImages(pixels, torch.from_numpy(index), torch.from_numpy(labels[index]))

    log.info(
        "%s: %d classes, %d training, %d validation and %d test images",
        folder, len(classes), len(train), len(val), len(test),
    )  # fmt: skip
    return Source(images(train), images(test), tuple(classes), val=images(val))


@dataclass(frozen=True)
class _File:
    path: Path
    part: str
    label: int


def _listing(root: Path, classes: Sequence[str]) -> list[_File]:
    """Every image file with its part and label, in an order that does not depend on the file system."""
    parts = part_folders(root)
    suffixes = {suffix for suffix, name in Image.registered_extensions().items() if name in Image.OPEN}
    files, others = [], 0
    for part, folder in parts.items():
        for class_folder in subfolders(folder):
            if class_folder.name not in classes:
                raise UserError(
                    f"{class_folder}: no training images of this class; {parts['train']} has {', '.join(classes[:20])}."
                )
            found = [
                Path(where, name)
                for where, _, names in os.walk(class_folder, followlinks=True)
                for name in names
                if not name.startswith(".")
            ]
            paths = sorted(path for path in found if path.suffix.lower() in suffixes)
            if not paths:
                raise UserError(f"{class_folder}: an empty class: no image files. Remove the folder, or fill it.")
            others += len(found) - len(paths)
            files += [_File(path, part, classes.index(class_folder.name)) for path in paths]
    if others:
        log.info("%s: %d files left alone that are no images by their names", root, others)
    if len(parts) > 1 or parts["train"] != root:
        ignored = [entry.name for entry in subfolders(root) if entry not in parts.values()]
        if ignored:
            log.warning("%s: %s left alone: no part with class folders", root, ", ".join(ignored))
    return files


def _pixels(
    root: Path, files: Sequence[_File], image_size: int, channels: int, cache: Path
) -> tuple[PixelFile | Tensor, dict[int, str]]:
    """All images, `[N, C, S, S]`, decoded or from the cache; for those that cannot be read, why."""
    facts = [(str(file.path), (stat := file.path.stat()).st_size, stat.st_mtime_ns) for file in files]
    listing = hashlib.sha256(json.dumps(facts).encode()).hexdigest()
    place = hashlib.sha256(str(root).encode()).hexdigest()[:10]
    # One file for a folder and its settings: a folder that changes replaces it.
    kept = cache.absolute() / ".cache" / f"{root.name}-{channels}x{image_size}-{place}.npy"
    shape = (len(files), channels, image_size, image_size)
    paths = [file.path for file in files]
    try:
        if found := _read(kept, listing):
            return found
        with _alone(kept.with_suffix(".lock")):  # the jobs of a sweep wait for the first one's decoding
            if found := _read(kept, listing):
                return found
            start = time.perf_counter()
            found = _write(kept, listing, paths, shape)
            log.info("%s: %d images decoded in %.1f s", root, len(files), time.perf_counter() - start)
            return found
    except OSError as error:
        if not memory.has_room(size := math.prod(shape)):
            raise UserError(
                f"{len(files):,} images of {channels}×{image_size}×{image_size} take {size / 1e9:.1f} GB: more than"
                f" half of the free memory, and {kept.parent} cannot take them either ({error.strerror}). Point"
                " paths.data (or the environment variable CNNZOO_DATA) at a folder with room, or lower"
                f" dataset.image_size={image_size} (half of it takes a quarter)."
            ) from error
        log.warning("%s cannot be kept (%s): the images will be decoded anew next time", kept, error.strerror)
    failures: dict[int, str] = {}
    return torch.from_numpy(np.concatenate([*_decoded(paths, shape, failures)])), failures


@contextlib.contextmanager
def _alone(lock: Path) -> Iterator[None]:
    lock.parent.mkdir(parents=True, exist_ok=True)
    with lock.open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _read(kept: Path, listing: str) -> tuple[PixelFile, dict[int, str]] | None:
    """What `_write` kept, or None where it is missing, damaged or of another listing."""
    try:
        pixels = PixelFile(kept)
        facts = json.loads(pixels.after())
        if facts["listing"] != listing:
            return None
        # What is small enough for memory is read at every start anyway; the rest is trusted to be as it was written.
        if memory.has_room(pixels.nbytes) and pixels.crc() != facts["crc"]:
            raise ValueError("its checksum is another")
        return pixels, {int(index): reason for index, reason in facts["failures"].items()}
    except FileNotFoundError:
        return None
    except (UserError, ValueError, KeyError, TypeError, AttributeError) as error:
        log.warning("%s is damaged (%s): decoding again", kept, error)
        kept.unlink()
        return None


def _write(kept: Path, listing: str, paths: Sequence[Path], shape: tuple[int, ...]) -> tuple[PixelFile, dict[int, str]]:
    """Decodes into a `.npy` file, behind whose array stands what `_read` checks. Only a whole one gets its name.

    Raises:
        OSError: it cannot be written.
    """
    free, size = shutil.disk_usage(kept.parent).free, math.prod(shape)
    if size > free:
        raise OSError(errno.ENOSPC, f"{free / 1e9:.1f} GB of disk are free")
    failures: dict[int, str] = {}
    beside, crc = kept.with_suffix(".partial"), 0
    try:
        with beside.open("wb") as file:
            header = {"descr": "|u1", "fortran_order": False, "shape": shape}
            np.lib.format.write_array_header_1_0(file, header)
            for chunk in _decoded(paths, shape, failures):
                file.write(chunk.data)
                crc = zlib.crc32(chunk.data, crc)
            file.write(json.dumps({"listing": listing, "crc": crc, "failures": failures}).encode())
            file.flush()
            os.fsync(file.fileno())
        beside.replace(kept)
    finally:
        beside.unlink(missing_ok=True)
    return PixelFile(kept), failures


def _decoded(paths: Sequence[Path], shape: tuple[int, ...], failures: dict[int, str]) -> Iterator[NDArray[np.uint8]]:
    """All images in chunks `[n, C, S, S]`, black where a file cannot be read; `failures` then says why."""
    _, channels, image_size, _ = shape
    step = max(1, _CHUNK_BYTES // math.prod(shape[1:]))

    def work(path: Path, pixels: NDArray[np.uint8]) -> str | None:
        try:
            pixels[:] = decode(path, image_size, channels)
        except UnidentifiedImageError:
            return "in no format that PIL knows"
        except Exception as error:  # a damaged file can make a decoder raise anything
            return f"{type(error).__name__}: {error}"
        return None

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    # PIL's decoders and resizing let go of the interpreter's lock, so threads are enough.
    with Progress(*columns, console=console, transient=True) as progress, ThreadPoolExecutor() as pool:
        task = progress.add_task("decoding images", total=len(paths))
        try:
            for start in range(0, len(paths), step):
                chunk = paths[start : start + step]
                pixels = np.zeros((len(chunk), *shape[1:]), dtype=np.uint8)
                for index, reason in enumerate(pool.map(work, chunk, pixels), start):
                    progress.advance(task)
                    if reason is not None:
                        failures[index] = reason
                yield pixels
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def decode(path: Path, image_size: int, channels: int) -> NDArray[np.uint8]:
    """One image file as `[C, S, S]`: upright, the largest central square, scaled bilinearly with antialiasing.

    Colours become grey, or grey colour, as PIL converts them; transparency is dropped. JPEGs much larger than
    `image_size` are decoded at the smallest of the format's own scales (1/2, 1/4, 1/8) that leaves twice the size.

    Raises:
        Exception: whatever PIL raises for what it cannot read.
    """
    with Image.open(path) as opened:
        opened.draft(None, (2 * image_size, 2 * image_size))
        image = ImageOps.exif_transpose(opened)
    if image.mode.startswith("I"):  # 16 bits, which PIL would cut off at 255
        image = Image.fromarray(np.rint(np.asarray(image, dtype=np.float64) / 257).clip(0, 255).astype(np.uint8))
    elif image.mode == "F":
        raise ValueError("pixels in floating point, whose range nobody knows")
    elif image.mode == "P":
        image = image.convert("RGBA")  # a palette's transparency would raise a warning otherwise
    image = image.convert("RGB" if channels == 3 else "L")
    square = ImageOps.fit(image, (image_size, image_size), Image.Resampling.BILINEAR)
    return np.asarray(square).reshape(image_size, image_size, channels).transpose(2, 0, 1)


def _judge(files: Sequence[_File], failures: dict[int, str], unreadable: str) -> None:
    """Says which files cannot be read, and stops unless they are to be skipped."""
    shown = [f"  {files[index].path}: {reason.splitlines()[0]}" for index, reason in [*failures.items()][:5]]
    if len(failures) > len(shown):
        shown.append(f"  … and {len(failures) - len(shown)} more")
    listed = "\n".join(shown)
    text = f"{len(failures)} of {len(files)} files cannot be read as images"
    if unreadable == "refuse":
        raise UserError(f"{text}; mend or remove them, or go without them: dataset.source.unreadable=skip\n{listed}")
    log.warning("%s and are skipped:\n%s", text, listed)


def _draw(
    index: NDArray[np.int64],
    labels: NDArray[np.int64],
    classes: Sequence[str],
    size: float,
    key: str,
    generator: torch.Generator,
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Divides `index` into what stays and what is drawn: of each class its share, and at least one image on each side.

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
            " one for training and one for each part that is drawn from the training images."
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
        places = np.flatnonzero(labels[index] == label)
        drawn[places[_permutation(len(places), generator)[:count]]] = True
    return index[~drawn], index[drawn]


def _permutation(count: int, generator: torch.Generator) -> NDArray[np.int64]:
    order: Tensor = torch.randperm(count, generator=generator)
    return order.numpy()
