"""The curves that authors published."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cnnzoo.figures.published import curve_folders, read_curves
from cnnzoo.results.run_folder import RunFileError
from tests.factories import config, result, write_run


def test_authors_curves_end_in_published_accuracies(published_weights: Path) -> None:
    """180 epochs; the best validation accuracy is that of the published table."""
    folder = next((f for f in published_weights.glob("**/tensorboards") if f.is_dir()), None)
    if folder is None:
        pytest.skip("the authors' TensorBoard files are not there")
    for name, best in (("GoogleNet", 0.9042), ("ResNet", 0.9184), ("ResNetPreAct", 0.9180), ("DenseNet", 0.9072)):
        curves = read_curves(folder / name)
        assert curves.index.tolist() == list(range(1, 181))
        assert curves.notna().all(axis=None)
        assert curves["val_accuracy"].max() == pytest.approx(best, abs=5e-5)


def test_curves_by_epoch(tmp_path: Path, write_events: Callable[..., Path]) -> None:
    curves = read_curves(write_events(tmp_path / "net", val_acc=[0.25, 0.5], train_acc=[0.125, 0.25, 0.75], loss=[3.0]))
    assert curves.index.tolist() == [1, 2, 3]
    assert curves["val_accuracy"].tolist()[:2] == [0.25, 0.5]
    assert curves["train_accuracy"].tolist() == [0.125, 0.25, 0.75]
    assert curves["val_accuracy"].isna().tolist() == [False, False, True]


def test_other_event_files_are_refused(tmp_path: Path, write_events: Callable[..., Path]) -> None:
    for folder in (write_events(tmp_path / "other", loss=[1.0]), tmp_path):
        with pytest.raises(RunFileError, match="no TensorBoard event file with val_acc and train_acc"):
            read_curves(folder)


def test_folders_with_and_without_collection(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", result(config()))
    weights, other = Path("weights"), Path("other")
    assert curve_folders(str(run), weights, None) == [], "no published weights"
    others: list[Any] = [None, {}, {"weights": None}, {"weights": {}}, "text"]
    for published in others:
        (run / "config.yaml").write_text(json.dumps({"published": published}))
        assert curve_folders(str(run), weights, None) == []
    (run / "config.yaml").write_text(json.dumps({"published": {"weights": {"file": "uvadlc_tutorial5/ResNet.ckpt"}}}))
    assert curve_folders(str(run), weights, None) == [
        Path("weights/uvadlc_tutorial5/tensorboards/ResNet"),
        Path("weights/tensorboards/ResNet"),
    ]
    assert curve_folders(str(run), weights, other) == [Path("other/ResNet")]
