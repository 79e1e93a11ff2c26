"""Images that are not in memory: the same batches as from memory, in a process that does not grow with them."""

import json
import pickle
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from cnnzoo.config.schema import AugmentationConfig
from cnnzoo.data.batches import BatchLoader
from cnnzoo.data.dataset import channel_statistics
from cnnzoo.data.images import Images, PixelFile, StreamedImages
from cnnzoo.errors import UserError

COUNT = 300
LABELS = torch.arange(COUNT) % 7
CROPS = AugmentationConfig(flip=0.5, scale=[0.3, 1.0], ratio=[0.75, 1.3], padding=0)


@pytest.fixture(scope="module")
def pixels(random_images: Callable[..., Tensor]) -> Tensor:
    return random_images(COUNT, 3, 16, 12)


@pytest.fixture(scope="module", params=["file", "memory"])
def streamed(
    request: pytest.FixtureRequest, pixels: Tensor, tmp_path_factory: pytest.TempPathFactory
) -> StreamedImages:
    """Images that stay in a file, or in a tensor that is not to be moved."""
    if request.param == "memory":
        return Images(pixels, LABELS).streamed(workers=0)
    path = tmp_path_factory.mktemp("pixels") / "pixels.npy"
    np.save(path, pixels.numpy())
    return StreamedImages(PixelFile(path), torch.arange(COUNT), LABELS)


def equal(some: BatchLoader, others: BatchLoader) -> bool:
    return all(
        torch.equal(x, x_) and torch.equal(y, y_) and x.stride() == x_.stride()
        for (x, y), (x_, y_) in zip(some, others, strict=True)
    )


@pytest.mark.parametrize(
    "options",
    [
        {"shuffle": True, "augmentation": CROPS, "seed": 3, "epoch": 5},
        {"shuffle": True, "augmentation": CROPS, "drop_last": True, "channels_last": True},
        {"shuffle": True, "drop_last": True, "rank": 1, "world_size": 3},
        {"batch_size": 500},
        {},
    ],
)
@pytest.mark.parametrize("workers", [0, 1, 3])
def test_streamed_batches_equal_those_from_memory(
    pixels: Tensor, streamed: StreamedImages, workers: int, options: dict[str, Any]
) -> None:
    some = torch.randperm(COUNT, generator=torch.Generator().manual_seed(1))[:250]
    mean, std = torch.full((3,), 0.5), torch.full((3,), 0.2)
    options = {"image_size": 20, "batch_size": 64} | options
    from_memory = BatchLoader(Images(pixels, LABELS)[some], mean, std, **options)
    ours = BatchLoader(streamed.streamed(workers)[some], mean, std, **options)
    assert len(ours) == len(from_memory)
    assert equal(ours, from_memory)
    assert equal(ours, from_memory), "a second time"


def test_subsets_share_the_store(pixels: Tensor, streamed: StreamedImages) -> None:
    first, second = torch.arange(10, 200, 3), torch.tensor([5, 5, 0, 31])
    split = streamed[first][second]
    assert split.store is streamed.store
    assert split.shape == (4, 3, 16, 12)
    assert split.nbytes == 4 * 3 * 16 * 12
    loaded = split.in_memory()
    assert torch.equal(loaded.images, pixels[first[second]])
    assert torch.equal(loaded.labels, LABELS[first[second]])


def test_another_process_opens_the_file_again(pixels: Tensor, streamed: StreamedImages) -> None:
    assert torch.equal(pickle.loads(pickle.dumps(streamed)).in_memory().images, pixels)


def test_streamed_statistics_equal_those_from_memory(pixels: Tensor, streamed: StreamedImages) -> None:
    for ours, theirs in zip(channel_statistics(streamed), channel_statistics(Images(pixels, LABELS)), strict=True):
        assert torch.equal(ours, theirs)


def test_epoch_left_early_leaves_no_thread(streamed: StreamedImages) -> None:
    def reading() -> list[threading.Thread]:
        return [thread for thread in threading.enumerate() if thread.name.startswith("read-ahead")]

    batches = iter(BatchLoader(streamed.streamed(2), torch.zeros(3), torch.ones(3), image_size=16, batch_size=8))
    next(batches)
    assert reading()
    del batches
    assert not reading()


def test_file_is_closed_with_its_last_user(tmp_path: Path, pixels: Tensor) -> None:
    np.save(tmp_path / "pixels.npy", pixels.numpy())
    file = PixelFile(tmp_path / "pixels.npy")
    opened = file._file
    assert not opened.closed
    del file
    assert opened.closed


