"""How a folder of images is laid out: its splits and its classes.

Part of the configuration, because a network's `num_classes` is needed as soon as one is composed.
"""

from pathlib import Path

from cnnzoo.errors import UserError

# Names, in any case, of the folders that hold a split.
SPLITS = {
    "train": ("train", "training"),
    "val": ("val", "valid", "validation"),
    "test": ("test", "testing"),
}

_LAYOUTS = "Expected <root>/<class>/image.png, or <root>/train/<class>/image.png with val and test next to train."


def subfolders(folder: Path) -> list[Path]:
    """The folders in `folder` that are not hidden, by name.

    Raises:
        UserError: it cannot be read.
    """
    try:
        return sorted(entry for entry in folder.iterdir() if entry.is_dir() and not entry.name.startswith("."))
    except OSError as error:
        raise UserError(f"{folder} cannot be read ({error.strerror}); make it readable, or move it.") from error


def split_folders(root: Path) -> dict[str, Path]:
    """Where the class folders of "train", "val" and "test" are; `{"train": root}` if `root` has no splits.

    A folder is a split if it has the name of one and class folders of its own.

    Raises:
        UserError: there is no folder `root`, or its splits do not make a data set.
    """
    if not root.is_dir():
        raise UserError(f"dataset.root={root}: there is no such folder. {_LAYOUTS}")
    found: dict[str, Path] = {}
    for folder in subfolders(root):
        split = next((split for split, names in SPLITS.items() if folder.name.lower() in names), None)
        if split is None or not subfolders(folder):
            continue
        if split in found:
            raise UserError(f"dataset.root={root}: {found[split].name} and {folder.name} are the same split; keep one.")
        found[split] = folder
    if found and "train" not in found:
        raise UserError(f"dataset.root={root} has {found.popitem()[1].name}, but no train. {_LAYOUTS}")
    return found or {"train": root}


def class_folders(root: Path) -> list[Path]:
    """The folders of the training images, one a class, by name.

    Raises:
        UserError: there are not at least two.
    """
    folder = split_folders(root)["train"]
    classes = subfolders(folder)
    if not classes:
        raise UserError(f"dataset.root={root}: no class folders in {folder}. {_LAYOUTS}")
    if len(classes) == 1:
        raise UserError(
            f"dataset.root={root}: one class only, '{classes[0].name}'; telling classes apart takes at least two."
        )
    return classes
