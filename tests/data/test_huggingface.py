"""Data sets in Hugging Face's format: folders and files, columns, splits, classes, and messages about mistakes."""

import os
import subprocess
import sys
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from cnnzoo.config import Config, compose, config_hash, huggingface
from cnnzoo.data import decoding, memory
from cnnzoo.data.dataset import Dataset, load_dataset
from cnnzoo.data.huggingface import _EncodedImages
from cnnzoo.data.images import Split, StreamedImages
from cnnzoo.errors import UserError

datasets: Any = pytest.importorskip("datasets")

Settings = Callable[..., Config]
Load = Callable[..., Dataset]


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder that stands for the user's own cache of data sets."""
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path / "hf"))
    return tmp_path / "hf"


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """`settings(path, *overrides)`, the images decoded to 8×8 and kept in `tmp_path/data`."""
    common = ("dataset=huggingface", f"paths.data={tmp_path}/data", "dataset.image_size=8")
    return lambda path, *overrides: compose([*common, f"dataset.path={path}", *overrides])


@pytest.fixture
def load(settings: Settings) -> Load:
    return lambda path, *overrides: load_dataset(settings(path, *overrides).dataset)


def png(number: int, mode: str = "RGB") -> bytes:
    """A file of an image whose red is 2 × `number`."""
    file = BytesIO()
    Image.new("RGB", (9, 7), (2 * number, 100, 200)).convert(mode).save(file, "png")
    return file.getvalue()


def table(numbers: range, label: Any = None, label_of: Callable[[int], Any] = lambda i: i % 2, **columns: Any) -> Any:
    """A table of images, labelled 0 and 1 in turn, "left" and "right"."""
    features = {
        "picture": datasets.Image(),
        "kind": label or datasets.ClassLabel(names=["left", "right"]),
        **{name: feature for name, (feature, _) in columns.items()},
    }
    values = {"picture": [{"bytes": png(i), "path": None} for i in numbers], "kind": [label_of(i) for i in numbers]}
    values |= {name: [value(i) for i in numbers] for name, (_, value) in columns.items()}
    return datasets.Dataset.from_dict(values, features=datasets.Features(features))


def write(folder: Path, **splits: Any) -> Path:
    """A folder of parquet files, one a split."""
    folder.mkdir(parents=True)
    for name, split in splits.items():
        split.to_parquet(str(folder / f"{name}-00000-of-00001.parquet"))
    return folder


