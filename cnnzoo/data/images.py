"""A part of a data set: images that lie on the device that trains, or that stay where they are and come in batches.

`Images` is the one, `StreamedImages` the other. Both give the same batches, bit for bit.
"""

import os
import weakref
import zlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from cnnzoo.data.memory import CPU
from cnnzoo.errors import UserError


@dataclass(frozen=True)
class Images:
    """`images` `[N, C, H, W] uint8`, `labels` `[N] int64`, `0 <= label < len(classes)`."""

    images: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: Tensor) -> "Images":
        return Images(self.images[index], self.labels[index])

    @property
    def shape(self) -> torch.Size:
        return self.images.shape

    @property
    def device(self) -> torch.device:
        return self.images.device

    @property
    def nbytes(self) -> int:
        return self.images.nbytes

    def to(self, device: torch.device | str) -> "Images":
        return Images(self.images.to(device), self.labels.to(device))

    def fetch(self, order: Tensor, cuts: Iterable[slice]) -> Iterator[tuple[Tensor, Tensor]]:
        """Images and labels of `order[cut]` for each cut, on `device`."""
        order = order.to(self.device)
        for cut in cuts:
            index = order[cut]
            yield self.images.index_select(0, index), self.labels[index]

    def resident(self) -> "Images":
        return self

    def streamed(self, workers: int) -> "StreamedImages":
        return StreamedImages(self.images, torch.arange(len(self)), self.labels, self.device, workers)


class PixelFile:
    """`[N, C, H, W] uint8` in a `.npy` file, whose rows are read when they are asked for.

    Read and not mapped: mapped pages count as the process's memory, and a file that fails would kill it by a signal.

    Raises:
        UserError: the file does not hold such an array, or less than it says.
        OSError: it cannot be read.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.descriptor = os.open(path, os.O_RDONLY)  # kept open: a file that takes its place is another data set
        weakref.finalize(self, os.close, self.descriptor)
        with open(self.descriptor, "rb", closefd=False) as file:
            try:
                if np.lib.format.read_magic(file) != (1, 0):
                    raise ValueError("another version of the format")
                shape, transposed, dtype = np.lib.format.read_array_header_1_0(file)
            except ValueError as error:
                raise UserError(f"{path} is no .npy file of images: {error}.") from error
            self.start = file.tell()
            self.end = file.seek(0, os.SEEK_END)
        if dtype != np.uint8 or len(shape) != 4 or transposed:
            raise UserError(f"{path} holds {dtype} {shape}; expected uint8 [N, C, H, W] in C order.")
        self.shape = torch.Size(shape)
        self.nbytes = self.shape.numel()
        if self.end < self.start + self.nbytes:
            raise self._cut_off()

    def read(self, rows: Tensor, out: Tensor) -> None:
        """Writes the rows `rows` `[n] int64` into `out` `[n, C, H, W] uint8`; from any number of threads at a time."""
        size = self.shape[1:].numel()
        for place, row in zip(out.numpy().reshape(len(rows), size), rows.tolist(), strict=True):
            if os.preadv(self.descriptor, [place.data], self.start + row * size) != size:
                raise self._cut_off()

    def crc(self) -> int:
        """CRC-32 of all pixels."""
        value = 0
        buffer = bytearray(2**24)
        for at in range(0, self.nbytes, len(buffer)):
            count = os.preadv(self.descriptor, [buffer], self.start + at)
            value = zlib.crc32(memoryview(buffer)[: min(count, self.nbytes - at)], value)
        return value

    def after(self) -> bytes:
        """What stands in the file behind the array."""
        at = self.start + self.nbytes
        return os.pread(self.descriptor, self.end - at, at)

    def _cut_off(self) -> UserError:
        return UserError(f"{self.path} is shorter than it says: it is damaged. Delete it to have it made again.")

    def __reduce__(self) -> tuple[type["PixelFile"], tuple[Path]]:
        return PixelFile, (self.path,)  # another process opens it again


@dataclass(frozen=True)
class StreamedImages:
    """The rows `rows` `[N] int64` of `store` `[M, C, H, W] uint8`, with their `labels` `[N] int64`, for `device`.

    `store` stays where it is, on a disk or in main memory. While a batch is worked on, `workers` threads read the next
    ones (0: none does). Threads, for reading needs no Python: processes would only copy each batch once more.
    """

    store: Tensor | PixelFile
    rows: Tensor
    labels: Tensor
    device: torch.device = CPU
    workers: int = 0

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: Tensor) -> "StreamedImages":
        return replace(self, rows=self.rows[index], labels=self.labels[index])

    @property
    def shape(self) -> torch.Size:
        return torch.Size((len(self), *self.store.shape[1:]))

    @property
    def nbytes(self) -> int:
        return self.shape.numel()

    def to(self, device: torch.device | str) -> "StreamedImages":
        return replace(self, device=torch.device(device))

    def fetch(self, order: Tensor, cuts: Iterable[slice]) -> Iterator[tuple[Tensor, Tensor]]:
        """Images and labels of `order[cut]` for each cut, on `device`."""

        def read(cut: slice) -> tuple[Tensor, Tensor]:
            index = order[cut]
            return self._read(self.rows[index]), self.labels[index]

        for batch in _ahead(read, cuts, self.workers):
            images, labels = (tensor.to(self.device, non_blocking=True) for tensor in batch)
            yield images, labels

    def _read(self, rows: Tensor) -> Tensor:
        # From pinned memory the GPU copies by itself; torch does not use it anew before that is done.
        pinned = self.device.type == "cuda"
        out = torch.empty((len(rows), *self.shape[1:]), dtype=torch.uint8, pin_memory=pinned)
        if isinstance(self.store, Tensor):
            return torch.index_select(self.store, 0, rows, out=out)
        self.store.read(rows, out)
        return out

    def resident(self) -> Images:
        """All of them in memory."""
        return Images(self.to(CPU)._read(self.rows), self.labels).to(self.device)

    def streamed(self, workers: int) -> "StreamedImages":
        return replace(self, workers=workers)


Part = Images | StreamedImages


_Batch = tuple[Tensor, Tensor]


def _ahead(read: Callable[[slice], _Batch], cuts: Iterable[slice], workers: int) -> Iterator[_Batch]:
    """`read` of each cut, in order, the next ones being read meanwhile."""
    if not workers:
        yield from map(read, cuts)
        return
    cuts = iter(cuts)
    pool = ThreadPoolExecutor(workers, thread_name_prefix="read-ahead")
    try:
        waiting = deque(pool.submit(read, cut) for cut in islice(cuts, workers + 1))
        while waiting:
            result = waiting.popleft().result()
            waiting.extend(pool.submit(read, cut) for cut in islice(cuts, 1))
            yield result
    finally:
        pool.shutdown(cancel_futures=True)  # an epoch may be left early
