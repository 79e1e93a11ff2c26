"""Names of a data set's classes from a run's settings alone: no data, no torch."""

import contextlib
from pathlib import Path
from typing import Any

from cnnzoo.config.folder_layout import class_folders
from cnnzoo.errors import UserError

# As torchvision names them; of its other sets, digits are their own names and CIFAR-100's are too many for a figure.
_TORCHVISION = {
    "CIFAR10": "airplane,automobile,bird,cat,deer,dog,frog,horse,ship,truck",
    "FashionMNIST": "T-shirt/top,Trouser,Pullover,Dress,Coat,Sandal,Shirt,Sneaker,Bag,Ankle boot",
}


def class_names(count: int, target: Any, name: Any, root: Any) -> list[str]:
    """Return the names of `count` classes; numbers from 0 if they are not known.

    `target`, `name`, `root`: the settings `dataset.source._target_`, `.name` and `.root`, whatever they are.
    """
    names = []
    if str(target).endswith(".torchvision_set"):
        names = _TORCHVISION.get(str(name), "").split(",")
    elif str(target).endswith(".image_folder"):
        with contextlib.suppress(UserError, TypeError, ValueError, OSError):  # the folder is not on this machine
            names = [folder.name for folder in class_folders(Path(root))]
    return names if len(names) == count else [str(number) for number in range(count)]
