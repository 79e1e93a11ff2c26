"""What a configuration asks about a folder of images: `${abspath:…}`, `${basename:…}`, `${class_count:…}`; no torch.

A network's `num_classes` is known as soon as a configuration is composed, so classes are counted here, by folders.
"""

from pathlib import Path

from omegaconf import OmegaConf

from cnnzoo.errors import UserError

# Names, in any case, of the folders that divide a data set.
PARTS = {
    "train": ("train", "training"),
    "val": ("val", "valid", "validation"),
    "test": ("test", "testing"),
}

_LAYOUTS = "Expected <root>/<class>/image.png, or <root>/train/<class>/image.png with val and test beside train."


def subfolders(folder: Path) -> list[Path]:
    """The visible ones, by name."""
    return sorted(entry for entry in folder.iterdir() if entry.is_dir() and not entry.name.startswith("."))


def part_folders(root: Path) -> dict[str, Path]:
    """Where the class folders of "train", "val" and "test" lie; `{"train": root}` where `root` is not divided.

    A folder divides the set if it has the name of a part and class folders of its own.

    Raises:
        UserError: there is no folder `root`, or its parts do not make a data set.
    """
    if not root.is_dir():
        raise UserError(f"dataset.root={root}: there is no such folder. {_LAYOUTS}")
    found: dict[str, Path] = {}
    for folder in subfolders(root):
        part = next((part for part, names in PARTS.items() if folder.name.lower() in names), None)
        if part is None or not subfolders(folder):
            continue
        if part in found:
            raise UserError(f"dataset.root={root}: {found[part].name} and {folder.name} are the same part; keep one.")
        found[part] = folder
    if found and "train" not in found:
        raise UserError(f"dataset.root={root} has {found.popitem()[1].name}, but no train. {_LAYOUTS}")
    return found or {"train": root}


def class_folders(root: Path) -> list[Path]:
    """The folders of the training images, one a class, by name.

    Raises:
        UserError: there are not at least two.
    """
    folder = part_folders(root)["train"]
    classes = subfolders(folder)
    if not classes:
        raise UserError(f"dataset.root={root}: no class folders in {folder}. {_LAYOUTS}")
    if len(classes) == 1:
        raise UserError(
            f"dataset.root={root}: one class only, '{classes[0].name}'; telling classes apart takes at least two."
        )
    return classes


def _abspath(path: str) -> str:
    return str(Path(path).expanduser().absolute())


def register() -> None:
    """Makes the resolvers known to OmegaConf."""
    for name, function in {
        "abspath": _abspath,
        "basename": lambda path: Path(_abspath(path)).name,
        "class_count": lambda path: len(class_folders(Path(_abspath(path)))),
    }.items():
        OmegaConf.register_new_resolver(name, function, replace=True)
