"""The images of a split: in the memory of the training device, or read batch by batch from a file or main memory.

`Images` and `StreamedImages` give the same batches, bit for bit.
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

    def fetch(self, order: Tensor, batch_slices: Iterable[slice]) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield images and labels of `order[batch]` for each slice, on `device`."""
        order = order.to(self.device)
        for batch in batch_slices:
            index = order[batch]
            yield self.images.index_select(0, index), self.labels[index]

    def in_memory(self) -> "Images":
        return self

    def streamed(self, workers: int) -> "StreamedImages":
        return StreamedImages(self.images, torch.arange(len(self)), self.labels, self.device, workers)


class PixelFile:
    """`[N, C, H, W] uint8` in a `.npy` file, of which single images are read on demand.

    They are read and not memory-mapped, because mapped pages count as memory of the process, which batch systems limit
    and `peak_memory_bytes` reports; and a failing disk would kill the process instead of raising an error.

    Raises:
        UserError: the file does not hold such an array, or less than its header says.
        OSError: it cannot be read.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = path.open("rb")  # stays open: a new file of this name is another data set
        weakref.finalize(self, self._file.close)
        try:
            if np.lib.format.read_magic(self._file) != (1, 0):
                raise ValueError("another version of the format")
            shape, transposed, dtype = np.lib.format.read_array_header_1_0(self._file)
        except ValueError as error:
            raise UserError(f"{path} is no .npy file of images: {error}.") from error
        if dtype != np.uint8 or len(shape) != 4 or transposed:
            raise UserError(f"{path} holds {dtype} {shape}; expected uint8 [N, C, H, W] in C order.")
        self.shape = torch.Size(shape)
        self.nbytes = self.shape.numel()
        self._start = self._file.tell()
        self._end = self._file.seek(0, os.SEEK_END)
        if self._end < self._start + self.nbytes:
            raise self._truncated()

    def read(self, rows: Tensor, out: Tensor) -> None:
        """Read the images `rows` `[n] int64` into `out` `[n, C, H, W] uint8`; any number of threads may."""
        size = self.shape[1:].numel()
        for buffer, row in zip(out.numpy().reshape(len(rows), size), rows.tolist(), strict=True):
            if os.preadv(self._file.fileno(), [buffer.data], self._start + row * size) != size:
                raise self._truncated()

    def crc(self) -> int:
        """CRC-32 of all pixels."""
        value = 0
        self._file.seek(self._start)
        for start in range(0, self.nbytes, 2**24):
            value = zlib.crc32(self._file.read(min(2**24, self.nbytes - start)), value)
        return value

    def trailer(self) -> bytes:
        """What follows the array in the file."""
        self._file.seek(self._start + self.nbytes)
        return self._file.read()

    def _truncated(self) -> UserError:
        return UserError(
            f"{self.path} is shorter than its header says: it is damaged. Delete it to have it made again."
        )

    def __reduce__(self) -> tuple[type["PixelFile"], tuple[Path]]:
        return PixelFile, (self.path,)  # another process opens it again


@dataclass(frozen=True)
class StreamedImages:
    """The rows `rows` `[N] int64` of `store` `[M, C, H, W] uint8`, with their `labels` `[N] int64`, for `device`.

    `store` stays on disk or in main memory. While a batch is processed, `workers` threads read the next ones (0: none
    does). Threads suffice because reads release the interpreter's lock; processes would add a copy per batch.
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

    def fetch(self, order: Tensor, batch_slices: Iterable[slice]) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield images and labels of `order[batch]` for each slice, on `device`."""

        def read(batch: slice) -> tuple[Tensor, Tensor]:
            index = order[batch]
            return self._read(self.rows[index]), self.labels[index]

        for images, labels in _read_ahead(read, batch_slices, self.workers):
            yield images.to(self.device, non_blocking=True), labels.to(self.device, non_blocking=True)

    def _read(self, rows: Tensor) -> Tensor:
        # A GPU copies from pinned memory without the CPU; torch does not reuse that memory before the copy is done.
        pinned = self.device.type == "cuda"
        out = torch.empty((len(rows), *self.shape[1:]), dtype=torch.uint8, pin_memory=pinned)
        if isinstance(self.store, Tensor):
            return torch.index_select(self.store, 0, rows, out=out)
        self.store.read(rows, out)
        return out

    def in_memory(self) -> Images:
        """Return them read into the memory of `device`."""
        return Images(self.to(CPU)._read(self.rows), self.labels).to(self.device)

    def streamed(self, workers: int) -> "StreamedImages":
        return replace(self, workers=workers)


Split = Images | StreamedImages


_Batch = tuple[Tensor, Tensor]


def _read_ahead(read: Callable[[slice], _Batch], batch_slices: Iterable[slice], workers: int) -> Iterator[_Batch]:
    """Yield `read(batch)` for each slice, in order, while `workers` threads read the next ones."""
    if not workers:
        yield from map(read, batch_slices)
        return
    batch_slices = iter(batch_slices)
    pool = ThreadPoolExecutor(workers, thread_name_prefix="read-ahead")
    try:
        pending = deque(pool.submit(read, batch) for batch in islice(batch_slices, workers + 1))
        while pending:
            result = pending.popleft().result()
            pending.extend(pool.submit(read, batch) for batch in islice(batch_slices, 1))
            yield result
    finally:
        pool.shutdown(cancel_futures=True)  # an epoch may be left early
