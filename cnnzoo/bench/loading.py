"""The sections `augmentation` and `loading`: augmented, normalised training batches alone, without any network.

`augmentation` compares cnnzoo with PIL and v2 transforms in the workers of a DataLoader. `loading` compares where the
images are, all of side `image_size`: in memory; decoded in a file, which n threads read (`dataset.resident=false`); in
JPEG files that torchvision's ImageFolder decodes in workers, the usual way. All files are in the page cache: the time
of a disk would be added to all candidates but the one in memory.

cnnzoo prepares a whole epoch in each round, from the draw of its order to the last batch. The worker processes of the
alternatives are running and have filled their queues before the clock starts.
"""

import tempfile
import time
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.utils import data
from torchvision import transforms
from torchvision.datasets import ImageFolder
from torchvision.transforms import v2

from cnnzoo.bench.context import Context
from cnnzoo.bench.interleave import run_interleaved, section
from cnnzoo.config.schema import BenchConfig
from cnnzoo.data.batches import BatchLoader
from cnnzoo.data.decoding import decode
from cnnzoo.data.images import PixelFile, Split, StreamedImages
from cnnzoo.data.loaders import train_loader
from cnnzoo.training.devices import synchronize

_PREFETCH = 2  # batches that a worker keeps ready: DataLoader's own default


def measure_augmentation(context: Context) -> dict[str, Any]:
    """Compare ways to augment images in memory."""
    config, device = context.config, context.device
    skip, _ = skipped_and_all(config)
    candidates = {
        "cnnzoo": partial(time_batches, train_loader(context.dataset.to(device), config), device),
        "PIL in workers": partial(time_batches, pil_loader(context), device, skip, config.steps),
        "v2 in workers": partial(time_batches, v2_loader(context), device, skip, config.steps),
    }
    return section("images/s", run_interleaved(candidates, config.rounds), "cnnzoo")


def measure_loading(context: Context) -> dict[str, Any]:
    """Compare places where images are kept."""
    config, device = context.config, context.device
    with tempfile.TemporaryDirectory(prefix="cnnzoo-bench-") as folder:
        images = write_images(context, Path(folder))
        dataset = replace(context.dataset, train=images, resident="auto")

        def loader(split: Split) -> BatchLoader:
            return train_loader(replace(dataset, train=split).to(device), config)

        candidates = {"memory": partial(time_batches, loader(images.in_memory()), device)}
        for threads in (0, 1, 2, 4):
            candidates[f"file, {threads} threads"] = partial(time_batches, loader(images.streamed(threads)), device)
        skip, _ = skipped_and_all(config)
        jpegs = jpeg_loader(Path(folder, "jpeg"), Context(config, dataset))
        time_jpegs = partial(time_batches, jpegs, device, skip, config.steps)
        candidates[f"ImageFolder, {config.workers} processes"] = time_jpegs
        return section("images/s", run_interleaved(candidates, config.rounds), "file, 2 threads")


def write_images(context: Context, folder: Path) -> StreamedImages:
    """Write as many training images as a measurement takes: JPEG files in `folder/jpeg`, and one file, decoded."""
    config, train = context.config, context.dataset.train
    index = torch.arange(config.dataset.batch_size * skipped_and_all(config)[1])
    chosen = train[index % len(train)].in_memory()
    class_folder = folder / "jpeg" / "all"  # one class is enough for a loader without a network
    class_folder.mkdir(parents=True)
    for number, image in enumerate(_arrays(chosen.images)):
        resized = Image.fromarray(image).resize((config.image_size, config.image_size), Image.Resampling.BICUBIC)
        resized.save(class_folder / f"{number:06}.jpg", quality=90)
    files = sorted(class_folder.iterdir())
    np.save(folder / "pixels.npy", np.stack([decode(file, config.image_size, train.shape[1]) for file in files]))
    return StreamedImages(PixelFile(folder / "pixels.npy"), index, chosen.labels)


