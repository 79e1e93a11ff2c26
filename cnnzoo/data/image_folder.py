"""A folder of the user's own images, one sub-folder a class; decoded once into a file of uint8 pixels."""

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
from collections.abc import Collection, Iterator, Sequence
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

from cnnzoo.config.folder_layout import class_folders, split_folders, subfolders
from cnnzoo.console import console
from cnnzoo.data import memory
from cnnzoo.data.images import PixelFile, StreamedImages
from cnnzoo.data.sources import Source
from cnnzoo.data.splits import stratified_split
from cnnzoo.errors import UserError
from cnnzoo.io import atomic_path, exclusive_lock

log = logging.getLogger(__name__)

_CHUNK_BYTES = 2**26  # of images in memory while a folder is decoded


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

    An image that several links lead to is there once.

    Args:
        image_size, channels: of the decoded images.
        test_size, val_size: what is drawn from train, class by class, where there is no folder for that split: first
            `test_size` of the images, then `val_size` of the rest; below 1 a share, else a number, 0 none.
        split_seed: of these draws.
        unreadable: what to do about files that cannot be decoded.
        cache: the folder in whose `.cache` the decoded images are kept, until a file's name, size or time of change
            differs.

    Raises:
        UserError: a class is empty or too small, files are unreadable or in two classes or splits, or there is room for
            the decoded images neither in `cache` nor in memory.
    """
    folder = Path(root)
    classes = [entry.name for entry in class_folders(folder)]
    files = _list_images(folder, classes)
    pixels, failures, crc = _load_pixels(folder, files, image_size, channels, Path(cache))
    if failures:
        _report_unreadable(files, failures, unreadable)
    readable = np.array([index not in failures for index in range(len(files))])
    splits, labels = (np.array([getattr(file, name) for file in files]) for name in ("split", "label"))
    train, val, test = (np.flatnonzero(readable & (splits == name)) for name in ("train", "val", "test"))
    generator = torch.Generator().manual_seed(split_seed)
    if not len(test):
        train, test = stratified_split(train, labels, classes, test_size, "dataset.source.test_size", generator)
    if not len(val) and val_size:
        train, val = stratified_split(train, labels, classes, val_size, "dataset.val_size", generator)
    sizes = f"{len(train)} training, {len(val)} validation and {len(test)} test images"
    log.info("%s: %d classes, %s", folder, len(classes), sizes)

    def images(index: NDArray[np.int64]) -> StreamedImages:
        return StreamedImages(pixels, torch.from_numpy(index), torch.from_numpy(labels[index]))

    # Not the times of change, which a copy of the folder does not have.
    names = [(str(file.path.relative_to(folder)), file.split, file.label) for file in files]
    digest = hashlib.sha256(json.dumps([crc, sorted(failures), names]).encode()).hexdigest()
    return Source(images(train), images(test), tuple(classes), val=images(val), digest=digest)


@dataclass(frozen=True)
class _File:
    path: Path
    split: str
    label: int
    stat: os.stat_result | None  # None: a link to nothing, which decoding reports

    @property
    def state(self) -> tuple[str, int, int]:
        """What differs once the file has changed: path, size and time of change."""
        size_and_time = (self.stat.st_size, self.stat.st_mtime_ns) if self.stat else (-1, -1)
        return str(self.path), *size_and_time


def _list_images(root: Path, classes: Sequence[str]) -> list[_File]:
    """List every image file with its split and label, in an order that does not depend on the file system."""
    splits = split_folders(root)
    labels = {name: label for label, name in enumerate(classes)}
    folders = {folder: split for split, parent in splits.items() for folder in subfolders(parent)}
    own = {os.path.realpath(folder) for folder in (root, *splits.values(), *folders)}
    files, others = [], 0
    for folder, split in folders.items():
        if folder.name not in labels:
            raise UserError(
                f"{folder}: no training images of this class; {splits['train']} has {', '.join(classes[:20])}."
            )
        found = _files_below(folder, own)
        paths = [path for path in found if _is_image(path)]
        if not paths:
            raise UserError(f"{folder}: an empty class: no image files. Remove the folder, or fill it.")
        others += len(found) - len(paths)
        files += [_File(path, split, labels[folder.name], _stat(path)) for path in paths]
    if others:
        log.info("%s: ignoring %d files whose names are not those of images", root, others)
    if splits != {"train": root}:
        ignored = [entry.name for entry in subfolders(root) if entry not in splits.values()]
        if ignored:
            log.warning("%s: ignoring %s: not a split with class folders", root, ", ".join(ignored))
    return _without_duplicates(files)


def image_files(folder: Path) -> list[Path]:
    """The files of a folder and its sub-folders whose names are those of images, each once, sorted."""
    return [path for path in _files_below(folder, ()) if _is_image(path)]


def _is_image(path: Path) -> bool:
    return Image.registered_extensions().get(path.suffix.lower()) in Image.OPEN


def _stat(path: Path) -> os.stat_result | None:
    try:
        return path.stat()
    except OSError:
        return None


def _without_duplicates(files: Sequence[_File]) -> list[_File]:
    """Each file once, whatever the number of links to it, hard or symbolic.

    Raises:
        UserError: it has two labels, or a training image is also one to validate or test on.
    """
    found: dict[object, _File] = {}
    shared = 0
    for file in files:
        # the number of a file on its device; some file systems have none
        key = (file.stat.st_dev, file.stat.st_ino) if file.stat and file.stat.st_ino else file.path
        first = found.setdefault(key, file)
        if first is file:
            continue
        if first.label != file.label:
            raise UserError(f"{first.path} and {file.path} are one image in two classes. Remove one of them.")
        if first.split == file.split:
            continue
        if "train" in (first.split, file.split):
            raise UserError(
                f"{first.path} and {file.path} are one image: a network would be trained on what it is tested on."
                " Remove one of them."
            )
        found[key, file.split] = file
        shared += 1
    if shared:
        log.warning("%d images are both in val and in test, so the best epoch is chosen by images of the test", shared)
    return list(found.values())


def _files_below(folder: Path, excluded: Collection[str]) -> list[Path]:
    """The files of a folder and its sub-folders that are not hidden, sorted.

    Links are followed, but lead to each real file or folder once, because they may form a loop. `excluded` real
    folders, those of other classes and splits, are not entered.
    """
    seen, found = set(excluded), list[Path]()

    def visit(folder: str, real_folder: str) -> None:
        try:
            entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
        except OSError as error:
            raise UserError(f"{folder} cannot be read ({error.strerror}); make it readable, or move it.") from error
        for entry in entries:
            link = entry.is_symlink()
            real = os.path.realpath(entry) if link else f"{real_folder}/{entry.name}"
            if real in seen:
                continue
            seen.add(real)
            if Path(real).is_dir() if link else entry.is_dir():
                visit(entry.path, real)
            elif not entry.name.startswith("."):
                found.append(Path(entry))

    visit(str(folder), os.path.realpath(folder))
    return found


def _load_pixels(
    root: Path, files: Sequence[_File], image_size: int, channels: int, cache: Path
) -> tuple[PixelFile | Tensor, dict[int, str], int]:
    """All images, `[N, C, S, S] uint8`, from the cache or decoded; why some could not be, by their index; and a CRC."""
    paths = [file.path for file in files]
    listing = hashlib.sha256(json.dumps([file.state for file in files]).encode()).hexdigest()
    folder_id = hashlib.sha256(os.fsencode(root)).hexdigest()[:10]
    # One cache file for a folder and its settings: when the folder changes, it is replaced.
    kept = cache.absolute() / ".cache" / f"{root.name}-{channels}x{image_size}-{folder_id}.npy"
    shape = (len(files), channels, image_size, image_size)
    try:
        if cached := _read_cache(kept, listing):
            return cached
        with exclusive_lock(kept.with_suffix(".lock")):  # the jobs of a sweep wait until the first one has decoded
            if cached := _read_cache(kept, listing):
                return cached
            start = time.perf_counter()
            written = _write_cache(kept, listing, paths, shape)
            log.info("%s: %d images decoded in %.1f s", root, len(files), time.perf_counter() - start)
            return written
    except OSError as error:
        if not memory.has_room(size := math.prod(shape)):
            raise UserError(
                f"{len(files):,} images of {channels}×{image_size}×{image_size} take {size / 1e9:.1f} GB: more than"
                f" half of the free memory, and {kept.parent} cannot take them either ({error.strerror}). Point"
                " paths.data (or the environment variable CNNZOO_DATA) at a folder with room, or lower"
                f" dataset.image_size={image_size} (half of it takes a quarter)."
            ) from error
        log.warning("%s cannot be kept (%s): the images will be decoded again next time", kept, error.strerror)
    failures: dict[int, str] = {}
    pixels = np.concatenate([*_decode_all(paths, shape, failures)])
    return torch.from_numpy(pixels), failures, zlib.crc32(pixels.data)


def _read_cache(kept: Path, listing: str) -> tuple[PixelFile, dict[int, str], int] | None:
    """What `_write_cache` kept, or None where it is missing, damaged or of other files."""
    try:
        pixels = PixelFile(kept)
        trailer = json.loads(pixels.trailer())
        if trailer["listing"] != listing:
            return None
        # What fits in memory is read at every start anyway; a larger file is not read only to be checked.
        if memory.has_room(pixels.nbytes) and pixels.crc() != trailer["crc"]:
            raise ValueError("wrong checksum")
        return pixels, {int(index): reason for index, reason in trailer["failures"].items()}, trailer["crc"]
    except FileNotFoundError:
        return None
    except (UserError, ValueError, KeyError, TypeError, AttributeError) as error:
        log.warning("%s is damaged (%s): decoding again", kept, error)
        kept.unlink()
        return None


def _write_cache(
    kept: Path, listing: str, paths: Sequence[Path], shape: tuple[int, ...]
) -> tuple[PixelFile, dict[int, str], int]:
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
        for chunk in _decode_all(paths, shape, failures):
            file.write(chunk.data)
            crc = zlib.crc32(chunk.data, crc)
        file.write(json.dumps({"listing": listing, "crc": crc, "failures": failures}).encode())
    return PixelFile(kept), failures, crc


def _decode_all(paths: Sequence[Path], shape: tuple[int, ...], failures: dict[int, str]) -> Iterator[NDArray[np.uint8]]:
    """Yield all images in chunks `[n, C, S, S]`, black where a file cannot be read, with the reason in `failures`."""
    _, channels, image_size, _ = shape
    step = max(1, _CHUNK_BYTES // math.prod(shape[1:]))

    def decode_into(pixels: NDArray[np.uint8], path: Path) -> str | None:
        try:
            pixels[:] = decode(path, image_size, channels)
        except Exception as error:  # a damaged file can make a decoder raise anything
            return decoding_failure(error)
        return None

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    # Threads suffice, because PIL's decoders and resizing release the interpreter's lock.
    with Progress(*columns, console=console, transient=True) as progress, ThreadPoolExecutor() as pool:
        task = progress.add_task("decoding images", total=len(paths))
        try:
            for start in range(0, len(paths), step):
                chunk = paths[start : start + step]
                pixels = np.zeros((len(chunk), *shape[1:]), dtype=np.uint8)
                for index, reason in enumerate(pool.map(decode_into, pixels, chunk), start):
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
    return f"{type(error).__name__}: {error}"


def decode(path: Path, image_size: int, channels: int) -> NDArray[np.uint8]:
    """Read one image file as `[C, S, S]`: upright, the largest central square, scaled bilinearly with antialiasing.

    Colour becomes grey, or grey colour, as PIL converts them; transparency is dropped. JPEGs much larger than
    `image_size` are decoded at the smallest of the format's own scales (1/2, 1/4, 1/8) that leaves twice the size.

    Raises:
        Exception: whatever PIL raises where it cannot read the file.
    """
    if not stat.S_ISREG(path.stat().st_mode):  # a pipe or device, which might never end
        raise ValueError("not a regular file")
    with Image.open(path) as opened:
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


def _report_unreadable(files: Sequence[_File], failures: dict[int, str], unreadable: str) -> None:
    """List the files that cannot be read, as an error unless they are to be skipped."""
    shown = [f"  {files[index].path}: {reason.splitlines()[0]}" for index, reason in [*failures.items()][:5]]
    if len(failures) > len(shown):
        shown.append(f"  … and {len(failures) - len(shown)} more")
    listed = "\n".join(shown)
    text = f"{len(failures)} of {len(files)} files cannot be read as images"
    if unreadable == "refuse":
        raise UserError(f"{text}; repair or remove them, or skip them: dataset.source.unreadable=skip\n{listed}")
    log.warning("%s and are skipped:\n%s", text, listed)
