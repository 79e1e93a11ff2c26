"""Images that are not in memory: the same batches as from memory, in a process that does not grow with them."""

import json
import pickle
import shutil
import subprocess
import sys
import threading
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from cnnzoo.data import image_folder, memory
from cnnzoo.data.augment import Augmentation
from cnnzoo.data.batches import Batches
from cnnzoo.data.dataset import channel_statistics, load_dataset
from cnnzoo.data.images import Images, PixelFile, StreamedImages
from cnnzoo.errors import UserError
from cnnzoo.evaluate import evaluate_weights
from cnnzoo.figures.data import draw
from cnnzoo.results.record import config_hash, run_folder
from cnnzoo.run import run

COUNT = 300
LABELS = torch.arange(COUNT) % 7


@pytest.fixture(scope="module")
def pixels() -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(256, (COUNT, 3, 16, 12), dtype=torch.uint8, generator=generator)


@pytest.fixture(scope="module", params=["file", "memory"])
def streamed(request, pixels, tmp_path_factory) -> StreamedImages:
    """Images that stay in a file, or in a tensor that is not to be moved."""
    if request.param == "memory":
        return Images(pixels, LABELS).streamed(workers=0)
    path = tmp_path_factory.mktemp("pixels") / "pixels.npy"
    np.save(path, pixels.numpy())
    return StreamedImages(PixelFile(path), torch.arange(COUNT), LABELS)


def equal(some: Batches, others: Batches) -> bool:
    return all(
        torch.equal(x, x_) and torch.equal(y, y_) and x.stride() == x_.stride()
        for (x, y), (x_, y_) in zip(some, others, strict=True)
    )


CROPS = Augmentation(flip=0.5, scale=(0.3, 1.0), ratio=(0.75, 1.3))


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
def test_batches_are_those_from_memory_bit_for_bit(pixels, streamed, workers, options):
    some = torch.randperm(COUNT, generator=torch.Generator().manual_seed(1))[:250]
    mean, std = torch.full((3,), 0.5), torch.full((3,), 0.2)
    resident, from_there = (
        Batches(part[some], mean, std, **({"image_size": 20, "batch_size": 64} | options))
        for part in (Images(pixels, LABELS), streamed.streamed(workers))
    )
    assert len(from_there) == len(resident)
    assert equal(from_there, resident)
    assert equal(from_there, resident), "a second time"


def test_parts_of_parts_are_rows_of_the_same_store(pixels, streamed):
    first, second = torch.arange(10, 200, 3), torch.tensor([5, 5, 0, 31])
    part = streamed[first][second]
    assert part.store is streamed.store
    assert part.shape == (4, 3, 16, 12)
    assert part.nbytes == 4 * 3 * 16 * 12
    loaded = part.resident()
    assert torch.equal(loaded.images, pixels[first[second]])
    assert torch.equal(loaded.labels, LABELS[first[second]])


def test_another_process_opens_the_file_again(pixels, streamed):
    assert torch.equal(pickle.loads(pickle.dumps(streamed)).resident().images, pixels)


def test_statistics_are_those_from_memory(pixels, streamed):
    for ours, theirs in zip(channel_statistics(streamed), channel_statistics(Images(pixels, LABELS)), strict=True):
        assert torch.equal(ours, theirs)


def test_an_epoch_left_early_leaves_no_thread(streamed):
    def reading() -> list[threading.Thread]:
        return [thread for thread in threading.enumerate() if thread.name.startswith("read-ahead")]

    batches = iter(Batches(streamed.streamed(2), torch.zeros(3), torch.ones(3), image_size=16, batch_size=8))
    next(batches)
    assert reading()
    del batches
    assert not reading()


def test_files_that_hold_no_images_or_lose_them(tmp_path, pixels):
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
    with pytest.raises(UserError, match="shorter than it says"):
        PixelFile(path)
    part = StreamedImages(file, torch.arange(COUNT), LABELS, workers=2)
    with pytest.raises(UserError, match="shorter than it says"):  # a thread's error reaches who waits for it
        list(Batches(part, torch.zeros(3), torch.ones(3), image_size=16, batch_size=64))


# --- configuration


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """60 images in three classes."""
    generator = np.random.default_rng(0)
    for number in range(60):
        path = tmp_path / "pets" / ("cats", "dogs", "eels")[number % 3] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(generator.integers(0, 256, (9, 11, 3), dtype=np.uint8)).save(path)
    return tmp_path / "pets"


@pytest.fixture
def settings(config, folder, tmp_path):
    return lambda *overrides, name="run": config(
        "dataset=image_folder", f"dataset.root={folder}", f"paths.data={tmp_path}/data", "dataset.image_size=8",
        "dataset.batch_size=16", "model=mlp", "model.widths=[8]", "trainer.max_epochs=3", "trainer=cpu",
        "trainer.precision=32-true", "trainer.progress_bar=false", "logger=none", *overrides, name=name,
    )  # fmt: skip


