"""Calibration against torchmetrics and scikit-learn."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.metrics import log_loss
from torchmetrics.classification import MulticlassCalibrationError

from cnnzoo import compare
from cnnzoo.results.calibration import calibration
from tests import factories


@pytest.mark.parametrize("scale", [0.5, 2.0, 8.0])
def test_figures_of_merit(scale: float) -> None:
    random = np.random.default_rng(0)
    labels = random.integers(0, 10, 2000)
    logits = (scale * (random.normal(size=(2000, 10)) + 1.5 * np.eye(10)[labels])).astype(np.float32)
    found = calibration(logits, labels)
    shares = torch.from_numpy(logits).double().softmax(dim=1)
    ece = MulticlassCalibrationError(num_classes=10, n_bins=15, norm="l1")(shares, torch.from_numpy(labels))
    assert found.ece == pytest.approx(float(ece), abs=1e-6)
    assert found.nll == pytest.approx(log_loss(labels, shares.numpy()), rel=1e-6)
    assert found.brier == pytest.approx(((shares.numpy() - np.eye(10)[labels]) ** 2).sum(axis=1).mean(), rel=1e-6)
    assert found.count.sum() == 2000


def test_by_hand() -> None:
    """Confidences 0.75 (right), 0.75 (wrong) and 1 (right) in four bins: errors 0.25 for two of three images, and 0."""
    logits = np.array([[np.log(3), 0.0], [np.log(3), 0.0], [800.0, 0.0]])
    found = calibration(logits, np.array([0, 1, 0]), bins=4)
    assert found.ece == pytest.approx(2 / 3 * 0.25)
    assert found.count.tolist() == [0, 0, 2, 1]
    assert found.accuracy[2:].tolist() == [0.5, 1.0]
    assert np.isnan(found.accuracy[:2]).all()


def test_certain_mistakes_stay_finite() -> None:
    found = calibration(np.array([[1000.0, 0.0]], dtype=np.float32), np.array([1]))
    assert (found.nll, found.brier, found.ece) == (1000.0, 2.0, 1.0)


def test_columns_of_the_comparison(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Two seeds with predictions, one without; only where they are asked for."""
    labels = np.arange(100) % 10
    expected = []
    for seed, right in ((1, 80), (2, 90)):
        folder = factories.write_completed(tmp_path, "resnet", seed, right / 100)
        factories.write_predictions(folder, np.arange(100) < right, labels)
        with np.load(folder / "predictions.npz") as predictions:
            expected.append(calibration(predictions["logits"], labels).nll)
    factories.write_completed(tmp_path, "resnet", 3, 0.85)
    assert compare.main([str(tmp_path), "--columns=model,ece,nll,brier", "--sort=nll", "--format=json"]) == 0
    answer = capsys.readouterr()
    (row,) = json.loads(answer.out)
    assert row["nll"] == pytest.approx(np.mean(expected))
    assert 0 < row["ece"] < 1
    assert "without predictions" in answer.err
    assert "seed3" in answer.err
    assert compare.main([str(tmp_path), "--format=json"]) == 0
    assert "nll" not in json.loads(capsys.readouterr().out)[0]
