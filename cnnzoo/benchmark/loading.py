"""Augmented batches from where images are: in memory, decoded in a file (`dataset.resident=false`), in JPEG files.

All have the same images, of side `image_size`, and the configuration's augmentation. `file, n threads` is how cnnzoo
reads what does not fit into memory; `file, n processes` has a DataLoader's workers read the same rows from a memory
map; `ImageFolder, n processes` decodes JPEGs in workers, as is usual. As in `augmentation`, the processes run and have
their queues full before the clock starts, and the threads do not. The files are in the page cache, for they were just
written: what a disk adds comes on top for everybody.
"""

import dataclasses
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader
from torchvision import transforms
from torchvision.datasets import ImageFolder

from cnnzoo.benchmark.augmentation import drain, timed
from cnnzoo.benchmark.loaders import PREFETCH, augmentation, loader
from cnnzoo.benchmark.measure import Turn, section, take_turns
from cnnzoo.data.dataset import Dataset
from cnnzoo.data.image_folder import decode
from cnnzoo.data.images import PixelFile, StreamedImages
from cnnzoo.data.module import train_batches

THREADS = (0, 1, 2, 4)


@dataclasses.dataclass(frozen=True)
class MappedImages(StreamedImages):
    """The alternative: worker processes gather each batch from a memory map of the file."""

    def fetch(self, order: Tensor, cuts: Iterable[slice]) -> Iterator[tuple[Tensor, Tensor]]:
        assert isinstance(self.store, PixelFile)
        rows: Any = _Rows(np.load(self.store.path, mmap_mode="r"), self.labels)
        indices: Any = [self.rows[order[cut]] for cut in cuts]
        pinned = self.device.type == "cuda"
        batches = DataLoader(rows, batch_size=None, sampler=indices, num_workers=self.workers, pin_memory=pinned)
        for images, labels in batches:
            yield images.to(self.device, non_blocking=True), labels.to(self.device, non_blocking=True)


class _Rows:
    def __init__(self, pixels: Any, labels: Tensor) -> None:
        self.pixels, self.labels = pixels, labels

    def __getitem__(self, index: Tensor) -> tuple[Tensor, Tensor]:
        return torch.from_numpy(self.pixels[index.numpy()]), self.labels[index]


def measure(config: Mapping[str, Any], dataset: Dataset, device: torch.device) -> dict[str, Any]:
    """The section `loading`: images a second of training batches, without any network."""
    workers, size = config["workers"], config["dataset"]["batch_size"]
    waiting = workers * PREFETCH
    steps, skip = config["steps"], max(config["warmup"], waiting)
    with tempfile.TemporaryDirectory(prefix="cnnzoo-bench-") as name:
        folder = Path(name)
        part = write(dataset, folder, config, size * (skip + steps + waiting))

        def batches(part: Any) -> Iterable[tuple[Tensor, Tensor]]:
            return train_batches(dataclasses.replace(dataset, train=part).to(device), config)

        contestants: dict[str, Callable[[], Turn]] = {
            "memory": partial(_drained, batches, part.resident(), device),
            **{f"file, {n} threads": partial(_drained, batches, part.streamed(n), device) for n in THREADS},
        }
        if workers:
            mapped = MappedImages(part.store, part.rows, part.labels, workers=workers)
            contestants[f"file, {workers} processes"] = lambda: timed(batches(mapped), skip, steps)()
        jpegs = jpeg_loader(dataclasses.replace(dataset, train=part), folder / "jpeg", config, skip + steps + waiting)
        contestants[f"ImageFolder, {workers} processes"] = timed(jpegs, skip, steps)
        turns = take_turns(contestants, config["rounds"])
    rates = {name: [turn.rate for turn in done[1:]] for name, done in turns.items()}
    return section("images/s", rates, "file, 2 threads")


def _drained(batches: Callable[[Any], Iterable[tuple[Tensor, Tensor]]], part: Any, device: torch.device) -> Turn:
    return drain(batches(part), device)


def write(dataset: Dataset, folder: Path, config: Mapping[str, Any], count: int) -> StreamedImages:
    """Writes the first `count` training images, again from the first where they are too few, as JPEGs of side
    `image_size` below `folder/jpeg` and decoded into one file; returns these."""
    side, channels = config["image_size"], dataset.train.shape[1]
    index = torch.arange(count) % len(dataset.train)
    chosen = dataset.train[index].resident().to("cpu")
    pixels = np.empty((count, channels, side, side), dtype=np.uint8)
    (folder / "jpeg" / "all").mkdir(parents=True)
    for i, image in enumerate(chosen.images.permute(0, 2, 3, 1).numpy()):
        path = folder / "jpeg" / "all" / f"{i:06}.jpg"
        picture = Image.fromarray(image[:, :, 0] if channels == 1 else image)
        picture.resize((side, side), Image.Resampling.BICUBIC).save(path, quality=90)
        pixels[i] = decode(path, side, channels)
    np.save(folder / "pixels.npy", pixels)
    return StreamedImages(PixelFile(folder / "pixels.npy"), torch.arange(count), chosen.labels)


def jpeg_loader(dataset: Dataset, folder: Path, config: Mapping[str, Any], batches: int) -> DataLoader:
    """torchvision's ImageFolder in a DataLoader; its one class does for a loader without a network."""
    mode = "L" if dataset.train.shape[1] == 1 else "RGB"
    to_pixels = [transforms.ToTensor(), transforms.Normalize(dataset.mean.tolist(), dataset.std.tolist())]
    data = ImageFolder(
        str(folder),
        transforms.Compose([*augmentation(transforms, dataset, config), *to_pixels]),
        loader=partial(_open, mode=mode),
    )
    return loader(data, config, batches)


def _open(path: str, mode: str) -> Image.Image:
    with Image.open(path) as image:
        return image.convert(mode)