def numbers(split: Split) -> list[int]:
    return sorted((split.in_memory().images[:, 0, 0, 0] // 2).tolist())


# --- what can be read


def test_folder_of_images_is_read_as_image_folder_reads_it(pets: Path, load: Load, tmp_path: Path) -> None:
    ours = load(pets)
    common = ("dataset=image_folder", f"paths.data={tmp_path}/data", "dataset.image_size=8", f"dataset.root={pets}")
    theirs = load_dataset(compose([*common]).dataset)
    assert ours.classes == theirs.classes == ("cats", "dogs", "eels")
    assert [len(split) for split in ours.splits] == [43, 5, 12]
    assert sorted(n for split in ours.splits for n in numbers(split)) == [*range(60)]
    for split in ours.splits:
        labels = torch.bucketize(split.in_memory().images[:, 0, 0, 0] // 2, torch.tensor([9, 29]))
        torch.testing.assert_close(split.labels, labels)
    assert torch.equal(ours.mean, theirs.mean)


def test_splits_are_found_by_their_names(load: Load, tmp_path: Path) -> None:
    folder = write(tmp_path / "set", train=table(range(20)), validation=table(range(20, 26)), test=table(range(26, 36)))
    data = load(folder)
    assert data.classes == ("left", "right")
    assert [numbers(split) for split in data.splits] == [[*range(20)], [*range(20, 26)], [*range(26, 36)]]
    for split in data.splits:
        torch.testing.assert_close(split.labels, split.in_memory().images[:, 0, 0, 0].long() // 2 % 2)


def test_missing_splits_are_drawn_from_train(load: Load, tmp_path: Path) -> None:
    assert [len(split) for split in load(write(tmp_path / "one", train=table(range(40)))).splits] == [29, 3, 8]
    two = load(write(tmp_path / "two", train=table(range(20)), test=table(range(20, 30))), "dataset.val_size=4")
    assert [len(split) for split in two.splits] == [16, 4, 10]


def test_splits_are_named(load: Load, tmp_path: Path) -> None:
    folder = write(tmp_path / "set", train=table(range(20)), validation=table(range(20, 26)))
    data = load(folder, "dataset.source.test=validation", "dataset.val_size=2")
    assert [len(split) for split in data.splits] == [18, 2, 6]


def test_a_file_and_a_saved_set(load: Load, tmp_path: Path) -> None:
    folder = write(tmp_path / "set", train=table(range(20)))
    (file,) = folder.iterdir()
    table(range(20)).save_to_disk(str(tmp_path / "saved"))
    expected = numbers(load(folder).test)
    assert numbers(load(file).test) == numbers(load(tmp_path / "saved").test) == expected


@pytest.mark.parametrize(
    ("feature", "value", "classes"),
    [
        ("string", lambda i: ("snow", "rain")[i % 2], ("rain", "snow")),
        ("int64", lambda i: (10, 9)[i % 2], ("9", "10")),
        ("bool", lambda i: bool(i % 2), ("False", "True")),
    ],
)
def test_distinct_labels_are_classes(
    feature: str, value: Callable[[int], Any], classes: tuple[str, ...], load: Load, tmp_path: Path
) -> None:
    folder = write(tmp_path / "set", train=table(range(20), datasets.Value(feature), value))
    data = load(folder, "dataset.label_column=kind")
    assert data.classes == classes
    images = data.train.in_memory()
    for number, label in zip(images.images[:, 0, 0, 0] // 2, images.labels, strict=True):
        assert data.classes[int(label)] == str(value(int(number)))


def test_images_that_other_programs_wrote_as_bytes(load: Load, tmp_path: Path) -> None:
    images = [png(i) for i in range(20)]
    for name, values in {"plain": images, "struct": [{"bytes": image, "path": None} for image in images]}.items():
        features = datasets.Value("binary") if name == "plain" else {"bytes": datasets.Value("binary")}
        if name == "struct":
            features["path"] = datasets.Value("string")
        labels = datasets.Value("int64")
        found = datasets.Dataset.from_dict(
            {"picture": values, "kind": [i % 2 for i in range(20)]},
            features=datasets.Features({"picture": features, "kind": labels}),
        )
        data = load(write(tmp_path / name, train=found), "dataset.image_column=picture", "dataset.label_column=kind")
        assert sorted(n for split in data.splits for n in numbers(split)) == [*range(20)]


def test_grey_and_colour_of_any_size(load: Load, tmp_path: Path) -> None:
    modes = ("L", "RGB", "RGBA", "P", "1", "LA")
    images = [{"bytes": png(i, modes[i % 6]), "path": None} for i in range(24)]
    found = table(range(24)).remove_columns("picture").add_column("picture", images)
    folder = write(tmp_path / "set", train=found.cast_column("picture", datasets.Image()))
    assert load(folder).train.shape[1:] == (3, 8, 8)
    assert load(folder, "dataset.channels=1", "dataset.image_size=5").train.shape[1:] == (1, 5, 5)


# --- decoded once, and streamed


def test_images_are_decoded_once(load: Load, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = write(tmp_path / "set", train=table(range(20)))
    first = load(folder)
    decode = decoding.decode
    decoded: list[Any] = []
    monkeypatch.setattr(decoding, "decode", lambda *args: decoded.append(args) or decode(*args))  # type: ignore[func-returns-value]
    again = load(folder)
    assert (decoded, again.digest) == ([], first.digest)
    other = write(tmp_path / "other", train=table(range(1, 21)))
    (other / "train-00000-of-00001.parquet").replace(folder / "train-00000-of-00001.parquet")
    changed = load(folder)
    assert len(decoded) == 20
    assert changed.digest != first.digest
    assert numbers(changed.train) != numbers(first.train)


def test_image_that_changed_in_its_folder_is_decoded_again(pets: Path, load: Load) -> None:
    file = pets / "cats" / "0.png"
    digests = {load(pets).digest}
    Image.new("RGB", (9, 7), (255, 0, 0)).save(file)
    digests.add(load(pets).digest)
    before = file.stat()
    Image.new("RGB", (30, 30), (0, 255, 0)).save(file)
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))  # as a copy that keeps times
    digests.add(load(pets).digest)
    assert len(digests) == 3


def test_digest_depends_on_labels(load: Load, tmp_path: Path) -> None:
    folders = [
        write(tmp_path / name / "set", train=table(range(20), label_of=label_of))
        for name, label_of in {"one": lambda i: i % 2, "two": lambda i: i // 10}.items()
    ]
    assert load(folders[0]).digest != load(folders[1]).digest


def test_larger_than_memory_is_streamed(load: Load, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = write(tmp_path / "set", train=table(range(20)))
    whole = load(folder)
    monkeypatch.setattr(memory, "free", lambda device=None: 0)
    data = load(folder)
    assert isinstance(data.train, StreamedImages)
    assert torch.equal(data.train.in_memory().images, whole.train.in_memory().images)


# --- what is refused


def test_unreadable_images(load: Load, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    broken: list[Any] = [{"bytes": png(i), "path": None} for i in range(20)]
    broken[3], broken[7] = {"bytes": b"no image", "path": "seven.png"}, None
    found = table(range(20)).remove_columns("picture").add_column("picture", broken)
    folder = write(tmp_path / "set", train=found.cast_column("picture", datasets.Image()))
    with pytest.raises(UserError, match=r"2 of 20 .*unreadable=skip\n.*train, row 3 \(seven.png\): not in a format"):
        load(folder)
    data = load(folder, "dataset.source.unreadable=skip")
    assert sorted(n for split in data.splits for n in numbers(split)) == [i for i in range(20) if i not in (3, 7)]
    assert "train, row 7: ValueError: no image in this row" in caplog.text


INT = datasets.Value("int64")
COARSE = datasets.ClassLabel(names=["a", "b"])
MISTAKES: list[tuple[dict[str, Any], tuple[str, ...], str]] = [
    ({"label": INT}, (), r"label_column=NAME is missing, as no column has .* picture \(Image\), kind \(int64\)"),
    ({"coarse": (COARSE, lambda i: i % 2)}, (), r"label_column=NAME is missing, as several columns have"),
    ({}, ("dataset.label_column=knid",), "label_column=knid: no such column. Did you mean 'kind'?"),
    ({}, ("dataset.label_column=picture",), "label_column=picture: this column holds no labels"),
    ({}, ("dataset.image_column=kind",), "image_column=kind: this column holds no images"),
    ({"size": (datasets.Value("float32"), float)}, ("dataset.label_column=size",), r"size \(float32\)"),
    ({}, ("dataset.source.test=tset",), "there are the splits test, train; .*test=tset is none of them. Did you mean"),
    ({}, ("dataset.source.test=train", "dataset.source.train=train"), "test=train is used twice"),
]


@pytest.mark.parametrize(("made", "overrides", "message"), MISTAKES, ids=[message for _, _, message in MISTAKES])
def test_mistakes(
    made: dict[str, Any], overrides: tuple[str, ...], message: str, settings: Settings, tmp_path: Path
) -> None:
    folder = write(tmp_path / "set", train=table(range(20), **made), test=table(range(20, 30), **made))
    with pytest.raises(UserError, match=message) as error:
        settings(folder, *overrides)
    assert "\n" not in str(error.value)


def test_labels_that_no_class_has(settings: Settings, tmp_path: Path) -> None:
    hidden = write(tmp_path / "hidden", train=table(range(20)), test=table(range(20, 30), label_of=lambda i: -1))
    with pytest.raises(UserError, match=r"10 of 10 images in its split test have a label that no class has, -1"):
        settings(hidden)
    words = datasets.Value("string")
    new = write(
        tmp_path / "new",
        train=table(range(20), words, lambda i: "ab"[i % 2]),
        test=table(range(20, 30), words, lambda i: "c"),
    )
    with pytest.raises(UserError, match="no class has, 'c'"):
        settings(new, "dataset.label_column=kind")


def test_two_names_of_one_split(settings: Settings, tmp_path: Path) -> None:
    found = {"train": "train", "validation": "val", "valid": "val"}
    with pytest.raises(UserError, match=r"dataset\.source\.val=NAME chooses one of valid and validation"):
        huggingface._find_splits("x", sorted(found), dict.fromkeys(("train", "val", "test")))
    with pytest.raises(UserError, match=r"dataset\.source\.train=NAME says which"):
        huggingface._find_splits("x", ["dev", "eval"], dict.fromkeys(("train", "val", "test")))
    assert huggingface._find_splits("x", ["full"], dict.fromkeys(("train", "val", "test"))) == {"train": "full"}


def test_path_that_is_no_data_set(settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match=r"nowhere: there is no such folder or file\. Expected"):
        settings(tmp_path / "nowhere")
    with pytest.raises(UserError, match=r"dataset\.path=… is missing"):
        settings("")
    with pytest.raises(UserError, match=r"dataset\.path=… is missing"):
        compose(["dataset=huggingface"])
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=r"empty cannot be loaded: .*dataset\.config=NAME"):
        settings(tmp_path / "empty")

    def no_network(*args: Any, **kwargs: Any) -> None:
        raise ConnectionError("Couldn't reach\nthe Hub")

    monkeypatch.setattr(datasets, "load_dataset", no_network)
    with pytest.raises(UserError, match=r"dataset\.path=some/set cannot be loaded: Couldn't reach the Hub\."):
        settings("some/set")


def test_no_code_of_a_data_set_is_run(settings: Settings, tmp_path: Path) -> None:
    folder = write(tmp_path / "set", train=table(range(20)))
    (folder / "set.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\nraise SystemExit\n")
    with pytest.raises(UserError, match="cannot be loaded: Dataset scripts are no longer supported"):
        settings(folder)
    with pytest.raises(UserError, match="cannot be loaded"):
        settings(folder / "set.py")
    assert not (tmp_path / "ran").exists()


def test_keys_of_another_source(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"dataset\.path=there: the source of digits has no path"):
        compose(["dataset=digits", "dataset.path=there"])


# --- identity


def test_identity(settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for place in ("one", "two"):
        write(tmp_path / place / "set", train=table(range(20)))
    monkeypatch.chdir(tmp_path / "one")
    here = settings("set")
    assert here.dataset.name == "set"
    assert here.dataset.source["path"] == f"{tmp_path}/one/set"
    monkeypatch.chdir(tmp_path / "two")
    assert config_hash(settings("set")) != config_hash(here)
    assert config_hash(settings(tmp_path / "one" / "set", "paths.data=elsewhere")) == config_hash(here)
    assert huggingface.location("some/set") == "some/set"


def test_no_torch_is_imported(tmp_path: Path) -> None:
    write(tmp_path / "set", train=table(range(20)))
    code = (
        "import sys; from cnnzoo.config import compose;"
        " print(compose(['dataset=huggingface', 'dataset.path=set']).dataset.num_classes, 'torch' in sys.modules)"
    )
    answer = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        env=os.environ | {"HF_HOME": str(tmp_path / "hf")},
    )
    assert answer.stdout.strip() == "2 False", answer.stderr


def test_contents_are_not_read_to_list_files(load: Load, pets: Path) -> None:
    """Paths of images outside of the tables, and of none inside."""
    outside = huggingface.read(str(pets)).tables
    assert sorted(_EncodedImages(outside).paths()) == sorted(str(path) for path in pets.rglob("*.png"))
    inside = {"train": table(range(3)).select_columns("picture").cast_column("picture", datasets.Image(decode=False))}
    images = _EncodedImages(inside)
    assert [*images.paths()] == []
    np.testing.assert_array_equal(np.asarray(Image.open(BytesIO(images[2]))).shape, (7, 9, 3))  # type: ignore[arg-type]