@pytest.mark.parametrize("name", ["digits", "image_folder"])
def test_any_data_set_can_be_streamed(config, settings, name):
    compose = settings if name == "image_folder" else lambda *overrides: config(f"dataset={name}", *overrides)
    resident, streamed = (load_dataset(compose(f"dataset.resident={value}")["dataset"]) for value in ("true", "false"))
    assert torch.equal(resident.mean, streamed.mean)
    assert torch.equal(resident.std, streamed.std)
    for part in ("train", "val", "test"):
        ours, theirs = getattr(streamed, part), getattr(resident, part)
        assert isinstance(ours, StreamedImages)
        assert isinstance(theirs, Images)
        assert torch.equal(ours.resident().images, theirs.images)
        assert torch.equal(ours.labels, theirs.labels)


def test_auto_keeps_in_memory_what_leaves_as_much_for_training(settings, monkeypatch, caplog):
    size = 60 * 3 * 8 * 8
    for free, kind in ((2 * size, Images), (2 * size - 1, StreamedImages)):
        monkeypatch.setattr(memory, "free", lambda device, free=free: free)
        with caplog.at_level("INFO", logger="cnnzoo"):
            data = load_dataset(settings()["dataset"])
        assert type(data.train) is type(data.to("cpu").test) is kind
    assert [record.message for record in caplog.records if "batch by batch" in record.message] == [
        "0.0 GB of images, 0.0 GB of cpu memory free: reading them batch by batch (dataset.resident=true keeps them"
        " there)"
    ]
    assert isinstance(load_dataset(settings("dataset.resident=true")["dataset"]).train, Images)
    monkeypatch.setattr(memory, "free", lambda device: size - 1)
    with pytest.raises(UserError, match=r"dataset\.resident=true: .*dataset\.resident=auto"):
        load_dataset(settings("dataset.resident=true")["dataset"])


def test_wrong_values_are_refused(config):
    with pytest.raises(UserError, match=r"dataset\.resident=perhaps: expected auto, true or false"):
        config("dataset.resident=perhaps")
    with pytest.raises(UserError, match=r"dataset\.workers=-1"):
        config("dataset.workers=-1")


def test_the_memory_that_is_free_is_at_most_the_limit_of_the_process_group(monkeypatch):
    files = {
        "/proc/meminfo": "MemTotal: 9000 kB\nMemAvailable:    8000 kB\n",
        "/proc/self/cgroup": "0::/batch/job7\n",
        "/sys/fs/cgroup/batch/job7/memory.max": "max\n",
        "/sys/fs/cgroup/batch/memory.max": f"{3000 * 1024}\n",
        "/sys/fs/cgroup/batch/memory.stat": f"file 123\nanon {1000 * 1024}\n",
    }

    def read_text(path: Path, encoding: str) -> str:
        if str(path) not in files:
            raise FileNotFoundError(path)
        return files[str(path)]

    monkeypatch.setattr(memory.Path, "read_text", read_text)
    assert memory.free() == 2000 * 1024
    del files["/proc/self/cgroup"]
    assert memory.free() == 8000 * 1024
    files.clear()
    assert memory.free() is None
    assert memory.has_room(10**18)


# --- decoding


def test_what_fits_neither_into_memory_nor_onto_the_disk_is_refused_before_decoding(settings, monkeypatch):
    def decode(*args) -> None:
        raise AssertionError("decoded")

    wanted = load_dataset(settings()["dataset"])
    shutil.rmtree(Path(settings()["paths"]["data"]))
    monkeypatch.setattr(image_folder.shutil, "disk_usage", lambda folder: SimpleNamespace(free=60 * 3 * 8 * 8 - 1))
    data = load_dataset(settings()["dataset"])  # memory has room
    assert torch.equal(data.train.images, wanted.train.images)
    monkeypatch.setattr(memory, "free", lambda device: 60 * 3 * 8 * 8)
    monkeypatch.setattr(image_folder, "decode", decode)
    with pytest.raises(UserError, match=r"60 images of 3×8×8 take .* paths\.data .* dataset\.image_size=8"):
        load_dataset(settings()["dataset"])