def skipped_and_all(config: BenchConfig) -> tuple[int, int]:
    """Return how many batches pass until the workers' queues are full, and how many there are in a measurement."""
    queued = config.workers * _PREFETCH
    skipped = max(config.warmup_steps, queued)
    return skipped, skipped + config.steps + queued  # the queues are as full at the end as at the beginning


def time_batches(batches: Iterable[Any], device: torch.device, skip: int = 0, count: int | None = None) -> float:
    """Return images a second of `count` batches `(images, labels)`, or all, after the first `skip`."""
    iterator = iter(batches)
    deque(islice(iterator, skip), maxlen=0)
    synchronize(device)
    begin = time.perf_counter()
    images = sum(len(labels) for _, labels in islice(iterator, count))
    synchronize(device)
    seconds = time.perf_counter() - begin
    deque(iterator, maxlen=0)  # no worker is busy during the next measurement
    return images / seconds


class TransformedImages(data.Dataset[tuple[Tensor, int]]):
    """`transform(image)` and the label of each image; `images`: `[N, …] uint8`, an array or a tensor."""

    def __init__(self, images: Any, labels: Tensor, transform: Callable[[Any], Tensor]) -> None:
        self.images, self.labels, self.transform = images, labels.tolist(), transform

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.transform(self.images[index]), self.labels[index]


def pil_loader(context: Context) -> "data.DataLoader[Any]":
    """Return the tutorial's loader: PIL images and torchvision's first generation of transforms."""
    train = context.dataset.train.in_memory()
    transform = transforms.Compose([Image.fromarray, _transform(transforms, transforms.ToTensor(), context)])
    return _loader(TransformedImages(_arrays(train.images), train.labels, transform), context)


def v2_loader(context: Context) -> "data.DataLoader[Any]":
    """Return a loader with v2 transforms of uint8 tensors, which torchvision recommends for speed."""
    train = context.dataset.train.in_memory()
    transform = _transform(v2, v2.ToDtype(torch.float32, scale=True), context)
    return _loader(TransformedImages(train.images.cpu(), train.labels, transform), context)


def jpeg_loader(folder: Path, context: Context) -> "data.DataLoader[Any]":
    """Return a loader of torchvision's ImageFolder, for JPEG files of the data set's training images."""
    transform = _transform(transforms, transforms.ToTensor(), context)
    return _loader(ImageFolder(str(folder), transform, loader=Image.open), context)


def _arrays(images: Tensor) -> NDArray[np.uint8]:
    """`[N, C, H, W]` as PIL takes it, image by image: `[N, H, W, 3]` or, if grey, `[N, H, W]`."""
    return images.cpu().permute(0, 2, 3, 1).squeeze(3).contiguous().numpy()


def _transform(module: Any, to_float: Any, context: Context) -> Any:
    """Compose the configured augmentation, `to_float` and the normalisation, of one of torchvision's two modules."""
    config, dataset = context.config, context.dataset
    augmentation, size, shape = config.augmentation, (config.image_size,) * 2, tuple(dataset.train.shape[-2:])
    steps = [module.RandomHorizontalFlip(augmentation.flip)] if augmentation.flip else []
    if augmentation.padding:
        steps.append(module.RandomCrop(shape, augmentation.padding, padding_mode=augmentation.padding_mode))
    if augmentation.scale is not None:
        steps.append(module.RandomResizedCrop(size, augmentation.scale, augmentation.ratio))
    elif shape != size:
        steps.append(module.Resize(size))
    return module.Compose([*steps, to_float, module.Normalize(dataset.mean.tolist(), dataset.std.tolist())])


def _loader(images: TransformedImages | ImageFolder, context: Context) -> "data.DataLoader[Any]":
    """Return a loader of shuffled epochs, whose workers persist: their start must not count."""
    workers, size = context.config.workers, context.config.dataset.batch_size
    return data.DataLoader(
        images,
        batch_size=size,
        sampler=data.RandomSampler(images, num_samples=skipped_and_all(context.config)[1] * size),
        num_workers=workers,
        persistent_workers=workers > 0,
        prefetch_factor=_PREFETCH if workers else None,
        pin_memory=context.device.type == "cuda",
        drop_last=True,
    )
