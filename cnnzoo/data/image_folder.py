"""A folder of the user's own images, one sub-folder a class."""

import logging
import os
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from PIL import Image

from cnnzoo.config.folder_layout import class_folders, split_folders, subfolders
from cnnzoo.data.decoding import decode_once, divide
from cnnzoo.data.sources import Source
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
    paths = [file.path for file in files]
    states = [file.state for file in files]
    decoded = decode_once(paths, folder.name, os.fsencode(folder), states, image_size, channels, Path(cache))
    return divide(
        decoded,
        [file.split for file in files],
        [file.label for file in files],
        classes,
        name=str(folder),
        image_name=lambda index: str(paths[index]),
        # Not the times of change, which a copy of the folder does not have.
        contents=[(str(file.path.relative_to(folder)), file.split, file.label) for file in files],
        test_size=test_size,
        val_size=val_size,
        split_seed=split_seed,
        unreadable=unreadable,
    )


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
