"""A folder of the user's own images: layouts, splits, decoding, the cache, and messages about bad folders."""

import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from cnnzoo.config import Config, compose, config_hash, run_folder
from cnnzoo.data import decoding as module
from cnnzoo.data import memory
from cnnzoo.data.dataset import Dataset, load_dataset
from cnnzoo.data.decoding import decode
from cnnzoo.data.images import Split
from cnnzoo.errors import UserError

Load = Callable[..., Dataset]
Write = Callable[..., None]
FolderConfig = Callable[..., Config]


def numbers(split: Split) -> list[int]:
    return sorted((split.in_memory().images[:, 0, 0, 0] // 2).tolist())


def everything(data: Dataset) -> list[int]:
    return sorted(numbers(data.train) + numbers(data.val) + numbers(data.test))


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The files that are decoded from here on."""
    paths: list[Path] = []

    def counting(path: Path, *args: Any) -> NDArray[np.uint8]:
        paths.append(path)
        return decode(path, *args)

    monkeypatch.setattr(module, "decode", counting)
    return paths


# --- splits


def test_undivided_folder_is_split_class_by_class(pets: Path, load: Load) -> None:
    data = load(pets)  # 60: a fifth for the test, then a tenth of 48
    assert data.classes == ("cats", "dogs", "eels")
    assert [split.labels.bincount().tolist() for split in (data.test, data.val, data.train)] == [
        [2, 4, 6],
        [1, 2, 2],
        [7, 14, 22],
    ]
    assert everything(data) == [*range(60)]
    for split in data.splits:
        labels = torch.bucketize(split.in_memory().images[:, 0, 0, 0] // 2, torch.tensor([9, 29]))
        torch.testing.assert_close(split.labels, labels)


def test_split_never_changes(pets: Path, load: Load) -> None:
    """A run's identity holds only the seed of its split: what that draws is as it was in the first release."""
    data = load(pets)
    assert numbers(data.test) == [2, 6, 13, 16, 23, 26, 34, 35, 36, 37, 39, 48]
    assert numbers(data.val) == [0, 18, 25, 46, 54]


def test_split_depends_on_its_seed_only(pets: Path, load: Load, tmp_path: Path) -> None:
    first, again, other = load(pets), load(pets, "seed=7"), load(pets, "dataset.split_seed=7")
    assert numbers(first.test) == numbers(again.test) != numbers(other.test)
    shutil.copytree(pets, tmp_path / "elsewhere")
    assert numbers(load(tmp_path / "elsewhere").test) == numbers(first.test)


@pytest.mark.parametrize(("test_size", "val_size", "expected"), [(12, 9, (39, 9, 12)), (0.5, 3, (27, 3, 30))])
def test_sizes_are_numbers_or_shares(
    pets: Path, load: Load, test_size: float, val_size: float, expected: tuple[int, int, int]
) -> None:
    data = load(pets, f"dataset.source.test_size={test_size}", f"dataset.val_size={val_size}")
    assert (len(data.train), len(data.val), len(data.test)) == expected


def test_every_class_is_in_every_split(tmp_path: Path, load: Load, write: Write) -> None:
    for number in range(103):
        write(tmp_path / "set" / ("rare" if number < 3 else "common") / f"{number}.png", number)
    data = load(tmp_path / "set", "dataset.source.test_size=0.01", "dataset.val_size=2")
    assert [split.labels.bincount(minlength=2).tolist() for split in data.splits] == [[98, 1], [1, 1], [1, 1]]


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("dataset.source.test_size=2", r"dataset\.source\.test_size=2"),
        ("dataset.source.test_size=0.99", "both sides"),
        ("dataset.val_size=48", r"dataset\.val_size=48"),
        ("dataset.val_size=1.5", r"dataset\.val_size=1\.5"),
        ("dataset.val_size=-1", r"dataset\.val_size=-1"),
        ("dataset.val_size=few", r"dataset\.val_size=few"),
    ],
)
def test_impossible_sizes(pets: Path, load: Load, override: str, words: str) -> None:
    with pytest.raises(UserError, match=words):
        load(pets, override)


def test_class_too_small_to_divide(pets: Path, load: Load) -> None:
    for number in range(2, 10):
        (pets / "cats" / f"{number}.png").unlink()
    with pytest.raises(UserError, match="'cats' is too small"):
        load(pets)


