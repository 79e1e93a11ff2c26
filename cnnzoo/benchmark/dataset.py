"""The images that a benchmark runs on."""

import logging
from collections.abc import Mapping
from typing import Any

import torch

from cnnzoo.data.dataset import Dataset, load_dataset
from cnnzoo.data.images import Images
from cnnzoo.errors import UserError

log = logging.getLogger(__name__)

_RANDOM_TRAIN, _RANDOM_TEST = 45_000, 1_000


def images_of(config: Mapping[str, Any]) -> tuple[Dataset, str]:
    """The data set of the configuration, or random images of its shape, and which it is: `dataset`, `random`."""
    if config["images"] == "auto":
        try:
            return load_dataset(config["dataset"]), "dataset"
        except UserError as error:
            log.warning("random images instead of %s: %s", config["dataset"]["name"], error)
    return random_dataset(config["dataset"]), "random"


def random_dataset(config: Mapping[str, Any], train: int = _RANDOM_TRAIN, test: int = _RANDOM_TEST) -> Dataset:
    """Noise in the shape of a data set: speed does not depend on what is in the pictures."""
    generator = torch.Generator().manual_seed(0)
    channels, size, classes = config["channels"], config["image_size"], config["num_classes"]

    def part(count: int) -> Images:
        pixels = torch.randint(256, (count, channels, size, size), dtype=torch.uint8, generator=generator)
        return Images(pixels, torch.randint(classes, (count,), generator=generator))

    half = torch.full((channels,), 0.5)
    classes_ = tuple(map(str, range(classes)))
    return Dataset(part(train), part(test), part(test), classes_, half, half / 2, resident=True, workers=0)
