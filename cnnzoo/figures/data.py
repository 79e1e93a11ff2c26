"""Pictures of a data set as training sees it, and its channel statistics before and after normalisation.

python -m cnnzoo.figures data dataset=cifar10                        images, augmented, balance and channels .png
python -m cnnzoo.figures data dataset=mnist augmentation=crop        with another augmentation than the data set's own
python -m cnnzoo.figures data dataset=cifar100 formats=[png,pdf] out=paper/figures
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from omegaconf import DictConfig
from rich.console import Console
from rich.table import Table

from cnnzoo.config import command, to_plain
from cnnzoo.console import set_up_logging

if TYPE_CHECKING:
    from torch import Tensor

    from cnnzoo.data.dataset import Dataset

AUGMENTED_IMAGES, AUGMENTED_VERSIONS = 4, 6


@command("figures_data")
def main(cfg: DictConfig) -> None:
    set_up_logging()
    paths, statistics = draw(to_plain(cfg))
    stdout = Console()
    stdout.print(_table(statistics))
    for path in paths:
        stdout.print(str(path), soft_wrap=True, highlight=False)


@dataclass(frozen=True)
class ChannelStatistics:
    """Of one channel, over the training images: pixels in 0..1, then normalised, then those of one training batch.

    The batch is the first one of a run with the same configuration, augmentation included.
    """

    channel: str
    pixel_mean: float
    pixel_std: float
    mean: float
    std: float
    batch_mean: float
    batch_std: float


def draw(config: Mapping[str, Any]) -> tuple[list[Path], list[ChannelStatistics]]:
    """Writes `images`, `augmented`, `balance` and `channels` into the folder `out`; `config` is in plain containers.

    Raises:
        UserError: the data cannot be had, or the pictures not be written.
    """
    import torch

    from cnnzoo.data.dataset import load_dataset, pixel_counts
    from cnnzoo.figures import data_plots, style

    style.check_formats(config["formats"])
    dataset = load_dataset(config["dataset"])
    labels = [part.labels.numpy() for part in (dataset.train, dataset.val, dataset.test)]
    batch = training_batch(dataset, config).numpy()
    counts = pixel_counts(dataset.train).numpy()
    shown = dataset.train[torch.from_numpy(data_plots.examples(labels[0], dataset.classes))].resident()
    mean, std = dataset.mean.numpy(), dataset.std.numpy()
    statistics = channel_statistics(counts, batch, mean, std)
    originals, versions, names = augmented_images(dataset, config)
    with style.look():
        figures = {
            "images": data_plots.images(_pictures(shown.images), shown.labels.numpy(), dataset.classes),
            "augmented": data_plots.augmented(originals, versions, names, config["augmentation"]),
            "balance": data_plots.balance(dict(zip(("train", "val", "test"), labels, strict=True)), dataset.classes),
            "channels": data_plots.channels(statistics, counts, batch, mean, std),
        }
        folder = Path(config["out"])
        paths = [
            path
            for name, figure in figures.items()
            for path in style.save(figure, folder, name, config["formats"])
        ]  # fmt: skip
    return paths, statistics


def training_batch(dataset: "Dataset", config: Mapping[str, Any]) -> "Tensor":
    """The first batch of a run: `[B, C, S, S] float32`, augmented and normalised."""
    from cnnzoo.data.module import train_batches

    everything = {**config["dataset"], "drop_last": False}  # a set smaller than a batch has one, too
    return next(iter(train_batches(dataset, {**config, "dataset": everything})))[0]


def augmented_images(
    dataset: "Dataset", config: Mapping[str, Any]
) -> tuple[NDArray[np.uint8], list[NDArray[np.uint8]], list[str]]:
    """A few training images as the network gets them, `[N, S, S, C]`, some augmented versions, and their classes."""
    import torch

    from cnnzoo.data.augment import Augmentation
    from cnnzoo.data.batches import Batches

    # the first image of each of the first classes, so that they differ
    labels = dataset.train.labels.tolist()
    index = [labels.index(label) for label in sorted(set(labels))[:AUGMENTED_IMAGES]]
    part = dataset.train[torch.tensor(index)]
    zeros, ones = torch.zeros_like(dataset.mean), torch.ones_like(dataset.std)

    def batch(augmentation: Augmentation | None, epoch: int = 0) -> NDArray[np.uint8]:
        batches = Batches(
            part, zeros, ones, image_size=config["image_size"], batch_size=len(part),
            augmentation=augmentation, seed=config["seed"], epoch=epoch,
        )  # fmt: skip
        return _pictures((next(iter(batches))[0] * 255).round_().clamp_(0, 255).byte())

    augmentation = Augmentation(**config["augmentation"])
    versions = [batch(augmentation, epoch) for epoch in range(AUGMENTED_VERSIONS)]
    return batch(None), versions, [dataset.classes[labels[i]] for i in index]


def channel_statistics(
    counts: NDArray[np.int64], batch: NDArray[np.float32], mean: NDArray[np.float32], std: NDArray[np.float32]
) -> list[ChannelStatistics]:
    """From the counts of all training pixels, one normalised batch, and what it is normalised with."""
    values = np.arange(256) / 255
    result = []
    for name, count, pixels, m, s in zip(
        channel_names(len(counts)), counts, batch.swapaxes(0, 1), mean, std, strict=True
    ):
        pixel_mean = float(np.average(values, weights=count))
        pixel_std = float(np.average((values - pixel_mean) ** 2, weights=count) ** 0.5)
        flat = pixels.astype(np.float64)
        result.append(
            ChannelStatistics(
                name, pixel_mean, pixel_std, (pixel_mean - float(m)) / float(s), pixel_std / float(s),
                float(flat.mean()), float(flat.std()),
            )
        )  # fmt: skip
    return result


def channel_names(count: int) -> Sequence[str]:
    return {1: ("grey",), 3: ("red", "green", "blue")}.get(count) or [f"channel {i}" for i in range(count)]


def _pictures(images: "Tensor") -> NDArray[np.uint8]:
    """`[N, C, H, W]` as matplotlib shows it: `[N, H, W, 3]`, or `[N, H, W, 1]` (the first channel) where not colour."""
    return (images if images.shape[1] == 3 else images[:, :1]).permute(0, 2, 3, 1).numpy()


def _table(statistics: Sequence[ChannelStatistics]) -> Table:
    table = Table("", title="training images: pixels in 0..1, then normalised, all of them and one batch")
    for header in ("pixel mean", "pixel std", "mean", "std", "batch mean", "batch std"):
        table.add_column(header, justify="right")
    for s in statistics:
        figures = (s.pixel_mean, s.pixel_std, s.mean, s.std, s.batch_mean, s.batch_std)
        table.add_row(s.channel, *(f"{figure:z.4f}" for figure in figures))
    return table


if __name__ == "__main__":
    main()