@pytest.fixture
def divided(tmp_path: Path, write: Write) -> Callable[[Mapping[str, int]], Path]:
    """Make a folder with `counts[split]` images of both classes in each split, numbered consecutively."""

    def make(counts: Mapping[str, int]) -> Path:
        number = 0
        for split, count in counts.items():
            for _ in range(count):
                for name in ("left", "right"):
                    write(tmp_path / "set" / split / name / "deeper" / f"{number}.png", number)
                    number += 1
        return tmp_path / "set"

    return make


@pytest.mark.parametrize(
    ("counts", "train", "val", "test"),
    [
        ({"train": 6, "val": 2, "test": 3}, [*range(12)], [*range(12, 16)], [*range(16, 22)]),
        ({"Training": 6, "validation": 2, "Testing": 3}, [*range(12)], [*range(12, 16)], [*range(16, 22)]),
        ({"train": 6, "test": 3}, None, None, [*range(12, 18)]),
        ({"train": 6, "valid": 3}, None, [*range(12, 18)], None),
    ],
)
def test_splits_of_the_folder_are_kept_and_others_drawn_from_train(
    divided: Callable[[Mapping[str, int]], Path],
    load: Load,
    counts: dict[str, int],
    train: list[int] | None,
    val: list[int] | None,
    test: list[int] | None,
) -> None:
    root = divided(counts)
    (root / "notes").mkdir()
    data = load(root)
    for split, expected in zip(data.splits, (train, val, test), strict=True):
        assert expected is None or numbers(split) == expected
    assert everything(data) == [*range(2 * sum(counts.values()))]


def test_class_may_be_called_train(tmp_path: Path, load: Load, write: Write) -> None:
    for name in ("train", "bus"):
        for number in range(5):
            write(tmp_path / "set" / name / f"{number}.png", number)
    assert load(tmp_path / "set").classes == ("bus", "train")


# --- links


@pytest.mark.parametrize("target", [".", "..", "../dogs", "../.."])
def test_link_to_a_folder_of_the_data_set_adds_nothing(pets: Path, load: Load, target: str) -> None:
    """`..` and `../..` hold the folder that the link is in: a loop."""
    for folder in ("cats", "eels"):
        (pets / folder / "link").symlink_to(target)
    if target == "../..":
        (pets.parent / "unrelated.txt").touch()
    assert everything(load(pets)) == [*range(60)]


def test_links_to_other_folders_and_files_are_followed_once(
    pets: Path, load: Load, write: Write, tmp_path: Path
) -> None:
    for number in (60, 61):
        write(tmp_path / "elsewhere" / f"{number}.png", number)
    (tmp_path / "elsewhere" / "loop").symlink_to(".")
    (tmp_path / "elsewhere" / "61_again.png").symlink_to("61.png")
    for name in ("one", "two"):
        (pets / "cats" / name).symlink_to(tmp_path / "elsewhere")
    (pets / "cats" / "0_again.png").symlink_to("0.png")
    (pets / "cats" / "x.png").symlink_to("x.png")  # a link to itself
    assert everything(load(pets, "dataset.source.unreadable=skip")) == [*range(62)]


