"""A folder of the user's own images, one sub-folder a class, as uint8 tensors; decoded once and kept."""

import contextlib
import fcntl
import hashlib
import json
import logging
import os
import time
import zipfile
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
from cnnzoo.data.sources import Images, Source, image_count
from cnnzoo.errors import UserError

log = logging.getLogger(__name__)


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
        UserError: a class is empty or too small, files are `unreadable`, or the images do not fit into memory.
    """
    folder = Path(root)
    classes = [entry.name for entry in class_folders(folder)]
    files = _listing(folder, classes)
    _check_memory(len(files), channels, image_size)
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

    def images(index: NDArray[np.int64]) -> Images:
        return Images(torch.from_numpy(pixels[index]), torch.from_numpy(labels[index]))

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
) -> tuple[NDArray[np.uint8], dict[int, str]]:
    """All images, `[N, C, S, S]`, decoded or from the cache; for those that cannot be read, why."""
    facts = [(str(file.path), (stat := file.path.stat()).st_size, stat.st_mtime_ns) for file in files]
    listing = hashlib.sha256(json.dumps(facts).encode()).hexdigest()
    place = hashlib.sha256(str(root).encode()).hexdigest()[:10]
    # One file for a folder and its settings: a folder that changes replaces it.
    kept = cache.absolute() / ".cache" / f"{root.name}-{channels}x{image_size}-{place}.npz"
    with _alone(kept.with_suffix(".lock")):  # the jobs of a sweep wait for the first one's decoding
        found = _read(kept, listing)
        if found is not None:
            return found
        start = time.perf_counter()
        decoded = _decode_all([file.path for file in files], image_size, channels)
        log.info("%s: %d images decoded in %.1f s", root, len(files), time.perf_counter() - start)
        _write(kept, listing, *decoded)
    return decoded


@contextlib.contextmanager
def _alone(lock: Path) -> Iterator[None]:
    with contextlib.ExitStack() as stack:
        with contextlib.suppress(OSError):  # where nothing can be written nothing is shared
            lock.parent.mkdir(parents=True, exist_ok=True)
            fcntl.flock(stack.enter_context(lock.open("a")), fcntl.LOCK_EX)
        yield


def _read(kept: Path, listing: str) -> tuple[NDArray[np.uint8], dict[int, str]] | None:
    """What `_write` kept, or None where it is missing, damaged (each array has a checksum) or of another listing."""
    try:
        with np.load(kept) as arrays:
            if arrays["listing"] != listing:
                return None
            return arrays["pixels"], dict(zip(arrays["failed"].tolist(), arrays["reasons"].tolist(), strict=True))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error, NotImplementedError) as error:
        log.warning("%s is damaged (%s): decoding again", kept, error)
        return None


def _write(kept: Path, listing: str, pixels: NDArray[np.uint8], failures: dict[int, str]) -> None:
    beside = kept.with_suffix(f".{os.getpid()}.npz")
    failed, reasons = np.array([*failures], dtype=np.int64), np.array([*failures.values()], dtype=np.str_)
    try:
        np.savez(beside, listing=listing, pixels=pixels, failed=failed, reasons=reasons)
        beside.replace(kept)
    except OSError as error:
        log.warning("%s cannot be written (%s): the images will be decoded anew next time", kept, error.strerror)
    finally:
        with contextlib.suppress(OSError):
            beside.unlink(missing_ok=True)


def _check_memory(count: int, channels: int, image_size: int) -> None:
    needed, free = 2 * count * channels * image_size**2, _free_memory()
    if free is not None and needed > free:
        raise UserError(
            f"{count:,} images of {channels}×{image_size}×{image_size} take {needed / 2e9:.1f} GB, and twice that while"
            f" they are split, but {free / 1e9:.1f} GB of memory are free. Lower dataset.image_size={image_size} (half"
            f" of it takes a quarter), {'set dataset.channels=1, ' if channels == 3 else ''}or take fewer images."
        )


def _free_memory() -> int | None:
    """Bytes that this process may still take; None where the system does not say."""
    limits = []
    with contextlib.suppress(OSError, StopIteration):
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        limits.append(1024 * int(next(line for line in lines if line.startswith("MemAvailable")).split()[1]))
    with contextlib.suppress(OSError, ValueError):  # a container's limit; "max" where there is none
        limits.append(int(Path("/sys/fs/cgroup/memory.max").read_text(encoding="ascii")))
    return min(limits, default=None)


def _decode_all(paths: Sequence[Path], image_size: int, channels: int) -> tuple[NDArray[np.uint8], dict[int, str]]:
    pixels = np.zeros((len(paths), channels, image_size, image_size), dtype=np.uint8)

    def work(index: int) -> str | None:
        try:
            pixels[index] = decode(paths[index], image_size, channels)
        except UnidentifiedImageError:
            return "in no format that PIL knows"
        except Exception as error:  # a damaged file can make a decoder raise anything
            return f"{type(error).__name__}: {error}"
        return None

    failures: dict[int, str] = {}
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    # PIL's decoders and resizing let go of the interpreter's lock, so threads are enough.
    with Progress(*columns, console=console, transient=True) as progress, ThreadPoolExecutor() as pool:
        task = progress.add_task("decoding images", total=len(paths))
        try:
            for index, reason in enumerate(pool.map(work, range(len(paths)))):
                progress.advance(task)
                if reason is not None:
                    failures[index] = reason
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    return pixels, failures


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
