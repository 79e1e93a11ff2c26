"""A folder of the user's own images: layouts, splits, decoding, the cache, and what is said about bad folders."""

import json
import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from cnnzoo.config import compose
from cnnzoo.data import image_folder as module
from cnnzoo.data.dataset import Dataset, load_dataset
from cnnzoo.data.image_folder import decode
from cnnzoo.errors import UserError
from cnnzoo.results.record import config_hash, run_folder
from cnnzoo.run import run


def write(path: Path, number: int, size: tuple[int, int] = (9, 7), mode: str = "RGB") -> None:
    """An image whose brightness says its number: red 2 × `number`, green 100, blue 200."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, (2 * number, 100, 200)).convert(mode).save(path)


def numbers(part) -> list[int]:
    return sorted((part.images[:, 0, 0, 0] // 2).tolist())


def everything(data: Dataset) -> list[int]:
    return sorted(numbers(data.train) + numbers(data.val) + numbers(data.test))


@pytest.fixture
def pets(tmp_path: Path) -> Path:
    """60 images: 10 cats, 20 dogs, 30 eels, numbered through."""
    root = tmp_path / "pets"
    for number in range(60):
        name = "cats" if number < 10 else "dogs" if number < 30 else "eels"
        write(root / name / f"{number}.png", number, size=(5 + number % 7, 6 + number % 5))
    return root


@pytest.fixture
def settings(config: Callable, tmp_path: Path) -> Callable[..., dict]:
    def compose_for(root: Path, *overrides: str) -> dict:
        common = ["dataset=image_folder", f"dataset.root={root}", f"paths.data={tmp_path}/data", "dataset.image_size=8"]
        return config(*common, *overrides)

    return compose_for


@pytest.fixture
def load(settings: Callable) -> Callable[..., Dataset]:
    return lambda root, *overrides: load_dataset(settings(root, *overrides)["dataset"])


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The files that are decoded from here on."""
    paths: list[Path] = []

    def counting(path: Path, *args) -> np.ndarray:
        paths.append(path)
        return decode(path, *args)

    monkeypatch.setattr(module, "decode", counting)
    return paths


# --- splits


def test_an_undivided_folder_is_divided_class_by_class(pets, load):
    data = load(pets)  # 60: a fifth for the test, then a tenth of 48
    assert data.classes == ("cats", "dogs", "eels")
    assert [part.labels.bincount().tolist() for part in (data.test, data.val, data.train)] == [
        [2, 4, 6],
        [1, 2, 2],
        [7, 14, 22],
    ]
    assert everything(data) == [*range(60)]
    for part in (data.train, data.val, data.test):
        labels = torch.bucketize(part.images[:, 0, 0, 0] // 2, torch.tensor([9, 29]))
        torch.testing.assert_close(part.labels, labels)


def test_the_split_depends_on_its_seed_alone(pets, load, tmp_path):
    first, again, other = load(pets), load(pets, "seed=7"), load(pets, "dataset.split_seed=7")
    assert numbers(first.test) == numbers(again.test) != numbers(other.test)
    shutil.copytree(pets, tmp_path / "elsewhere")
    assert numbers(load(tmp_path / "elsewhere").test) == numbers(first.test)


@pytest.mark.parametrize(("test_size", "val_size", "expected"), [(12, 9, (39, 9, 12)), (0.5, 3, (27, 3, 30))])
def test_sizes_are_numbers_or_shares(pets, load, test_size, val_size, expected):
    data = load(pets, f"dataset.source.test_size={test_size}", f"dataset.val_size={val_size}")
    assert (len(data.train), len(data.val), len(data.test)) == expected


def test_every_class_is_in_every_part(tmp_path, load):
    for number in range(103):
        write(tmp_path / "set" / ("rare" if number < 3 else "common") / f"{number}.png", number)
    data = load(tmp_path / "set", "dataset.source.test_size=0.01", "dataset.val_size=2")
    assert [part.labels.bincount(minlength=2).tolist() for part in (data.train, data.val, data.test)] == [
        [98, 1],
        [1, 1],
        [1, 1],
    ]


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("dataset.source.test_size=2", "dataset.source.test_size=2"),
        ("dataset.source.test_size=0.99", "both sides"),
        ("dataset.val_size=48", "dataset.val_size=48"),
        ("dataset.val_size=1.5", "dataset.val_size=1.5"),
        ("dataset.val_size=-1", "dataset.val_size=-1"),
        ("dataset.val_size=few", "dataset.val_size=few"),
    ],
)
def test_sizes_that_cannot_be(pets, load, override, words):
    with pytest.raises(UserError, match=words):
        load(pets, override)


