"""Calibration against torchmetrics and scikit-learn."""

import numpy as np
import pytest
import torch
from sklearn.metrics import log_loss
from torchmetrics.classification import MulticlassCalibrationError

from cnnzoo.results.calibration import calibration


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
