"""Loaders as the configuration describes them."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from cnnzoo.config import Config
from cnnzoo.data.dataset import Dataset
from cnnzoo.data.images import Images
from cnnzoo.data.loaders import eval_loader, steps_until, train_loader
from cnnzoo.errors import UserError


@pytest.fixture
def dataset(random_images: Callable[..., Tensor]) -> Dataset:
    """100 training images and no validation."""
    train, none = (Images(random_images(count, 1, 8, 8), torch.arange(count) % 10) for count in (100, 0))
    return Dataset(train, none, train, tuple("0123456789"), torch.zeros(1), torch.ones(1), resident=True, workers=0)


def test_train_loader(config: Callable[..., Config], dataset: Dataset) -> None:
    settings = config("dataset=digits", "image_size=12", "dataset.batch_size=30")
    loader = train_loader(dataset, settings, epoch=1)
    assert [tuple(images.shape) for images, _ in loader] == [(30, 1, 12, 12)] * 3


def test_seed_of_the_run_determines_the_order(config: Callable[..., Config], dataset: Dataset) -> None:
    def labels(*overrides: str, epoch: int) -> Tensor:
        loader = train_loader(dataset, config("dataset=digits", *overrides), epoch=epoch)
        return torch.cat([labels for _, labels in loader])

    assert torch.equal(labels("seed=42", epoch=1), labels(epoch=1))
    assert not torch.equal(labels("seed=43", epoch=1), labels(epoch=1))
    assert not torch.equal(labels(epoch=2), labels(epoch=1))


def test_eval_loader_keeps_every_image_in_order(config: Callable[..., Config], dataset: Dataset) -> None:
    settings = config("dataset=digits", "augmentation=flip_crop", "dataset.eval_batch_size=30")
    labels = [labels for _, labels in eval_loader(dataset, dataset.test, settings)]
    assert list(map(len, labels)) == [30, 30, 30, 10]
    assert torch.equal(torch.cat(labels), dataset.test.labels)


def test_batch_larger_than_the_training_split(config: Callable[..., Config], dataset: Dataset) -> None:
    too_large = ["dataset=digits", "dataset.batch_size=101"]
    with pytest.raises(UserError, match=r"dataset\.batch_size=101: .* 100 training images, .*dataset\.drop_last=false"):
        train_loader(dataset, config(*too_large))
    assert len(train_loader(dataset, config(*too_large, "dataset.drop_last=false"))) == 1
    assert len(train_loader(dataset, config("dataset=digits", "dataset.batch_size=100"))) == 1


@pytest.mark.parametrize(
    ("options", "batches"),
    [
        (["trainer.max_epochs=3"], [10, 10, 10]),
        (["trainer.max_epochs=1.5"], [10, 5]),
        (["trainer.max_epochs=1.21"], [10, 3]),  # rounded up
        (["trainer.max_epochs=1.1"], [10, 1]),
        (["trainer.max_epochs=1.5", "trainer.accumulate_grad_batches=4"], [10, 8]),  # 2 of 3 steps
        (["trainer.max_epochs=1.5", "trainer.limit_train_batches=6"], [10, 3]),  # Lightning ends the first one
    ],
)
def test_last_epoch_may_be_cut_short(
    config: Callable[..., Config], dataset: Dataset, options: list[str], batches: list[int]
) -> None:
    settings = config("dataset=digits", "dataset.batch_size=10", *options)
    assert [len(train_loader(dataset, settings, epoch=epoch)) for epoch in range(len(batches))] == batches


def test_steps_until() -> None:
    assert steps_until(2, 10) == 20
    assert steps_until(1.1, 10) == 11  # 1.1 × 10 is 11.000000000000002
    assert steps_until(0.01, 10) == 1
