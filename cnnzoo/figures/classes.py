"""Names of a data set's classes from its configuration alone: no data, no torch."""

import contextlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cnnzoo.config.folders import class_folders
from cnnzoo.errors import UserError

# As torchvision names them; of its other sets, digits are their own names and CIFAR-100's are too many for a picture.
_TORCHVISION = {
    "CIFAR10": ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"],
    "FashionMNIST": [
        *("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"),
    ],
}


def class_names(dataset: Mapping[str, Any], count: int) -> Sequence[str]:
    """The names for `dataset`, a run's section of that name; numbers from 0 where they cannot be known."""
    source = dataset.get("source") or {}
    names: Sequence[str] = ()
    match str(source.get("_target_")).rpartition(".")[2]:
        case "torchvision_set":
            names = _TORCHVISION.get(str(source.get("name")), ())
        case "image_folder":
            with contextlib.suppress(UserError, KeyError, OSError):  # the folder is not on this machine
                names = [folder.name for folder in class_folders(Path(source["root"]))]
    return names if len(names) == count else [str(number) for number in range(count)]
