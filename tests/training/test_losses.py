"""The loss of a configuration against formulas by hand and scikit-learn's class weights."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.utils.class_weight import compute_class_weight
from torch import nn

from cnnzoo.config import Config
from cnnzoo.errors import UserError
from cnnzoo.training.losses import build_loss, class_weights

Train = Callable[..., Any]

LABELS = torch.tensor([*range(10), 0, 0, 0, 1, 1])


def log_softmax(logits: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    shifted: np.ndarray[Any, Any] = logits - np.log(np.exp(logits).sum(1, keepdims=True))
    return shifted


@pytest.fixture
def logits() -> torch.Tensor:
    return torch.randn(6, 10, generator=torch.manual_seed(0))


def test_cross_entropy_with_class_weights(tiny: Callable[..., Config], logits: torch.Tensor) -> None:
    """The mean is weighted: Σ w_y (-log p_y) / Σ w_y."""
    weights = [0.5, 2.0, *([1.0] * 8)]
    loss = build_loss(tiny(f"loss.weight={weights}"), LABELS)
    labels = torch.tensor([0, 1, 1, 2, 3, 0])
    w = np.array(weights)[labels]
    expected = -(w * log_softmax(logits.double().numpy())[np.arange(6), labels]).sum() / w.sum()
    assert loss(logits, labels).item() == pytest.approx(expected, rel=1e-6)


def test_balanced_weights_are_scikit_learns() -> None:
    weights = class_weights("balanced", LABELS, 10)
    np.testing.assert_allclose(weights, [15 / (10 * 4), 15 / (10 * 3), *([15 / 10] * 8)], rtol=1e-6)
    expected = compute_class_weight("balanced", classes=np.arange(10), y=LABELS.numpy())
    np.testing.assert_allclose(weights, expected, rtol=1e-6)


def test_multi_margin_is_the_hinge_loss(tiny: Callable[..., Config], logits: torch.Tensor) -> None:
    """Σ_{j ≠ y} max(0, 1 - x_y + x_j) / C, the mean over the images."""
    labels = torch.tensor([0, 1, 1, 2, 3, 0])
    x = logits.double().numpy()
    hinge = np.maximum(0, 1 - x[np.arange(6), labels][:, None] + x)
    hinge[np.arange(6), labels] = 0
    loss = build_loss(tiny("loss=multi_margin"), LABELS)
    assert loss(logits, labels).item() == pytest.approx(hinge.sum(1).mean() / 10, rel=1e-6)


def test_soft_labels_with_smoothing(tiny: Callable[..., Config], logits: torch.Tensor) -> None:
    """Cross-entropy against probabilities of which a tenth is spread over all classes."""
    targets = torch.softmax(torch.randn(6, 10, generator=torch.manual_seed(1)), 1)
    smooth = 0.9 * targets.double().numpy() + 0.1 / 10
    expected = -(smooth * log_softmax(logits.double().numpy())).sum(1).mean()
    loss = build_loss(tiny("loss.label_smoothing=0.1", "augmentation.mixup=0.2"), LABELS)
    assert loss(logits, targets).item() == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("loss", ["cross_entropy", "multi_margin"])
def test_training_with_class_weights(loss: str, train: Train) -> None:
    """A class of weight 0 is never learned; the checkpoint holds the network alone, and validation no weights."""
    weights = [0, *([1] * 9)]
    result = train(f"loss={loss}", f"loss.weight={weights}", "trainer.max_epochs=8", "optimizer.lr=0.5")
    assert all(key.startswith("model.") for key in result.weights())
    logits = result.model(result.dataset.test.images.float().div(255).sub(result.dataset.mean).div(result.dataset.std))
    recall = logits.argmax(1) == result.dataset.test.labels
    of_zero = result.dataset.test.labels == 0
    assert recall[of_zero].double().mean() < 0.2 < 0.5 < recall[~of_zero].double().mean()


class Focal(nn.Module):
    def __init__(self, gamma: float = 2.0) -> None:
        super().__init__()
        self.gamma = gamma

    def forward(self, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        log_p = logits.log_softmax(1).gather(1, labels[:, None])
        return -((1 - log_p.exp()) ** self.gamma * log_p).mean()


def test_loss_of_ones_own(tiny: Callable[..., Config]) -> None:
    config = tiny(f"loss._target_={__name__}.Focal", "~loss.label_smoothing", "+loss.gamma=1.0")
    loss = build_loss(config, LABELS)
    assert isinstance(loss, nn.Module)
    assert loss.gamma == 1.0


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["loss.weight=[1,2]"], ["loss.weight=[1, 2]", "10 classes", "balanced"]),
        (["loss.weight=balance"], ["loss.weight=balance", "balanced"]),
        ([f"loss.weight={[-1] * 10}"], ["at least 0"]),
        (["loss.label_smoothing=2"], ["label_smoothing"]),
        (["+loss.gama=2"], ["loss.gama", "label_smoothing"]),
        (["+loss.reduction=none"], ["one number", "loss.reduction=mean"]),
        (
            ["loss=multi_margin", "augmentation.cutmix=1"],
            ["MultiMarginLoss", "class probabilities", "loss=cross_entropy"],
        ),
        (["loss._target_=torch.optim.SGD"], ["torch.optim.SGD", "Module"]),
    ],
)
def test_mistakes_are_named(overrides: list[str], words: list[str], tiny: Callable[..., Config]) -> None:
    with pytest.raises(UserError) as error:
        build_loss(tiny(*overrides), LABELS)
    for word in words:
        assert word in str(error.value)


def test_class_without_images_cannot_be_balanced() -> None:
    with pytest.raises(UserError, match="no training images of class 3"):
        class_weights("balanced", torch.tensor([0, 1, 2]), 4)
