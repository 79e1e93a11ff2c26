"""Predictions and test-time augmentation."""

import numpy as np
import pytest
import torch
from torch import nn

from cnnzoo.config import compose
from cnnzoo.data.batches import BatchLoader
from cnnzoo.data.dataset import Dataset
from cnnzoo.data.images import Images
from cnnzoo.nn.build import build_model
from cnnzoo.training.predict import Predictions, evaluate, predict, predict_tta


def loader(images: Images) -> BatchLoader:
    return BatchLoader(images, torch.zeros(1), torch.ones(1), image_size=8, batch_size=7)


def random_images() -> Images:
    return Images(torch.randint(0, 256, (20, 1, 8, 8), dtype=torch.uint8), torch.arange(20))


def test_mirrored_predictions_do_not_see_left_and_right() -> None:
    images = random_images()
    mirrored = Images(images.images.flip(3), images.labels)
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    plain = [predict(model, loader(each)) for each in (images, mirrored)]
    ours, theirs = (
        predict_tta(model, loader(each), first, "mirror").logits
        for each, first in zip((images, mirrored), plain, strict=True)
    )
    torch.testing.assert_close(ours, theirs)
    assert not torch.allclose(ours, plain[0].logits)


def test_predictions_are_in_the_order_of_the_split_and_leave_the_mode_alone() -> None:
    images = random_images()
    model = nn.Sequential(nn.Flatten(), nn.Dropout(0.5), nn.Linear(64, 10)).train()
    predictions = predict(model, loader(images))
    assert model.training
    assert torch.equal(predictions.labels, images.labels)
    expected = model.eval()(images.images.float() / 255)
    torch.testing.assert_close(predictions.logits, expected)


def test_metrics_of_predictions() -> None:
    """By hand: two of three are right; the loss is the mean of ln(1 + e^-2), ln(1 + e^-1) and ln(1 + e^3)."""
    predictions = Predictions(torch.tensor([[2.0, 0.0], [0.0, 1.0], [3.0, 0.0]]), torch.tensor([0, 1, 1]), 0.0)
    assert predictions.accuracy == pytest.approx(2 / 3)
    assert predictions.loss == pytest.approx((np.log1p(np.exp(-2)) + np.log1p(np.exp(-1)) + np.log1p(np.exp(3))) / 3)


def test_evaluate_takes_the_splits_that_there_are(dataset: Dataset) -> None:
    config = compose(["dataset=digits", "image_size=8", "model=mlp"])
    model = build_model(config)
    val, test, test_tta = evaluate(model, dataset, config, torch.device("cpu"))
    assert val is not None
    assert test_tta is None
    assert (len(val.labels), len(test.labels)) == (180, 360)
    config.tta = "mirror"
    _, test, test_tta = evaluate(model, dataset, config, torch.device("cpu"))
    assert test_tta is not None
    assert test_tta.logits.shape == test.logits.shape
    assert not torch.allclose(test_tta.logits, test.logits)
