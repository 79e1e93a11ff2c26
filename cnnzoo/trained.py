"""A trained run as a network that can be used: `cnnzoo.load_model`."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from cnnzoo.config import Config, config_hash
from cnnzoo.data.augment import crop_and_resize, full_image_crops
from cnnzoo.data.dataset import load_dataset
from cnnzoo.data.decoding import decode
from cnnzoo.errors import UserError
from cnnzoo.nn.build import build_model
from cnnzoo.nn.weights import load_weights, weights_of_run
from cnnzoo.results.received import received_config, relocated
from cnnzoo.results.run_folder import read_result


class TrainedModel(nn.Module):
    """A network with what its training knew about images.

    `model(images)`: `[N, C, S, S] float32`, as `preprocess` returns them, to logits `[N, len(classes)]`.

    network: the trained module, in evaluation mode.
    classes: names, in the order of the logits.
    mean, std: of each channel, in 0..1.
    image_size: side in pixels at which images enter the network.
    config: of the run.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, network: nn.Module, classes: Sequence[str], mean: Tensor, std: Tensor, config: Config) -> None:
        super().__init__()
        self.network = network
        self.classes = tuple(classes)
        self.config = config
        self.image_size = config.image_size
        self.register_buffer("mean", mean)
        self.register_buffer("std", std)

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.network(images)
        return logits

    def preprocess(self, images: "Tensor | Image.Image | str | os.PathLike[str] | Sequence[Any]") -> Tensor:
        """Return what the network takes, as in the run's own test: `[N, C, S, S] float32`, normalised.

        Args:
            images: `[N, C, H, W]` or `[C, H, W]` uint8; or PIL images or image files, one or several.
        """
        if not isinstance(images, Tensor):
            several = images if isinstance(images, list | tuple) else [images]
            images = torch.cat([self.decode(image) for image in several])
        if images.dtype != torch.uint8:
            raise TypeError(f"images of {images.dtype}: expected uint8, 0 to 255")
        return self.normalize(self.resize(images[None] if images.ndim == 3 else images) / 255)

    def resize(self, images: Tensor) -> Tensor:
        """Return images `[N, C, H, W] uint8` at the size of the network's input: `[N, C, S, S] float32`, 0..255."""
        count, channels, height, width = images.shape
        if channels != len(self.mean):
            raise ValueError(f"images with {channels} channels: expected {len(self.mean)}")
        if (height, width) == (self.image_size, self.image_size):
            return images.float()
        return crop_and_resize(images, full_image_crops(count, height, width).to(images.device), self.image_size)

    def normalize(self, images: Tensor) -> Tensor:
        """Return images `[N, C, S, S] float32` of 0..1 as the network was trained on them."""
        mean, std = (values.to(images.device).view(1, -1, 1, 1) for values in (self.mean, self.std))
        return (images - mean) / std

    def decode(self, image: Any) -> Tensor:
        """Return a PIL image, or an image file, as those of the data set were: `[1, C, H, W] uint8`."""
        size = self.config.dataset.image_size
        return torch.from_numpy(np.array(decode(image, size, len(self.mean))))[None]


def load_model(run: str | os.PathLike[str], trusted_packages: Sequence[str] = ()) -> TrainedModel:
    """Load the best checkpoint of a finished run, on the CPU and in evaluation mode.

    Args:
        trusted_packages: packages that the run's network may be from, besides those that cnnzoo is built on. The folder
            may come from anybody, and is no reason to import a module that it names.

    Raises:
        UserError: `run` is not the folder of a finished run, its files do not fit together, or its network is from a
            package that is not trusted.
    """
    folder = Path(run)
    result = read_result(folder) or {}
    if result.get("status") != "completed":
        raise UserError(f"{folder} is not the folder of a finished run: no result.json with status completed.")
    trained = received_config(folder, trusted_packages)
    config = relocated(trained)
    network = build_model(config)
    load_weights(network, weights_of_run(folder), config_hash(trained))
    if "classes" in result:
        classes, mean, std = result["classes"], torch.tensor(result["mean"]), torch.tensor(result["std"])
    else:  # a run of an older version
        dataset = load_dataset(config.dataset, config.trusted_packages)
        classes, mean, std = dataset.classes, dataset.mean, dataset.std
    return TrainedModel(network, classes, mean, std, config).eval()