def test_a_class_too_small_to_divide(pets, load):
    for number in range(2, 10):
        (pets / "cats" / f"{number}.png").unlink()
    with pytest.raises(UserError, match="'cats' is too small"):
        load(pets)


def divided(root: Path, counts: Mapping[str, int]) -> None:
    """`counts[part]` images of both classes in each part, numbered through."""
    number = 0
    for part, count in counts.items():
        for _ in range(count):
            for name in ("left", "right"):
                write(root / part / name / "deeper" / f"{number}.png", number)
                number += 1


@pytest.mark.parametrize(
    ("counts", "train", "val", "test"),
    [
        ({"train": 6, "val": 2, "test": 3}, [*range(12)], [*range(12, 16)], [*range(16, 22)]),
        ({"Training": 6, "validation": 2, "Testing": 3}, [*range(12)], [*range(12, 16)], [*range(16, 22)]),
        ({"train": 6, "test": 3}, None, None, [*range(12, 18)]),
        ({"train": 6, "valid": 3}, None, [*range(12, 18)], None),
    ],
)
def test_parts_that_are_there_are_kept_and_others_drawn_from_train(tmp_path, load, counts, train, val, test):
    divided(tmp_path / "set", counts)
    (tmp_path / "set" / "notes").mkdir()
    data = load(tmp_path / "set")
    parts = {"train": (data.train, train), "val": (data.val, val), "test": (data.test, test)}
    for part, expected in parts.values():
        assert expected is None or numbers(part) == expected
    assert everything(data) == [*range(2 * sum(counts.values()))]


def test_a_class_may_be_called_train(tmp_path, load):
    for name in ("train", "bus"):
        for number in range(5):
            write(tmp_path / "set" / name / f"{number}.png", number)
    assert load(tmp_path / "set").classes == ("bus", "train")


# --- decoding


def reference(image: Image.Image, size: int) -> np.ndarray:
    """The central square, resized: by PIL's own resize of a box."""
    width, height = image.size
    side = min(width, height)
    left, top = (width - side) / 2, (height - side) / 2
    return np.asarray(image.resize((size, size), Image.Resampling.BILINEAR, (left, top, left + side, top + side)))


