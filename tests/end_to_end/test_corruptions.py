"""`evaluate dataset.test=cifar10_c` on a run, and the column of `compare` that follows."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
import pytest
from PIL import Image

from cnnzoo import load_results
from cnnzoo.config import Config, run_folder
from cnnzoo.data import corruptions
from cnnzoo.errors import UserError
from cnnzoo.evaluate import _keep_corruptions, _print_tables, evaluate_weights, main
from cnnzoo.run import run

Command = Callable[..., Any]
Settings = Callable[..., Config]
TEST_IMAGES = 10


@pytest.fixture
def settings(config: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """A small run on random colour images of 32×32, whose corrupted test images are like the published files."""
    draw = np.random.default_rng(0)
    for split, count in (("train", 40), ("test", TEST_IMAGES)):
        for number in range(count):
            path = tmp_path / "set" / split / ("cats", "dogs")[number % 2] / f"{number:02}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(draw.integers(0, 256, (32, 32, 3), dtype=np.uint8)).save(path)
    folder = tmp_path / "data" / "CIFAR-10-C"
    folder.mkdir(parents=True)
    arrays = {name: draw.integers(0, 256, (50, 32, 32, 3), dtype=np.uint8) for name in corruptions.CORRUPTIONS}
    arrays["labels"] = np.tile(np.repeat([0, 1], TEST_IMAGES // 2), 5)
    for name, array in arrays.items():
        np.save(folder / f"{name}.npy", array)
        monkeypatch.setitem(corruptions._MD5, name, hashlib.md5((folder / f"{name}.npy").read_bytes()).hexdigest())
    common = (
        *("dataset=image_folder", f"dataset.root={tmp_path}/set", f"paths.data={tmp_path}/data"),
        *("dataset.image_size=32", "dataset.val_size=8", "dataset.batch_size=16", "model=mlp", "model.widths=[8]"),
        *("trainer=cpu", "trainer.max_epochs=1", "trainer.precision=32-true", "trainer.progress_bar=false"),
        "logger=none",
    )
    return lambda *overrides, name="run": config(*common, *overrides, name=name)


def test_all_corruptions_of_a_run(
    settings: Settings,
    cnnzoo: Command,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    folder = run_folder(settings())
    clean = run(settings())
    config = settings(f"weights={folder}", "dataset.test=cifar10_c", name="evaluate")
    result = evaluate_weights(config)
    assert result["test_accuracy"] == clean["test_accuracy"]
    assert [*result["corruptions"]] == [*corruptions.CORRUPTIONS]
    assert {len(values) for values in result["corruptions"].values()} == {5}
    assert result["corruption_accuracy"] == pytest.approx(np.mean([*result["corruptions"].values()]))

    alone = evaluate_weights(settings(f"weights={folder}", "dataset.test=cifar10_c/fog/4", name="evaluate"))
    assert alone["test_accuracy"] == result["corruptions"]["fog"][3]
    assert alone["val_accuracy"] == clean["val_accuracy"]
    assert "corruptions" not in alone
    together = evaluate_weights(settings(f"weights={folder}", "dataset.test=cifar10_c/fog", name="evaluate"))
    assert together["test_accuracy"] == pytest.approx(fmean(result["corruptions"]["fog"]))

    _print_tables(result, config)
    printed = capsys.readouterr().out
    assert "jpeg_compression" in printed
    assert f"{100 * result['corruption_accuracy']:.2f}" in printed
    _print_tables(alone, config)
    assert "test, cifar10_c/fog/4" in capsys.readouterr().out

    assert load_results(folder)["corruption_accuracy"].isna().all()
    monkeypatch.chdir(tmp_path)
    words = [f"weights={folder}", "dataset.test=cifar10_c", f"paths.data={tmp_path}/data", "trainer=cpu"]
    monkeypatch.setattr("sys.argv", ["evaluate", *words])
    main()
    assert load_results(folder)["corruption_accuracy"].tolist() == [result["corruption_accuracy"]]
    answer = cnnzoo("compare", str(folder), "--format", "json")
    (row,) = json.loads(answer.stdout)
    assert row["corruption_accuracy_mean"] == result["corruption_accuracy"]
    answer = cnnzoo("compare", str(folder), "--columns", "model,corruption")
    assert f"{100 * result['corruption_accuracy']:.2f}" in answer.stdout

    run(settings("rerun=true"))  # another training, whose accuracies nobody has computed
    assert load_results(folder)["corruption_accuracy"].isna().all()


def test_accuracies_of_other_weights_are_not_kept(settings: Settings) -> None:
    folder = run_folder(settings())
    run(settings())
    last = folder / "checkpoints" / "last.ckpt"
    result = evaluate_weights(settings(f"weights={last}", "dataset.test=cifar10_c", name="evaluate"))
    _keep_corruptions(folder, result)
    assert not (folder / "corruptions.json").exists()
    (folder / "result.json").unlink()
    result = evaluate_weights(settings(f"weights={folder}", "dataset.test=cifar10_c", name="evaluate"))
    _keep_corruptions(folder, result)
    assert not (folder / "corruptions.json").exists()


def test_run_tested_on_one_corruption(settings: Settings) -> None:
    run(settings())
    corrupted = settings("dataset.test=cifar10_c/snow/1")
    result = run(corrupted)
    assert run_folder(corrupted) != run_folder(settings())
    weights = f"weights={run_folder(corrupted)}"
    assert evaluate_weights(settings(weights, name="evaluate"))["test_loss"] == result["test_loss"]
    with pytest.raises(UserError, match=r"only evaluate takes"):
        run(settings("dataset.test=cifar10_c"))


def test_missing_files(cnnzoo: Command, config: Settings, tmp_path: Path) -> None:
    answer = cnnzoo("run", "dataset=digits", "model=mlp", "dataset.test=cifar10_c/fog/1", f"paths.data={tmp_path}")
    assert answer.returncode == 1
    assert "CIFAR-10-C/labels.npy: there is no such file. Expected CIFAR-10-C in paths.data" in answer.stderr
