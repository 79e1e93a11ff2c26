"""The command `figures data`: files, statistics on real data sets, and messages."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from cnnzoo import figures
from cnnzoo.data.dataset import load_dataset
from cnnzoo.data.loaders import train_loader
from cnnzoo.figures import data

NAMES = ["images", "augmented", "balance", "channels"]
Draw = Callable[..., Any]


@pytest.fixture
def draw(config: Callable[..., Any], tmp_path: Path) -> Draw:
    """Compose and draw; returns the configuration, the paths and the statistics."""

    def call(*overrides: str) -> Any:
        composed = config(f"out={tmp_path}/figures", *overrides, name="figures_data")
        return composed, *data.draw(composed)

    return call


def test_four_figures_in_every_format(draw: Draw, tmp_path: Path) -> None:
    _, paths, _ = draw("dataset=digits", "formats=[png,pdf]", "augmentation=crop")
    assert paths == [tmp_path / "figures" / f"{name}.{suffix}" for name in NAMES for suffix in ("png", "pdf")]
    for path in paths:
        if path.suffix == ".png":
            with Image.open(path) as image:
                pixels = np.asarray(image.convert("RGB"))
            assert min(pixels.shape[:2]) > 300
            assert 0.02 < (pixels < 128).mean() < 0.98
        else:
            assert path.read_bytes().startswith(b"%PDF")


@pytest.mark.parametrize("name", ["digits", "cifar10"])
def test_statistics_are_numpys(name: str, draw: Draw, request: pytest.FixtureRequest) -> None:
    if name == "cifar10":
        request.getfixturevalue("cifar10")
    config, _, statistics = draw(f"dataset={name}", *(["dataset.val_size=45000"] if name == "cifar10" else []))
    dataset = load_dataset(config.dataset)
    images = dataset.train.images.numpy() / 255  # type: ignore[union-attr]
    normalised = (images - dataset.mean.numpy()[:, None, None]) / dataset.std.numpy()[:, None, None]
    batch = next(iter(train_loader(dataset, config)))[0].double().numpy()
    for values, mean, std in (
        (images, "pixel_mean", "pixel_std"),
        (normalised, "mean", "std"),
        (batch, "batch_mean", "batch_std"),
    ):
        np.testing.assert_allclose(statistics[mean], values.mean(axis=(0, 2, 3)), atol=1e-6)
        np.testing.assert_allclose(statistics[std], values.std(axis=(0, 2, 3)), atol=1e-6)
    assert (abs(statistics["mean"]) < 0.02).all()
    assert (abs(statistics["std"] - 1) < 0.02).all()
    assert statistics.index.tolist() == (["grey"] if name == "digits" else ["red", "green", "blue"])


def test_own_images(cnnzoo: Callable[..., "subprocess.CompletedProcess[str]"], tmp_path: Path) -> None:
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
    assert f"{90 / 255:.4f}" in answer.stdout


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["dta"], ["dta: no such kind of figure", "'data'"]),
        (["data", "dataset=cifr10"], ["dataset=cifr10", "'cifar10'"]),
        (["data", "dataset=digits", "formats=[pgn]"], ["formats: pgn", "'png'"]),
        (["data", "dataset=digits", "fromats=[png]"], ["fromats: no such key", "'formats'"]),
        (["data", "dataset=digits", "out=/proc/nowhere"], ["out=/proc/nowhere: cannot be written to"]),
    ],
)
def test_mistakes(
    arguments: list[str], words: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["figures", *arguments])
    with pytest.raises(SystemExit) as exit_:
        figures.main()
    assert exit_.value.code in (1, 2)
    message = capsys.readouterr().err
    for word in words:
        assert word in message


def test_imports_neither_torch_nor_matplotlib(cnnzoo: Callable[..., "subprocess.CompletedProcess[str]"]) -> None:
    answer = cnnzoo("figures", "--help")
    assert answer.returncode == 0
    assert "data" in answer.stdout
    script = "import sys, cnnzoo.figures.data; sys.exit('torch' in sys.modules or 'matplotlib' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0