def noise(height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


@pytest.mark.parametrize(("height", "width"), [(48, 48), (37, 90), (101, 24), (5, 9)])
def test_an_image_is_its_central_square_resized(tmp_path, height, width):
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
def test_any_format_and_mode_is_what_pil_converts_it_to(tmp_path, suffix, mode):
    file = tmp_path / f"x.{suffix}"
    Image.fromarray(noise(16, 16)).convert(mode).save(file, **({"lossless": True} if suffix == "webp" else {}))
    with Image.open(file) as image:
        image = image.convert("RGBA") if image.mode == "P" else image
        np.testing.assert_array_equal(decode(file, 16, 1)[0], np.asarray(image.convert("L")))
        np.testing.assert_array_equal(decode(file, 16, 3).transpose(1, 2, 0), np.asarray(image.convert("RGB")))


@pytest.mark.parametrize(("dtype", "suffix"), [(np.uint16, "png"), (np.uint16, "tif"), (np.int32, "tif")])
def test_sixteen_bits_are_scaled_and_not_cut_off(tmp_path, dtype, suffix):
    values = np.linspace(0, 65535, 256).astype(dtype).reshape(16, 16)
    Image.fromarray(values).save(tmp_path / f"x.{suffix}")
    np.testing.assert_array_equal(decode(tmp_path / f"x.{suffix}", 16, 1)[0], np.arange(256).reshape(16, 16))
    assert decode(tmp_path / f"x.{suffix}", 16, 3).shape == (3, 16, 16)


def test_photographs_stand_upright(tmp_path):
    pixels = np.zeros((20, 20, 3), dtype=np.uint8)
    pixels[:, :10] = 255
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned: show it a quarter further clockwise
    Image.fromarray(pixels).save(tmp_path / "x.png", exif=exif)
    ours = decode(tmp_path / "x.png", 20, 1)[0]
    assert ours[:9].min() == 255
    assert ours[11:].max() == 0


def test_large_jpegs_take_the_short_way_to_nearly_the_same(tmp_path):
    smooth = np.asarray(Image.fromarray(noise(12, 20)).resize((1000, 600), Image.Resampling.BICUBIC))
    Image.fromarray(smooth).save(tmp_path / "x.jpg", quality=95)
    with Image.open(tmp_path / "x.jpg") as image:
        wanted = reference(image, 32)
    difference = np.abs(decode(tmp_path / "x.jpg", 32, 3).transpose(1, 2, 0).astype(int) - wanted)
    assert difference.mean() < 1
    assert difference.max() <= 6


def test_all_images_grey_or_colour(pets, load):
    grey = load(pets, "dataset.channels=1", "dataset.val_size=3", "dataset.source.test_size=3")
    colour = load(pets, "dataset.val_size=3", "dataset.source.test_size=3")
    wanted = [
        np.asarray(Image.fromarray(image).convert("L")) for image in colour.train.images.permute(0, 2, 3, 1).numpy()
    ]
    np.testing.assert_array_equal(grey.train.images[:, 0], wanted)


def test_statistics_are_those_of_the_training_images(pets, load):
    data = load(pets)
    pixels = data.train.images.double() / 255
    torch.testing.assert_close(data.mean.double(), pixels.mean(dim=(0, 2, 3)), atol=1e-6, rtol=0)
    assert data.mean[1].item() == pytest.approx(100 / 255)


# --- the cache


def test_images_are_decoded_once(pets, load, decoded):
    first = load(pets)
    assert len(decoded) == 60
    again = load(pets, "dataset.split_seed=42", "dataset.batch_size=3")
    assert len(decoded) == 60
    torch.testing.assert_close(again.train.images, first.train.images, atol=0, rtol=0)
    load(pets, "dataset.split_seed=1")
    assert len(decoded) == 60, "a split is no reason to decode again"
    load(pets, "dataset.channels=1")
    assert len(decoded) == 120


def test_a_changed_new_or_missing_file_is_seen(pets, load, decoded):
    load(pets)
    write(pets / "cats" / "0.png", 99)
    assert 99 in everything(load(pets))
    write(pets / "cats" / "60.png", 60)
    assert everything(load(pets)) == [*range(1, 61), 99]
    os.utime(pets / "dogs" / "12.png", (1, 1))  # same size, other content as far as one can tell
    load(pets)
    assert len(decoded) == 60 + 60 + 61 + 61
    assert [path.suffix for path in sorted(pets.parent.glob("data/.cache/*"))] == [".lock", ".npy"], (
        "an old cache is replaced"
    )


@pytest.mark.parametrize("damage", ["cut", "bit", "empty", "no array"])
def test_a_damaged_cache_is_decoded_again(pets, load, decoded, damage, tmp_path):
    wanted = load(pets)
    (kept,) = tmp_path.glob("data/.cache/*.npy")
    content = bytearray(kept.read_bytes())
    if damage == "bit":
        content[2000] ^= 16
    kept.write_bytes({"cut": content[:-500], "bit": content, "empty": b"", "no array": b"hello" * 1000}[damage])
    for _ in range(2):
        data = load(pets)
        torch.testing.assert_close(data.train.images, wanted.train.images, atol=0, rtol=0)
    assert len(decoded) == 120


def test_a_place_that_cannot_be_written_to_is_done_without(pets, settings, decoded, tmp_path):
    (tmp_path / "file").touch()
    for _ in range(2):
        load_dataset(settings(pets, f"paths.data={tmp_path}/file")["dataset"])
    assert len(decoded) == 120


def test_images_that_are_there_need_no_place_to_write(pets, load, decoded, tmp_path):
    load(pets)
    (lock,) = tmp_path.glob("data/.cache/*.lock")
    lock.unlink()
    lock.mkdir()
    load(pets)
    assert len(decoded) == 60


# --- bad folders


@pytest.fixture
def damaged(pets: Path) -> Path:
    for number in range(30, 37):
        path = pets / "eels" / f"{number}.png"
        path.write_bytes([path.read_bytes()[:50], b"", b"hello", b"\x89PNG\r\n\x1a\n" + b"0" * 50][number % 4])
    return pets


def test_unreadable_files_are_listed_and_refused(damaged, load, decoded):
    for _ in range(2):  # the second time from the cache
        with pytest.raises(UserError, match="7 of 60 files cannot be read") as error:
            load(damaged)
        assert str(error.value).count(".png") == 5
        assert "eels/30.png" in str(error.value)
        assert "and 2 more" in str(error.value)
        assert "dataset.source.unreadable=skip" in str(error.value)
    assert len(decoded) == 60


def test_unreadable_files_are_skipped_when_asked_for(damaged, load, caplog):
    with caplog.at_level("WARNING", logger="cnnzoo"):
        data = load(damaged, "dataset.source.unreadable=skip")
    assert "7 of 60 files cannot be read" in caplog.text
    assert everything(data) == [*range(30), *range(37, 60)]


def test_what_is_no_image_by_its_name_is_left_alone(pets, load):
    (pets / "cats" / "notes.txt").write_text("hello")
    (pets / "cats" / "._0.png").write_bytes(b"a file system's own")
    (pets / ".git").mkdir()
    assert everything(load(pets)) == [*range(60)]


def test_an_empty_class_is_named(pets, load):
    (pets / "bats").mkdir()
    with pytest.raises(UserError, match=r"pets/bats: an empty class"):
        load(pets)


def test_a_class_that_training_does_not_know(tmp_path, load):
    divided(tmp_path / "set", {"train": 3, "test": 2})
    (tmp_path / "set" / "test" / "left").rename(tmp_path / "set" / "test" / "lefd")
    with pytest.raises(UserError, match="test/lefd: no training images"):
        load(tmp_path / "set")


def test_folders_that_are_no_data_set_are_refused_while_composing(tmp_path):
    def message(*overrides: str) -> str:
        with pytest.raises(UserError) as error:
            compose(["dataset=image_folder", *overrides])
        assert "\n" not in str(error.value)
        assert "interpolation" not in str(error.value)
        return str(error.value)

    root = f"dataset.root={tmp_path}/set"
    assert message().startswith("dataset.root=… is missing")
    assert message(root).startswith(f"{root}: there is no such folder")
    (tmp_path / "set").mkdir()
    assert "no class folders" in message(root)
    (tmp_path / "set" / "cats").mkdir()
    assert "one class only, 'cats'" in message(root)
    (tmp_path / "set" / "dogs").mkdir()
    assert compose(["dataset=image_folder", root]).dataset.num_classes == 2
    assert "dataset.source.channels=4: expected one of 1, 3" in message(root, "dataset.channels=4")
    assert "unreadable=ignore: expected one of refuse, skip" in message(root, "dataset.source.unreadable=ignore")
    (tmp_path / "set" / "test" / "cats").mkdir(parents=True)
    assert "no train" in message(root)
    for part in ("train", "val", "valid"):
        for name in ("cats", "dogs"):
            (tmp_path / "set" / part / name).mkdir(parents=True)
    assert "val and valid are the same part" in message(root)


def test_the_command_says_it_in_one_line(cnnzoo, tmp_path):
    answer = cnnzoo("run", "dataset=image_folder", "dataset.root=nowhere")
    assert answer.returncode == 1
    assert answer.stderr.startswith(f"error: dataset.root={tmp_path}/nowhere: there is no such folder.")
    assert len(answer.stderr.splitlines()) == 1


# --- runs


def test_a_folder_is_a_run_of_its_own_and_the_place_of_the_cache_is_not(pets, settings, tmp_path):
    here = settings(pets)
    assert config_hash(settings(pets, f"paths.data={tmp_path}/other")) == config_hash(here)
    shutil.copytree(pets, tmp_path / "copy" / "pets")
    copy = settings(tmp_path / "copy" / "pets")
    assert copy["dataset"]["name"] == "pets"
    assert run_folder(copy) != run_folder(here)
    assert config_hash(settings(pets, "dataset.source.unreadable=skip")) != config_hash(here)


def test_a_relative_root_is_the_folder_that_it_was_typed_in(pets, settings, monkeypatch, tmp_path):
    (tmp_path / "other" / "pets").mkdir(parents=True)
    for name in ("cats", "dogs"):
        (tmp_path / "other" / "pets" / name).mkdir()
    hashes = set()
    for folder in (tmp_path, tmp_path / "other"):
        monkeypatch.chdir(folder)
        hashes.add(config_hash(settings(Path("pets"))))
    assert len(hashes) == 2


def test_a_run_on_a_folder(pets, settings, tmp_path):
    config = settings(
        pets, "debug=default", "model.blocks_per_group=[1,1,1]", "trainer.progress_bar=false", "trainer.accelerator=cpu"
    )
    result = run(config, "test")
    assert result["status"] == "completed"
    assert result["dataset"] == "pets"
    assert len(np.load(run_folder(config) / "predictions.npz")["labels"]) == 12
    assert json.loads((run_folder(config) / "result.json").read_text())["test_accuracy"] == result["test_accuracy"]


def test_shares_hold_for_other_sets_too(config):
    sizes = [
        len(load_dataset(config("dataset=digits", f"dataset.val_size={size}")["dataset"]).val) for size in (180, 0.25)
    ]
    assert sizes == [180, round(0.25 * (1797 - 360))]
    assert type(config("dataset=digits")["dataset"]["val_size"]) is int