def test_files_that_hold_no_images_or_lose_them(tmp_path: Path, pixels: Tensor) -> None:
    for name, array in (("float", np.zeros((2, 3, 4, 4))), ("flat", np.zeros(9, np.uint8))):
        np.save(tmp_path / f"{name}.npy", array)
        with pytest.raises(UserError, match="expected uint8"):
            PixelFile(tmp_path / f"{name}.npy")
    (tmp_path / "text.npy").write_text("hello")
    with pytest.raises(UserError, match=r"no \.npy file"):
        PixelFile(tmp_path / "text.npy")
    path = tmp_path / "cut.npy"
    np.save(path, pixels.numpy())
    file = PixelFile(path)
    with path.open("r+b") as opened:
        opened.truncate(path.stat().st_size - 1)
    with pytest.raises(UserError, match="shorter than its header"):
        PixelFile(path)
    split = StreamedImages(file, torch.arange(COUNT), LABELS, workers=2)
    with pytest.raises(UserError, match="shorter than its header"):  # raised in a thread that reads ahead
        list(BatchLoader(split, torch.zeros(3), torch.ones(3), image_size=16, batch_size=64))


# --- memory

PROGRAM = """
import json
import sys
from pathlib import Path

import torch

from cnnzoo.config import compose
from cnnzoo.data.batches import BatchLoader
from cnnzoo.data.dataset import load_dataset
from cnnzoo.data.images import PixelFile, StreamedImages
from cnnzoo.data.sources import Source


def source(path) -> Source:
    file = PixelFile(Path(path))
    everything = StreamedImages(file, torch.arange(file.shape[0]), torch.arange(file.shape[0]) % 10)
    return Source(everything, everything[torch.arange(100)], tuple("0123456789"))


def peak():
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))


if __name__ == "__main__":
    own = ["dataset.source._target_=own.source", "~dataset.source.name", "+dataset.source.path=pixels.npy"]
    config = compose([*own, "dataset.val_size=1000", sys.argv[1]])
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts again here
    before = peak()
    data = load_dataset(config.dataset)
    batches = BatchLoader(data.train, data.mean, data.std, image_size=64, batch_size=128, shuffle=True)
    print(json.dumps([sum(len(labels) for _, labels in batches), peak() - before]))
"""


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="peak memory is read as Linux has it")
def test_memory_does_not_grow_with_the_images(tmp_path: Path) -> None:
    """A data set of 492 MB, read for its statistics and for an epoch."""
    count, size = 40_000, 3 * 64 * 64
    with (tmp_path / "pixels.npy").open("wb") as file:
        header = {"descr": "|u1", "fortran_order": False, "shape": (count, 3, 64, 64)}
        np.lib.format.write_array_header_1_0(file, header)
        file.truncate(file.tell() + count * size)  # zeros that take no room on the disk
    (tmp_path / "own.py").write_text(PROGRAM)
    growth = {}
    for resident in ("true", "false"):
        answer = subprocess.run(
            [sys.executable, "own.py", f"dataset.resident={resident}"],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=True,
        )
        images, growth[resident] = json.loads(answer.stdout)
        assert images == count - 1000
    assert growth["true"] > count * size
    assert growth["false"] < count * size / 3


# --- a GPU


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")
def test_gpu_batches_do_not_depend_on_where_the_images_are(
    tmp_path: Path, random_images: Callable[..., Tensor]
) -> None:
    pixels = random_images(1000)
    np.save(tmp_path / "pixels.npy", pixels.numpy())
    split = Images(pixels, torch.arange(1000))
    mean, std = torch.full((3,), 0.5, device="cuda"), torch.full((3,), 0.25, device="cuda")
    on_gpu, in_main_memory, in_a_file = (
        BatchLoader(kept, mean, std, image_size=40, batch_size=32, shuffle=True, augmentation=CROPS)
        for kept in (
            split.to("cuda"),
            split.streamed(workers=2).to("cuda"),
            StreamedImages(PixelFile(tmp_path / "pixels.npy"), split.labels, split.labels, workers=2).to("cuda"),
        )
    )
    for wanted, *others in zip(on_gpu, in_main_memory, in_a_file, strict=True):
        for images, labels in others:
            assert images.device.type == labels.device.type == "cuda"
            assert torch.equal(images, wanted[0])
            assert torch.equal(labels, wanted[1])
