"""The command `predict`, on files that the run itself has tested."""

import csv
import io
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.special
from PIL import Image

from cnnzoo import predict
from cnnzoo.config import run_folder
from cnnzoo.run import run

CLASSES = ("cat", "dog", "eel")


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of images of one size and mode, split into train and test: each class has a colour."""
    root = tmp_path_factory.mktemp("pets")
    random = np.random.default_rng(0)
    for split, count in (("train", 24), ("test", 8)):
        for channel, name in enumerate(CLASSES):
            folder = root / split / name
            folder.mkdir(parents=True)
            for index in range(count):
                pixels = random.integers(0, 160, (12, 12, 3), dtype=np.uint8)
                pixels[..., channel] += 60
                Image.fromarray(pixels).save(folder / f"{index}.png")
    return root


@pytest.fixture
def trained(images: Path, small: Callable[..., Any]) -> Path:
    """The folder of a finished run on these images."""
    config = small("dataset=image_folder", f"dataset.root={images}", "dataset.image_size=12", "dataset.val_size=6")
    run(config)
    return run_folder(config)


def test_files_get_the_classes_of_the_runs_own_test(
    trained: Path, images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "predictions.json"
    assert predict.main([str(trained), str(images / "test"), "--out", str(out)]) == 0
    answers = json.loads(out.read_text())
    with np.load(trained / "predictions.npz") as predictions:
        logits, labels = predictions["logits"], predictions["labels"]
    shares = scipy.special.softmax(logits.astype(float), axis=1)
    assert len(answers) == len(labels) == 24
    by_file = {answer["file"]: answer["predictions"] for answer in answers}
    files = [images / "test" / name / f"{index}.png" for name in CLASSES for index in sorted(range(8), key=str)]
    for file, row in zip(files, shares, strict=True):
        order = np.argsort(-row)
        assert [each["class"] for each in by_file[str(file)]] == [CLASSES[index] for index in order]
        np.testing.assert_allclose([each["probability"] for each in by_file[str(file)]], row[order], atol=1e-5)
    assert capsys.readouterr().out == ""


def test_any_size_and_mode_and_files_that_are_none(
    trained: Path, images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first = Image.open(images / "test" / "cat" / "0.png")
    files = {
        "grey.png": first.convert("L"),
        "palette.gif": first.convert("P"),
        "transparent.webp": first.convert("RGBA"),
        "cmyk.jpg": first.convert("CMYK"),
        "deep.tif": first.convert("I"),
        "large.png": first.resize((700, 300)),
    }
    for name, image in files.items():
        image.save(tmp_path / name)
    (tmp_path / "text.png").write_text("no image")
    (tmp_path / "cut.png").write_bytes((tmp_path / "large.png").read_bytes()[:500])
    names = [*files, "text.png", "cut.png", "nowhere.png"]
    code = predict.main([str(trained), *(str(tmp_path / name) for name in names), "--format", "csv", "--top", "1"])
    answer = capsys.readouterr()
    assert code == 1
    assert [Path(row["file"]).name for row in csv.DictReader(io.StringIO(answer.out))] == list(files)
    assert f"error: {tmp_path}/text.png cannot be read: not in a format that PIL reads" in answer.err
    assert f"error: {tmp_path}/cut.png cannot be read: OSError" in answer.err
    assert f"error: {tmp_path}/nowhere.png cannot be read: No such file or directory" in answer.err


def test_table(trained: Path, images: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert predict.main([str(trained), str(images / "test" / "eel" / "3.png"), "--top", "2"]) == 0
    header, _, first, second = capsys.readouterr().out.splitlines()
    assert [cell.strip() for cell in header.strip("|").split("|")] == ["file", "class", "probability %"]
    assert str(images / "test" / "eel" / "3.png") in first
    assert second.startswith("|   ")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["RUN"], "no image files: name some"),
        (["RUN", "empty"], "empty: no image files in this folder"),
        (["RUN", "IMAGE", "--top", "0"], "--top 0: expected at least 1"),
        (["RUN", "IMAGE", "--out", "x.txt"], "cannot tell the format from the name; add --format csv or json"),
        (["empty", "IMAGE"], "empty is not the folder of a finished run"),
    ],
)
def test_mistakes(
    arguments: list[str],
    message: str,
    images: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("empty").mkdir()
    places = {"RUN": "empty", "IMAGE": str(images / "test" / "cat" / "0.png")}
    assert predict.main([places.get(argument, argument) for argument in arguments]) == 1
    assert message in capsys.readouterr().err


def test_the_page_needs_its_extra(
    trained: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "gradio", None)
    assert predict.main([str(trained), "--demo"]) == 1
    assert "pip install 'cnnzoo[demo]'" in capsys.readouterr().err