def test_linked_classes_and_splits(
    pets: Path, load: Load, write: Write, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Test images may be those of validation, which is said."""
    for name in ("cats", "dogs"):
        (tmp_path / "set" / "train").mkdir(parents=True, exist_ok=True)
        (tmp_path / "set" / "train" / name).symlink_to(pets / name)
        write(tmp_path / "set" / "test" / name / "x.png", 99)
    (tmp_path / "set" / "val").symlink_to("test")
    data = load(tmp_path / "set")
    assert [numbers(split) for split in data.splits] == [[*range(30)], [99, 99], [99, 99]]
    assert "2 images are both in val and in test" in caplog.text


@pytest.mark.parametrize("kind", ["symbolic", "hard"])
def test_image_that_is_reached_twice(pets: Path, load: Load, tmp_path: Path, kind: str) -> None:
    """Once where its class and split are the same; refused where it would be in two of either."""

    def link(path: Path, target: Path) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.symlink_to(target) if kind == "symbolic" else path.hardlink_to(target)
        return path

    link(pets / "cats" / "again.png", pets / "cats" / "0.png")
    assert everything(load(pets)) == [*range(60)]
    other_class = link(pets / "eels" / "cat.png", pets / "cats" / "0.png")
    with pytest.raises(UserError, match=r"cats/0\.png and .*eels/cat\.png are one image in two classes"):
        load(pets)
    other_class.unlink()
    root = tmp_path / "set"
    root.mkdir()
    for name in ("cats", "dogs", "eels"):
        link(root / "test" / name / "x.png", next((pets / name).iterdir()))
    (root / "train").symlink_to(pets)
    with pytest.raises(UserError, match="are one image: a network would be trained on what it is tested on"):
        load(root)


def test_linked_class_is_refused(pets: Path, load: Load) -> None:
    (pets / "kittens").symlink_to("cats")
    with pytest.raises(UserError, match="are one image in two classes"):
        load(pets)


def test_broken_link_is_an_unreadable_file(pets: Path, load: Load) -> None:
    (pets / "cats" / "gone.png").symlink_to(pets / "nowhere.png")
    with pytest.raises(UserError, match=r"1 of 61 files cannot be read(.|\n)*gone\.png: No such file or directory"):
        load(pets)


def test_pipe_is_an_unreadable_file(pets: Path, load: Load) -> None:
    """Which nobody ever writes to: to open it would wait for ever."""
    os.mkfifo(pets / "cats" / "x.png")
    with pytest.raises(UserError, match=r"1 of 61 files cannot be read(.|\n)*x\.png: ValueError: not a regular file"):
        load(pets)


@pytest.mark.parametrize("folder", ["pets/cats/deeper", "pets"])
def test_folder_that_cannot_be_read(
    pets: Path, folder_config: FolderConfig, folder: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    (pets / "cats" / "deeper").mkdir()
    refused, scandir = pets.parent / folder, os.scandir

    def refusing(path: Any) -> Any:
        if Path(path) == refused:
            raise PermissionError(13, "Permission denied")
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refusing)
    monkeypatch.setattr(os, "listdir", lambda path: [entry.name for entry in refusing(path)])
    with pytest.raises(UserError, match=f"{folder} cannot be read .Permission denied.; make it readable"):
        load_dataset(folder_config(pets).dataset)


# --- the digest of the images


def test_digest_follows_the_images(pets: Path, load: Load, write: Write, tmp_path: Path) -> None:
    """And neither the folder's place nor the files' times nor the cache."""
    digest = load(pets).digest
    shutil.rmtree(tmp_path / "data")
    os.utime(pets / "dogs" / "12.png", (1, 1))
    assert load(pets).digest == load(pets).digest == digest
    shutil.copytree(pets, tmp_path / "elsewhere" / "pets")
    assert load(tmp_path / "elsewhere" / "pets").digest == digest
    write(pets / "cats" / "60.png", 60)
    added = load(pets).digest
    (pets / "cats" / "60.png").rename(pets / "eels" / "60.png")
    moved = load(pets).digest
    write(pets / "eels" / "60.png", 61)
    changed = load(pets).digest
    (pets / "eels" / "60.png").write_bytes(b"no image")
    unreadable = load(pets, "dataset.source.unreadable=skip").digest
    (pets / "eels" / "60.png").unlink()
    write(pets / "cats" / "zz.png", 60)
    last_of_a_class = load(pets).digest
    (pets / "cats" / "zz.png").rename(pets / "dogs" / "!.png")  # the pixels are the same, in the same order
    first_of_the_next = load(pets).digest
    assert len({digest, added, moved, changed, unreadable, last_of_a_class, first_of_the_next}) == 7
    (pets / "dogs" / "!.png").unlink()
    assert load(pets).digest == digest


def test_digest_without_a_cache(pets: Path, load: Load, folder_config: FolderConfig, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    data = load_dataset(folder_config(pets, f"paths.data={tmp_path}/file").dataset)
    assert data.digest == load(pets).digest


# --- decoding


def reference(image: Image.Image, size: int) -> NDArray[np.uint8]:
    """The central square, resized: by PIL's own resize of a box."""
    width, height = image.size
    side = min(width, height)
    left, top = (width - side) / 2, (height - side) / 2
    return np.asarray(image.resize((size, size), Image.Resampling.BILINEAR, (left, top, left + side, top + side)))


def noise(height: int, width: int, seed: int = 0) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


@pytest.mark.parametrize(("height", "width"), [(48, 48), (37, 90), (101, 24), (5, 9)])
def test_central_square_is_resized(tmp_path: Path, height: int, width: int) -> None:
    image = Image.fromarray(noise(height, width))
    image.save(tmp_path / "x.png")
    difference = decode(tmp_path / "x.png", 24, 3).transpose(1, 2, 0).astype(int) - reference(image, 24)
    assert abs(difference).max() <= 1


FORMATS = {
    "png": ["RGB", "L", "P", "RGBA", "LA", "1"],
    "bmp": ["RGB", "L", "P", "RGBA", "1"],
    "tif": ["RGB", "L", "P", "RGBA", "LA", "CMYK", "1"],
    "webp": ["RGB", "RGBA"],
    "gif": ["RGB", "L", "P", "1"],
}


@pytest.mark.parametrize(("suffix", "mode"), [(suffix, mode) for suffix, modes in FORMATS.items() for mode in modes])
def test_formats_and_modes_are_converted_like_pil(tmp_path: Path, suffix: str, mode: str) -> None:
    file = tmp_path / f"x.{suffix}"
    options: dict[str, Any] = {"lossless": True} if suffix == "webp" else {}
    Image.fromarray(noise(16, 16)).convert(mode).save(file, **options)
    with Image.open(file) as opened:
        image = opened.convert("RGBA") if opened.mode == "P" else opened
        np.testing.assert_array_equal(decode(file, 16, 1)[0], np.asarray(image.convert("L")))
        np.testing.assert_array_equal(decode(file, 16, 3).transpose(1, 2, 0), np.asarray(image.convert("RGB")))


@pytest.mark.parametrize(("dtype", "suffix"), [(np.uint16, "png"), (np.uint16, "tif"), (np.int32, "tif")])
def test_sixteen_bits_are_scaled(tmp_path: Path, dtype: Any, suffix: str) -> None:
    values: NDArray[Any] = np.linspace(0, 65535, 256).astype(dtype).reshape(16, 16)
    Image.fromarray(values).save(tmp_path / f"x.{suffix}")
    np.testing.assert_array_equal(decode(tmp_path / f"x.{suffix}", 16, 1)[0], np.arange(256).reshape(16, 16))
    assert decode(tmp_path / f"x.{suffix}", 16, 3).shape == (3, 16, 16)


def test_photographs_are_upright(tmp_path: Path) -> None:
    pixels = np.zeros((20, 20, 3), dtype=np.uint8)
    pixels[:, :10] = 255
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned: show it a quarter further clockwise
    Image.fromarray(pixels).save(tmp_path / "x.png", exif=exif)
    ours = decode(tmp_path / "x.png", 20, 1)[0]
    assert ours[:9].min() == 255
    assert ours[11:].max() == 0


def test_large_jpegs_are_decoded_at_a_smaller_scale(tmp_path: Path) -> None:
    smooth = np.asarray(Image.fromarray(noise(12, 20)).resize((1000, 600), Image.Resampling.BICUBIC))
    Image.fromarray(smooth).save(tmp_path / "x.jpg", quality=95)
    with Image.open(tmp_path / "x.jpg") as image:
        wanted = reference(image, 32)
    difference = np.abs(decode(tmp_path / "x.jpg", 32, 3).transpose(1, 2, 0).astype(int) - wanted)
    assert difference.mean() < 1
    assert difference.max() <= 6


def test_all_images_grey_or_colour(pets: Path, load: Load) -> None:
    sizes = ("dataset.val_size=3", "dataset.source.test_size=3")
    grey = load(pets, "dataset.channels=1", *sizes).train.in_memory().images
    colour = load(pets, *sizes).train.in_memory().images
    wanted = [np.asarray(Image.fromarray(image).convert("L")) for image in colour.permute(0, 2, 3, 1).numpy()]
    np.testing.assert_array_equal(grey[:, 0], wanted)


def test_statistics_are_those_of_the_training_images(pets: Path, load: Load) -> None:
    data = load(pets)
    pixels = data.train.in_memory().images.double() / 255
    torch.testing.assert_close(data.mean.double(), pixels.mean(dim=(0, 2, 3)), atol=1e-6, rtol=0)
    assert data.mean[1].item() == pytest.approx(100 / 255)


# --- the cache


def test_images_are_decoded_once(pets: Path, load: Load, decoded: list[Path]) -> None:
    first = load(pets)
    assert len(decoded) == 60
    again = load(pets, "dataset.split_seed=42", "dataset.batch_size=3")
    assert len(decoded) == 60
    assert torch.equal(again.train.in_memory().images, first.train.in_memory().images)
    load(pets, "dataset.split_seed=1")
    assert len(decoded) == 60, "another split needs no decoding"
    load(pets, "dataset.channels=1")
    assert len(decoded) == 120


def test_changed_and_new_files_are_noticed(pets: Path, load: Load, write: Write, decoded: list[Path]) -> None:
    load(pets)
    write(pets / "cats" / "0.png", 99)
    assert 99 in everything(load(pets))
    write(pets / "cats" / "60.png", 60)
    assert everything(load(pets)) == [*range(1, 61), 99]
    os.utime(pets / "dogs" / "12.png", (1, 1))  # the same size, and possibly other content
    load(pets)
    assert len(decoded) == 60 + 60 + 61 + 61
    assert [path.suffix for path in sorted(pets.parent.glob("data/.cache/*"))] == [".lock", ".npy"], (
        "an old cache is replaced"
    )


@pytest.mark.parametrize("damage", ["cut", "bit", "empty", "no array"])
def test_damaged_cache_is_decoded_again(
    pets: Path, load: Load, decoded: list[Path], damage: str, tmp_path: Path
) -> None:
    wanted = load(pets)
    (kept,) = tmp_path.glob("data/.cache/*.npy")
    content = bytearray(kept.read_bytes())
    if damage == "bit":
        content[2000] ^= 16
    contents = {"cut": content[:-500], "bit": content, "empty": bytearray(), "no array": bytearray(b"hello" * 1000)}
    kept.write_bytes(contents[damage])
    for _ in range(2):
        data = load(pets)
        assert torch.equal(data.train.in_memory().images, wanted.train.in_memory().images)
    assert len(decoded) == 120


def test_cache_that_cannot_be_written(
    pets: Path, folder_config: FolderConfig, decoded: list[Path], tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    for _ in range(2):
        load_dataset(folder_config(pets, f"paths.data={tmp_path}/file").dataset)
    assert len(decoded) == 120


def test_cached_images_need_no_lock(pets: Path, load: Load, decoded: list[Path], tmp_path: Path) -> None:
    load(pets)
    (lock,) = tmp_path.glob("data/.cache/*.lock")
    lock.unlink()
    lock.mkdir()
    load(pets)
    assert len(decoded) == 60


def test_images_too_large_for_memory_and_disk_are_refused_before_decoding(
    pets: Path, load: Load, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def no_decoding(*args: Any) -> None:
        raise AssertionError("decoded")

    wanted = load(pets)
    shutil.rmtree(tmp_path / "data")
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: SimpleNamespace(free=60 * 3 * 8 * 8 - 1))
    data = load(pets)  # memory has room
    assert torch.equal(data.train.in_memory().images, wanted.train.in_memory().images)
    monkeypatch.setattr(memory, "free", lambda device: 60 * 3 * 8 * 8)
    monkeypatch.setattr(module, "decode", no_decoding)
    with pytest.raises(UserError, match=r"60 images of 3×8×8 take .* paths\.data .* dataset\.image_size=8"):
        load(pets)


@pytest.mark.parametrize("interruption", [KeyboardInterrupt, SystemExit])
def test_interrupted_decoding_leaves_no_cache(
    pets: Path, load: Load, monkeypatch: pytest.MonkeyPatch, interruption: type[BaseException], tmp_path: Path
) -> None:
    monkeypatch.setattr(module, "_CHUNK_BYTES", 16 * 3 * 8 * 8)  # four chunks

    def until_the_40th(path: Path, *args: Any) -> NDArray[np.uint8]:
        if path.stem == "40":
            raise interruption
        return decode(path, *args)

    monkeypatch.setattr(module, "decode", until_the_40th)
    cache = tmp_path / "data" / ".cache"
    # sys.exit in a source is a mistake in it, which is reported
    with pytest.raises(UserError if interruption is SystemExit else interruption):
        load(pets)
    (lock,) = cache.iterdir()
    assert lock.suffix == ".lock"
    leftover = cache / f".{lock.stem}.npy.4711"
    leftover.write_bytes(b"half of an array")  # as after a SIGKILL
    monkeypatch.setattr(module, "decode", decode)
    data = load(pets)
    assert sorted(path.suffix for path in cache.iterdir()) == [".lock", ".npy"]
    assert everything(data) == [*range(60)]


def test_a_file_its_contents_and_an_opened_image_are_alike(tmp_path: Path) -> None:
    path = tmp_path / "image.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (9, 7, 3), dtype=np.uint8)).save(path)
    expected = decode(path, 5, 3)
    for encoded in (str(path), path.read_bytes(), Image.open(path)):
        np.testing.assert_array_equal(decode(encoded, 5, 3), expected)


# --- bad folders


@pytest.fixture
def damaged(pets: Path) -> Path:
    for number in range(30, 37):
        path = pets / "eels" / f"{number}.png"
        path.write_bytes([path.read_bytes()[:50], b"", b"hello", b"\x89PNG\r\n\x1a\n" + b"0" * 50][number % 4])
    return pets


def test_unreadable_files_are_listed_and_refused(damaged: Path, load: Load, decoded: list[Path]) -> None:
    for _ in range(2):  # the second time from the cache
        with pytest.raises(UserError, match="7 of 60 files cannot be read") as error:
            load(damaged)
        assert str(error.value).count(".png") == 5
        assert "eels/30.png" in str(error.value)
        assert "and 2 more" in str(error.value)
        assert "dataset.source.unreadable=skip" in str(error.value)
    assert len(decoded) == 60


def test_unreadable_files_are_skipped_on_request(damaged: Path, load: Load, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("WARNING", logger="cnnzoo"):
        data = load(damaged, "dataset.source.unreadable=skip")
    assert "7 of 60 files cannot be read" in caplog.text
    assert everything(data) == [*range(30), *range(37, 60)]


def test_other_files_are_ignored(pets: Path, load: Load) -> None:
    (pets / "cats" / "notes.txt").write_text("hello")
    (pets / "cats" / "._0.png").write_bytes(b"a file system's own")
    (pets / ".git").mkdir()
    assert everything(load(pets)) == [*range(60)]


def test_empty_class_is_named(pets: Path, load: Load) -> None:
    (pets / "bats").mkdir()
    with pytest.raises(UserError, match=r"pets/bats: an empty class"):
        load(pets)


def test_class_without_training_images(divided: Callable[[Mapping[str, int]], Path], load: Load) -> None:
    root = divided({"train": 3, "test": 2})
    (root / "test" / "left").rename(root / "test" / "lefd")
    with pytest.raises(UserError, match="test/lefd: no training images"):
        load(root)


def test_folders_that_are_no_data_set_are_refused_while_composing(tmp_path: Path) -> None:
    def message(*overrides: str) -> str:
        with pytest.raises(UserError) as error:
            compose(["dataset=image_folder", *overrides])
        assert "\n" not in str(error.value)
        assert "interpolation" not in str(error.value)
        return str(error.value)

    root = f"dataset.root={tmp_path}/set"
    assert message().startswith("dataset.root=… is missing")
    assert "dataset.root=FOLDER" in message("dataset.root=null")
    assert "dataset.root=FOLDER" in message("dataset.root=")
    assert message(root).startswith(f"{root}: there is no such folder")
    (tmp_path / "set").mkdir()
    assert "no class folders" in message(root)
    (tmp_path / "set" / "cats").mkdir()
    assert "one class only, 'cats'" in message(root)
    (tmp_path / "set" / "dogs").mkdir()
    assert compose(["dataset=image_folder", root]).dataset.num_classes == 2
    (tmp_path / "set" / "test" / "cats").mkdir(parents=True)
    assert "no train" in message(root)
    for split in ("train", "val", "valid"):
        for name in ("cats", "dogs"):
            (tmp_path / "set" / split / name).mkdir(parents=True)
    assert "val and valid are the same split" in message(root)


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("dataset.channels=4", r"dataset\.source\.channels=4: .* expects one of 1, 3"),
        ("dataset.source.unreadable=ignore", "unreadable=ignore: .* expects one of refuse, skip"),
    ],
)
def test_wrong_arguments(pets: Path, load: Load, override: str, words: str) -> None:
    with pytest.raises(UserError, match=words):
        load(pets, override)


# --- identity


def test_folder_is_part_of_a_runs_identity_and_the_cache_is_not(
    pets: Path, folder_config: FolderConfig, tmp_path: Path
) -> None:
    here = folder_config(pets)
    assert config_hash(folder_config(pets, f"paths.data={tmp_path}/other")) == config_hash(here)
    shutil.copytree(pets, tmp_path / "copy" / "pets")
    copy = folder_config(tmp_path / "copy" / "pets")
    assert copy.dataset.name == "pets"
    assert run_folder(copy) != run_folder(here)
    assert config_hash(folder_config(pets, "dataset.source.unreadable=skip")) != config_hash(here)


def test_relative_root_is_relative_to_the_working_folder(
    pets: Path, folder_config: FolderConfig, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "other" / "pets").mkdir(parents=True)
    for name in ("cats", "dogs"):
        (tmp_path / "other" / "pets" / name).mkdir()
    hashes = set()
    for folder in (tmp_path, tmp_path / "other"):
        monkeypatch.chdir(folder)
        hashes.add(config_hash(folder_config(Path("pets"))))
    assert len(hashes) == 2
