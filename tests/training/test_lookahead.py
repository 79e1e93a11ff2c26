"""Lookahead against a loop by hand."""

from collections.abc import Callable
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
import torch.nn.functional as F

from cnnzoo.data.loaders import train_loader
from cnnzoo.nn.build import build_model
from cnnzoo.training.lookahead import Lookahead
from cnnzoo.training.optimizers import build_optimizer

Train = Callable[..., Any]


def test_published_scheme_step_by_step(train: Train) -> None:
    """The average and the weights that it leaves, for a linear network."""
    result = train(
        "callbacks=lookahead",
        "callbacks.lookahead.every_n_steps=3",
        "callbacks.lookahead.decay=0.8",
        "model.widths=[]",
        "loss.label_smoothing=0.2",
        "dataset.val_size=0",
        "trainer.checkpoint_every_n_epochs=2",
    )
    config, dataset = result.config, result.dataset
    pl.seed_everything(config.seed, verbose=False)
    model = build_model(config)
    optimizer = build_optimizer(model, config.optimizer)
    average = [p.detach().clone() for p in model.parameters()]
    step = 0
    for epoch in range(2):
        for images, labels in train_loader(dataset, config, epoch=epoch):
            optimizer.zero_grad()
            F.cross_entropy(model(images), labels, label_smoothing=0.2).backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            step += 1
            if step % 3 == 0:
                decay = 0.8 * (step / 14) ** 3
                for a, p in zip(average, model.parameters(), strict=True):
                    a.copy_(decay * a + (1 - decay) * p.detach())
                    p.data.copy_(a)
    assert step == 14
    for a, (key, value) in zip(average, result.weights("best").items(), strict=True):
        torch.testing.assert_close(a, value, msg=key)


@pytest.mark.parametrize("arguments", [(0, 0.5, 3.0), (5, 1.0, 3.0), (5, -0.1, 3.0)])
def test_arguments_out_of_range_are_refused(arguments: tuple[int, float, float]) -> None:
    with pytest.raises(ValueError, match="expected at least"):
        Lookahead(*arguments)
