"""Figures of a data set as training sees it, and its channel statistics before and after normalisation.

python -m cnnzoo.figures data dataset=cifar10                        images, augmented, balance and channels .png
python -m cnnzoo.figures data dataset=mnist augmentation=crop        with another augmentation than the data set's own
python -m cnnzoo.figures data dataset=cifar100 formats=[png,pdf] out=paper/figures
"""

from pathlib import Path

import pandas as pd

from cnnzoo.config import command
from cnnzoo.config.schema import FiguresConfig
from cnnzoo.console import set_up_logging


@command("figures_data")
def main(config: FiguresConfig) -> None:
    set_up_logging()
    paths, statistics = draw(config)
    print("training images: pixels in 0..1, then normalised, all of them and one batch")
    print(statistics.to_string(float_format="{:z.4f}".format))
    print(*paths, sep="\n")


def draw(config: FiguresConfig) -> tuple[list[Path], pd.DataFrame]:
    """Write the figures `images`, `augmented`, `balance` and `channels` into the folder `out`.

    Returns:
        The paths, and what `channel_statistics` returns.

    Raises:
        UserError: the data cannot be had, or the figures cannot be written.
    """
    from cnnzoo.data.dataset import load_dataset, pixel_counts
    from cnnzoo.figures import data_arrays, data_plots, style

    style.check_formats(config.formats)
    dataset = load_dataset(config.dataset, config.trusted_packages)
    labels = {name: split.labels.numpy() for name, split in zip(("train", "val", "test"), dataset.splits, strict=True)}
    shown = data_plots.examples(labels["train"], len(dataset.classes))
    pictures = data_arrays.pictures(dataset.train, shown)
    counts, batch = pixel_counts(dataset.train).numpy(), data_arrays.training_batch(dataset, config)
    mean, std = dataset.mean.numpy(), dataset.std.numpy()
    statistics = data_arrays.channel_statistics(counts, batch, mean, std)
    with style.look():
        figures = {
            "images": data_plots.images(pictures, labels["train"][shown], dataset.classes),
            "augmented": data_plots.augmented(*data_arrays.augmented_images(dataset, config), config.augmentation),
            "balance": data_plots.balance(labels, dataset.classes),
            "channels": data_plots.channels(statistics, counts, batch, mean, std),
        }
        return style.save(figures, Path(config.out), config.formats), statistics


if __name__ == "__main__":
    main()
