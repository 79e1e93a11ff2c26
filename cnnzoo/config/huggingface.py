"""Data sets in Hugging Face's format: where they are, and their columns, splits and classes.

Part of the configuration, because a network's `num_classes` is needed as soon as one is composed. No code of a data set
is run: `datasets` has had no loading scripts since its version 4, which the extra `huggingface` asks for.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from cnnzoo.config.folder_layout import SPLITS
from cnnzoo.errors import UserError, nearest

_LABELS = ("int", "uint", "string", "large_string", "bool")  # what the names of types of labels begin with


@dataclass(frozen=True)
class HuggingFaceSet:
    """A data set as it is stored.

    tables: of each split, "train", "val" or "test", a `datasets.Dataset` of one column, its images, not decoded.
    labels: of each split, from 0 to the number of `classes`.
    files: those that hold the tables.
    """

    tables: dict[str, Any]
    labels: dict[str, list[int]]
    classes: tuple[str, ...]
    files: list[str]


def location(path: str | None) -> str:
    """Return a folder or file as an absolute path, and the name of a data set on the Hub as it is."""
    if not path:
        raise UserError(
            "dataset.path=… is missing: a folder, a file, or the name of a data set on the Hugging Face Hub."
        )
    local = Path(path).expanduser()
    return str(local.absolute()) if local.exists() or path.startswith(("/", ".", "~")) else path


def read(
    path: str,
    config: str | None = None,
    revision: str | None = None,
    image_column: str | None = None,
    label_column: str | None = None,
    train: str | None = None,
    val: str | None = None,
    test: str | None = None,
) -> HuggingFaceSet:
    """Read labels and find images of a data set on the Hub, or of a folder or file.

    Args:
        path, config, revision: of `datasets.load_dataset`; or a folder that `save_to_disk` has written.
        image_column, label_column: None: the only one with the feature Image or ClassLabel.
        train, val, test: names of the splits; None: found by their names.

    Raises:
        UserError: it cannot be loaded, or has no such columns or splits.
    """
    loaded = _load(path, config, revision)
    splits = _find_splits(path, sorted(loaded), {"train": train, "val": val, "test": test})
    import datasets

    features = loaded[splits["train"]].features
    images = _find_column(features, "image_column", image_column, datasets.Image, _is_image, "images")
    target = _find_column(features, "label_column", label_column, datasets.ClassLabel, _is_label, "labels")
    values = {
        split: loaded[name].select_columns(target).with_format("arrow")[:].column(0).to_pylist()
        for split, name in splits.items()
    }
    names: list[str] | None = getattr(features[target], "names", None)  # of a ClassLabel, whose values are numbers
    classes = sorted(set(values["train"]) - {None}) if names is None else range(len(names))
    numbers = {value: number for number, value in enumerate(classes)}
    for split, found in values.items():
        wrong = [value for value in found if value not in numbers]
        if wrong:
            raise UserError(
                f"dataset.path={path}: {len(wrong)} of {len(found)} images in its split {splits[split]} have a label"
                f" that no class has, {wrong[0]!r}: a test set whose labels are kept secret, or classes without"
                f" training images. dataset.source.{split}=NAME takes another split of {', '.join(sorted(loaded))}."
            )
    undecoded = datasets.Image(decode=False)
    tables = {
        split: loaded[name].select_columns(images).cast_column(images, undecoded) for split, name in splits.items()
    }
    return HuggingFaceSet(
        tables=tables,
        labels={split: [numbers[value] for value in found] for split, found in values.items()},
        classes=tuple(map(str, classes if names is None else names)),
        files=[file["filename"] for name in splits.values() for file in loaded[name].cache_files],
    )


def _load(path: str, config: str | None, revision: str | None) -> dict[str, Any]:
    """All splits, by their names."""
    local = Path(path)
    if not local.is_absolute():
        return _load_from_hub(path, config, revision)
    if not local.exists():
        raise UserError(
            f"dataset.path={path}: there is no such folder or file. Expected one of images or parquet files, or the"
            " name of a data set on the Hugging Face Hub, such as ylecun/mnist."
        )
    datasets = _library()

    def load() -> Any:
        if local.is_file():
            return datasets.load_dataset(str(local.parent), data_files=local.name)
        if any((local / name).is_file() for name in ("dataset_dict.json", "state.json")):  # of save_to_disk
            return datasets.load_from_disk(path)
        return datasets.load_dataset(path, config)

    return _named(path, load)


@lru_cache(maxsize=8)  # each time takes requests to the Hub
def _load_from_hub(name: str, config: str | None, revision: str | None) -> dict[str, Any]:
    datasets = _library()
    return _named(name, lambda: datasets.load_dataset(name, config, revision=revision))


def _library() -> Any:
    try:
        import datasets
    except ImportError:
        raise UserError("dataset=huggingface needs datasets: pip install 'cnnzoo[huggingface]'.") from None
    return datasets


def _named(path: str, load: Callable[[], Any]) -> dict[str, Any]:
    try:
        loaded = load()
    except Exception as error:  # of many types, of many libraries
        reason = " ".join(str(error).split()) or type(error).__name__
        raise UserError(
            f"dataset.path={path} cannot be loaded: {reason.rstrip('.')}. Expected the name of a data set on the"
            " Hugging Face Hub, or a folder or file in one of its formats; dataset.config=NAME takes one of several"
            " configurations."
        ) from error
    return {str(name): split for name, split in loaded.items()} if isinstance(loaded, dict) else {"train": loaded}


def _find_splits(path: str, names: Sequence[str], chosen: Mapping[str, str | None]) -> dict[str, str]:
    """The names of the splits "train", "val" and "test", those that there are."""
    present = f"dataset.path={path}: there are the splits {', '.join(names)}"
    found: dict[str, str] = {}
    for split, typed in chosen.items():
        if typed is None:
            continue
        if typed not in names or typed in found.values():
            wrong = "is used twice" if typed in names else f"is none of them.{nearest(typed, names)}"
            raise UserError(f"{present}; dataset.source.{split}={typed} {wrong}")
        found[split] = typed
    for name in names:
        meant = next((split for split, known in SPLITS.items() if name.lower() in known), None)
        if meant is None or chosen[meant] is not None or name in found.values():
            continue
        if meant in found:
            raise UserError(f"{present}: dataset.source.{meant}=NAME chooses one of {found[meant]} and {name}.")
        found[meant] = name
    if "train" not in found and len(names) == 1:
        found = {"train": names[0]}  # the others are drawn from it
    if "train" not in found:
        raise UserError(f"{present}; dataset.source.train=NAME says which of them holds the training images.")
    return found


def _find_column(
    features: Mapping[str, Any],
    key: str,
    chosen: str | None,
    kind: type,
    accepts: Callable[[Any], bool],
    what: str,
) -> str:
    columns = ", ".join(f"{name} ({_type(feature)})" for name, feature in features.items())
    if chosen is None:
        found = [name for name, feature in features.items() if isinstance(feature, kind)]
        if len(found) == 1:
            return found[0]
        reason = "several columns have" if found else "no column has"
        raise UserError(f"dataset.{key}=NAME is missing, as {reason} the feature {kind.__name__}. There are {columns}.")
    if chosen not in features:
        raise UserError(f"dataset.{key}={chosen}: no such column.{nearest(chosen, features)} There are {columns}.")
    if not accepts(features[chosen]):
        raise UserError(f"dataset.{key}={chosen}: this column holds no {what}. There are {columns}.")
    return chosen


def _type(feature: Any) -> str:
    return str(getattr(feature, "dtype", None) if type(feature).__name__ == "Value" else type(feature).__name__)


def _is_image(feature: Any) -> bool:
    if isinstance(feature, Mapping):  # as parquet files of other programs have them
        return feature.keys() == {"bytes", "path"}
    return type(feature).__name__ == "Image" or _type(feature) in ("binary", "large_binary")


def _is_label(feature: Any) -> bool:
    return type(feature).__name__ == "ClassLabel" or _type(feature).startswith(_LABELS)