@pytest.mark.parametrize("interruption", [KeyboardInterrupt, SystemExit])
def test_an_interrupted_decoding_never_counts(settings, folder, monkeypatch, interruption):
    decode = image_folder.decode
    monkeypatch.setattr(image_folder, "_CHUNK_BYTES", 16 * 3 * 8 * 8)  # four chunks

    def until_the_40th(path: Path, *args) -> np.ndarray:
        if path.stem == "40":
            raise interruption
        return decode(path, *args)

    monkeypatch.setattr(image_folder, "decode", until_the_40th)
    cache = folder.parent / "data" / ".cache"
    with pytest.raises(interruption):
        load_dataset(settings()["dataset"])
    assert [path.suffix for path in cache.iterdir()] == [".lock"]
    monkeypatch.setattr(image_folder, "decode", decode)
    (left,) = (path.with_suffix(".partial") for path in cache.iterdir())
    left.write_bytes(b"half of an array")  # as after a SIGKILL
    data = load_dataset(settings()["dataset"])
    assert not left.exists()
    for label, name in enumerate(data.classes):
        files = {np.asarray(Image.open(file)).tobytes() for file in (folder / name).iterdir()}
        assert len(files) == 20
        assert sum(int((part.labels == label).sum()) for part in (data.train, data.val, data.test)) == 20


# --- memory

OWN_SOURCE = """
import json
from pathlib import Path

import torch

from cnnzoo.data.batches import Batches
from cnnzoo.data.dataset import load_dataset
from cnnzoo.data.images import PixelFile, StreamedImages
from cnnzoo.data.sources import Source
from cnnzoo.training.devices import peak_memory, reset_peak_memory

CPU = torch.device("cpu")


def source(path):
    file = PixelFile(Path(path))
    everything = StreamedImages(file, torch.arange(file.shape[0]), torch.arange(file.shape[0]) % 10)
    return Source(everything, everything[torch.arange(100)], tuple("0123456789"))


def growth(config):
    reset_peak_memory(CPU)
    before = peak_memory(CPU)
    data = load_dataset(config)
    batches = Batches(data.train, data.mean, data.std, image_size=64, batch_size=128, shuffle=True)
    print(json.dumps([sum(len(labels) for _, labels in batches), peak_memory(CPU) - before]))
"""


def test_memory_does_not_grow_with_the_images(config, tmp_path):
    """An own data set of 492 MB, read for its statistics and for an epoch."""
    count, size = 40_000, 3 * 64 * 64
    with (tmp_path / "pixels.npy").open("wb") as file:
        np.lib.format.write_array_header_1_0(
            file, {"descr": "|u1", "fortran_order": False, "shape": (count, 3, 64, 64)}
        )
        file.truncate(file.tell() + count * size)  # zeros that take no room on the disk
    (tmp_path / "own.py").write_text(OWN_SOURCE)
    growth = {}
    for resident in (True, False):
        section = config(f"dataset.resident={resident}", "dataset.val_size=1000")["dataset"]
        section["source"] = {"_target_": "own.source", "path": "pixels.npy"}
        answer = subprocess.run(
            [sys.executable, "-c", f"import own; own.growth({section})"],
            cwd=tmp_path, capture_output=True, text=True, check=True,
        )  # fmt: skip
        images, growth[resident] = json.loads(answer.stdout)
        assert images == count - 1000
    assert growth[True] > count * size
    assert growth[False] < count * size / 3


# --- commands


def test_a_run_is_the_same_however_its_images_are_kept(settings, tmp_path):
    resident, streamed = settings("dataset.resident=true"), settings("dataset.resident=false", "dataset.workers=1")
    assert config_hash(resident) == config_hash(streamed)
    first = run(resident, "")
    again = run({**streamed, "rerun": True}, "")
    for figure in ("val_accuracy", "val_loss", "test_accuracy", "test_loss"):
        assert again[figure] == first[figure]
    evaluated = evaluate_weights({**settings(name="evaluate"), "weights": str(run_folder(resident))})
    assert evaluated["test_loss"] == first["test_loss"]


def test_a_run_begun_in_memory_goes_on_without(settings, monkeypatch):
    alone = run(settings("dataset.resident=true"), "")
    logits = np.load(run_folder(settings()) / "predictions.npz")["logits"]
    steps = []
    whole = Batches.__iter__

    def interrupted_in_the_third_epoch(self):
        if self.shuffle and self.epoch == 2:
            raise KeyboardInterrupt
        steps.append(self.epoch)
        return whole(self)

    monkeypatch.setattr(Batches, "__iter__", interrupted_in_the_third_epoch)
    with pytest.raises((KeyboardInterrupt, SystemExit)):
        run(settings("dataset.resident=true", "rerun=true"), "")
    monkeypatch.undo()
    resumed = run(settings("dataset.resident=false"), "")
    assert resumed["test_loss"] == alone["test_loss"]
    np.testing.assert_array_equal(np.load(run_folder(settings()) / "predictions.npz")["logits"], logits)


def test_pictures_are_the_same(settings, tmp_path):
    drawn = {
        value: draw(settings(f"dataset.resident={value}", f"out={tmp_path}/{value}", name="figures_data"))
        for value in ("true", "false")
    }
    assert drawn["true"][1] == drawn["false"][1]
    for one, other in zip(drawn["true"][0], drawn["false"][0], strict=True):
        assert np.array_equal(np.asarray(Image.open(one)), np.asarray(Image.open(other)))
