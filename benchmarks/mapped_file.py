"""Images from one file that does not fit into memory: cnnzoo's threads, compared with processes that map the file."""

import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset

from cnnzoo.bench.context import Context
from cnnzoo.bench.interleave import run_interleaved, section
from cnnzoo.bench.loading import skipped_and_all, time_batches, write_images
from cnnzoo.data.images import PixelFile, StreamedImages
from cnnzoo.data.loaders import train_loader


@dataclass(frozen=True)
class MappedImages(StreamedImages):
    """The alternative: worker processes gather each batch from a memory map of the file."""

    def fetch(self, order: Tensor, batch_slices: Iterable[slice]) -> Iterator[tuple[Tensor, Tensor]]:
        assert isinstance(self.store, PixelFile)
        pixels = torch.from_numpy(np.load(self.store.path, mmap_mode="c"))
        batches: Any = [self.rows[order[batch]] for batch in batch_slices]
        data, pinned = TensorDataset(pixels, self.labels), self.device.type == "cuda"
        for images, labels in DataLoader(data, None, sampler=batches, num_workers=self.workers, pin_memory=pinned):
            yield images.to(self.device, non_blocking=True), labels.to(self.device, non_blocking=True)


def measure_mapped_file(context: Context) -> dict[str, Any]:
    """Compare threads with the processes of `workers`, which have filled their queues before the clock starts."""
    config, device = context.config, context.device
    skip, _ = skipped_and_all(config)
    with tempfile.TemporaryDirectory(prefix="cnnzoo-bench-") as folder:
        images = write_images(context, Path(folder))
        mapped = MappedImages(images.store, images.rows, images.labels, workers=config.workers)
        ours, theirs = (
            train_loader(replace(context.dataset, train=split, resident="auto").to(device), config)
            for split in (images.streamed(2), mapped)
        )
        candidates = {
            "file, 2 threads": partial(time_batches, ours, device),
            f"file, {config.workers} processes": partial(time_batches, theirs, device, skip, config.steps),
        }
        return section("images/s", run_interleaved(candidates, config.rounds), "file, 2 threads")
