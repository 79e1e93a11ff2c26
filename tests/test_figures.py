"""Pictures of data sets: the files, what is drawn in them, and the statistics against numpy."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from cnnzoo import figures
from cnnzoo.data.dataset import load_dataset
from cnnzoo.data.module import train_batches
from cnnzoo.figures import data, data_plots, style

NAMES = ["images", "augmented", "balance", "channels"]


@pytest.fixture
def draw(config: Callable, tmp_path: Path) -> Callable:
    """Composes, draws, and returns the configuration beside what came out."""

    def call(*overrides: str):
        plain = config(f"out={tmp_path}/figures", *overrides, name="figures_data")
        return plain, *data.draw(plain)

    return call


def pixels(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"))


def test_four_pictures_in_every_format_asked_for(draw, tmp_path):
    _, paths, _ = draw("dataset=digits", "formats=[png,pdf]", "augmentation=crop")
    assert paths == [tmp_path / "figures" / f"{name}.{suffix}" for name in NAMES for suffix in ("png", "pdf")]
    for path in paths:
        if path.suffix == ".png":
            image = pixels(path)
            assert min(image.shape[:2]) > 300
            assert 0.02 < (image < 128).mean() < 0.98
        else:
            assert path.read_bytes().startswith(b"%PDF")


@pytest.mark.parametrize("dataset", ["digits", "cifar10"])  # of CIFAR-10, 5,000 images for training
def test_statistics_are_numpys(draw, dataset, request):
    if dataset == "cifar10":
        request.getfixturevalue("cifar10")
    config, _, statistics = draw(f"dataset={dataset}", *(["dataset.val_size=45000"] if dataset == "cifar10" else []))
    loaded = load_dataset(config["dataset"])
    images = loaded.train.images.numpy() / 255
    normalised = (images - loaded.mean.numpy()[:, None, None]) / loaded.std.numpy()[:, None, None]
    batch = next(iter(train_batches(loaded, config)))[0].double().numpy()
    for values, mean, std in [
        (images, "pixel_mean", "pixel_std"),
        (normalised, "mean", "std"),
        (batch, "batch_mean", "batch_std"),
    ]:
        np.testing.assert_allclose([getattr(s, mean) for s in statistics], values.mean(axis=(0, 2, 3)), atol=1e-6)
        np.testing.assert_allclose([getattr(s, std) for s in statistics], values.std(axis=(0, 2, 3)), atol=1e-6)
    for s in statistics:
        assert abs(s.mean) < 0.02
        assert abs(s.std - 1) < 0.02
    assert [s.channel for s in statistics] == (["grey"] if dataset == "digits" else ["red", "green", "blue"])


def test_the_augmented_versions_are_crops_and_flips_of_the_originals(config):
    flips = config("dataset=digits", "augmentation.flip=1.0", "image_size=8", name="figures_data")
    dataset = load_dataset(flips["dataset"])
    originals, versions, names = data.augmented_images(dataset, flips)
    assert originals.shape == (4, 8, 8, 1)
    assert names == ["0", "1", "2", "3"]
    assert len(versions) == data.AUGMENTED_VERSIONS
    for version in versions:
        np.testing.assert_array_equal(version, originals[:, :, ::-1])
    for original, name in zip(originals, names, strict=True):
        found = (
            (dataset.train.images == torch.from_numpy(original.copy()).permute(2, 0, 1)).all(dim=(1, 2, 3)).nonzero()
        )
        assert dataset.classes[dataset.train.labels[found[0, 0]]] == name

    crops = config("dataset=digits", "augmentation=crop", name="figures_data")
    _, versions, _ = data.augmented_images(dataset, crops)
    assert versions[0].shape == (4, 32, 32, 1)
    assert all((versions[0] != version).any() for version in versions[1:]), "each version is a draw of its own"

    none = config("dataset=digits", "image_size=8", name="figures_data")
    originals, versions, _ = data.augmented_images(dataset, none)
    np.testing.assert_array_equal(versions[0], originals)


@pytest.mark.parametrize(("classes", "size"), [(2, 28), (15, 9), (16, 32), (100, 32), (400, 5)])
def test_any_number_of_classes(classes, size, tmp_path):
    random = np.random.default_rng(0)
    labels = random.integers(0, classes, 5 * classes)
    labels[:3] = 0
    labels[labels == 1] = 0  # a class without training images
    pictures = random.integers(0, 256, (len(labels), size, size, 3), dtype=np.uint8)
    names = [f"class_{i}_" + "long" * (i % 9) for i in range(classes)]
    with style.look():
        grid = data_plots.images(pictures, labels, names)
        bars = data_plots.balance({"train": labels, "val": labels[:7], "test": labels[:30]}, names)
        for figure, name in ((grid, "grid"), (bars, "bars")):
            (path,) = style.save(figure, tmp_path, name, ["png"])
            height, width = pixels(path).shape[:2]
            assert width < 8.5 * 250, "fits a page"
            assert height < 11 * 250
    for axes, total in zip(bars.axes, (len(labels), 7, len(labels[:30])), strict=True):
        assert sum(bar.get_width() for bar in axes.patches) == total
        assert f"{total:,}" in axes.get_title(loc="left")
    if classes <= 100:
        shown = [text.get_text() for text in grid.axes[0].texts]
        assert shown == [
            name if len(name) <= limit else name[: limit - 1] + "…"
            for name in names
            for limit in [24 if classes <= 15 else 14]
        ]


def test_a_row_of_images_is_a_class(tmp_path):
    labels = np.array([0, 1] * 30)
    pictures = np.where(labels == 1, 200, 50).astype(np.uint8)[:, None, None, None] * np.ones(
        (1, 8, 8, 1), dtype=np.uint8
    )
    canvas = data_plots.images(pictures, labels, ["dark", "light"]).axes[0].images[0].get_array()
    assert set(np.unique(canvas[:8])) == {50, 255}
    assert set(np.unique(canvas[-8:])) == {200, 255}


def test_any_number_of_channels(config, tmp_path):
    with style.look():
        for count in (1, 2, 3, 5):
            counts = np.ones((count, 256), dtype=np.int64)
            mean, std = np.full(count, 0.5, np.float32), np.full(count, 0.25, np.float32)
            batch = np.zeros((2, count, 4, 4), np.float32)
            statistics = data.channel_statistics(counts, batch, mean, std)
            assert statistics[-1].pixel_std == pytest.approx(np.arange(256).std() / 255)
            assert len(data_plots.channels(statistics, counts, batch, mean, std).axes) == count


def test_the_command(cnnzoo, tmp_path):
    for name in ("left", "right"):
        for number in range(6):
            path = tmp_path / "mine" / name / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (20, 30), (40 * number, 90, 10)).save(path)
    answer = cnnzoo("figures", "data", "dataset=image_folder", "dataset.root=mine", "paths.data=data")
    assert answer.returncode == 0, answer.stderr
    folder = tmp_path / "outputs" / "figures" / "mine"
    assert sorted(path.name for path in folder.iterdir()) == sorted(f"{name}.png" for name in NAMES)
    assert str(folder / "images.png") in answer.stdout
    assert "green" in answer.stdout


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["dta"], ["dta: no such kind of figure", "'data'"]),
        (["data", "dataset=cifr10"], ["dataset=cifr10", "'cifar10'"]),
        (["data", "dataset=digits", "formats=[pgn]"], ["formats: pgn", "'png'"]),
        (["data", "dataset=digits", "fromats=[png]"], ["fromats: no such key"]),
        (["data", "dataset=digits", "out=/proc/nowhere"], ["out=/proc/nowhere: cannot be written to"]),
    ],
)
def test_mistakes(arguments, words, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["figures", *arguments])
    with pytest.raises(SystemExit) as exit_:
        figures.main()
    assert exit_.value.code in (1, 2)
    said = capsys.readouterr().err
    for word in words:
        assert word in said


def test_help_needs_no_torch(cnnzoo):
    answer = cnnzoo("figures", "--help")
    assert answer.returncode == 0
    assert "data" in answer.stdout
    script = "import sys, cnnzoo.figures.data; sys.exit('torch' in sys.modules or 'matplotlib' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0
