"""The numbers behind the figures of a data set, as arrays."""

from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from cnnzoo.config import Config
from cnnzoo.config.schema import AugmentationConfig
from cnnzoo.data.batches import BatchLoader
from cnnzoo.data.dataset import Dataset
from cnnzoo.data.images import Split
from cnnzoo.data.loaders import train_loader

Array = NDArray[Any]

AUGMENTED_IMAGES, AUGMENTED_VERSIONS = 4, 6


def pictures(split: Split, index: Array) -> Array:
    """Return images of a split as matplotlib shows them: `[N, H, W, 3]`, or the first channel, `[N, H, W, 1]`."""
    return _channels_last(split[torch.from_numpy(index)].in_memory().images)


def _channels_last(images: Tensor) -> Array:
    return (images if images.shape[1] == 3 else images[:, :1]).permute(0, 2, 3, 1).numpy()


def training_batch(dataset: Dataset, config: Config) -> Array:
    """Return the first batch of a run: `[B, C, S, S]`, augmented and normalised."""
    whole = replace(config.dataset, drop_last=False)  # a set smaller than a batch has one, too
    images, _ = next(iter(train_loader(dataset, replace(config, dataset=whole))))
    return images.numpy()


def augmented_images(dataset: Dataset, config: Config) -> tuple[Array, Array, list[str]]:
    """Return a few training images as the network gets them, augmented versions of them, and their classes.

    Images: `[N, S, S, C]`, versions: `[N, V, S, S, C]`, the first one of each of the first classes.
    """
    labels, first = np.unique(dataset.train.labels.numpy(), return_index=True)
    chosen = dataset.train[torch.from_numpy(first[:AUGMENTED_IMAGES])]
    zeros, ones = torch.zeros_like(dataset.mean), torch.ones_like(dataset.std)

    def batch(augmentation: AugmentationConfig | None, epoch: int = 0) -> Array:
        loader = BatchLoader(
            chosen,
            zeros,
            ones,
            image_size=config.image_size,
            batch_size=len(chosen),
            augmentation=augmentation,
            seed=config.seed,
            epoch=epoch,
        )
        images, _ = next(iter(loader))
        return _channels_last((images * 255).round_().clamp_(0, 255).byte())

    versions = np.stack([batch(config.augmentation, epoch) for epoch in range(AUGMENTED_VERSIONS)], axis=1)
    return batch(None), versions, [dataset.classes[label] for label in labels[:AUGMENTED_IMAGES]]


def channel_statistics(counts: Array, batch: Array, mean: Array, std: Array) -> pd.DataFrame:
    """Return mean and standard deviation of each channel, a row each.

    Args:
        counts: how often each value occurs in the training images, `[C, 256]`.
        batch: the first one of a run, normalised and augmented, `[B, C, S, S]`.
        mean, std: what images are normalised with, `[C]`.

    Returns:
        Columns `pixel_mean` and `pixel_std`, of the training images in 0..1; `mean` and `std`, of the same images
        normalised; `batch_mean` and `batch_std`.
    """
    values, share = np.arange(256) / 255, counts / counts.sum(axis=1, keepdims=True)
    pixel_mean = share @ values
    pixel_std = np.sqrt((share * (values - pixel_mean[:, None]) ** 2).sum(axis=1))
    statistics = {
        "pixel_mean": pixel_mean,
        "pixel_std": pixel_std,
        "mean": (pixel_mean - mean) / std,
        "std": pixel_std / std,
        "batch_mean": batch.mean(axis=(0, 2, 3), dtype=np.float64),
        "batch_std": batch.std(axis=(0, 2, 3), dtype=np.float64),
    }
    names = {1: ["grey"], 3: ["red", "green", "blue"]}
    return pd.DataFrame(statistics, index=names.get(len(counts)) or [f"channel {i}" for i in range(len(counts))])
