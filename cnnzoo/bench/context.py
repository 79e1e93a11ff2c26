"""What every section is measured with: the configuration, the device, the images."""

import logging
from functools import cached_property

import torch

from cnnzoo.config.schema import BenchConfig, DatasetConfig
from cnnzoo.data.dataset import Dataset, load_dataset
from cnnzoo.data.images import Images
from cnnzoo.errors import UserError
from cnnzoo.training.devices import training_device

log = logging.getLogger(__name__)


class Context:
    """The configuration, the device, the data set, and in `images` whether that is `random` or the real `dataset`."""

    def __init__(self, config: BenchConfig, dataset: Dataset | None = None) -> None:
        self.config, self.images = config, config.images
        self.device = training_device(config.trainer.accelerator)
        if dataset is not None:
            self.dataset = dataset

    @cached_property
    def dataset(self) -> Dataset:
        """The data set of the configuration, or random images of its shape; before, `images` is as configured."""
        config, self.images = self.config.dataset, "random"
        if self.config.images == "auto":
            try:
                dataset = load_dataset(config, self.config.trusted_packages)
                self.images = "dataset"
                return dataset
            except UserError as error:
                log.warning("random images instead of %s: %s", config.name, error)
        return random_dataset(config)


def random_dataset(config: DatasetConfig, train: int = 45_000, test: int = 1_000) -> Dataset:
    """Return a data set of noise, in the shape of the configured one: speed does not depend on what images show."""
    generator = torch.Generator().manual_seed(0)

    def split(count: int) -> Images:
        shape = (count, config.channels, config.image_size, config.image_size)
        pixels = torch.randint(256, shape, dtype=torch.uint8, generator=generator)
        return Images(pixels, torch.randint(config.num_classes, (count,), generator=generator))

    mean, classes = torch.full((config.channels,), 0.5), tuple(map(str, range(config.num_classes)))
    return Dataset(split(train), split(test), split(test), classes, mean, mean / 2, resident=True, workers=0)
