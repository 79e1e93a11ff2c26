"""Crops, flips and resizing against torchvision, PIL and torch's own padding."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
import torch.nn.functional as F
import torchvision.transforms.v2.functional as TF
from PIL import Image
from scipy import stats
from torch import Tensor
from torchvision.transforms import RandomHorizontalFlip, RandomResizedCrop

from cnnzoo.config.schema import AugmentationConfig
from cnnzoo.data.augment import (
    Crops,
    crop_and_resize,
    crop_reflect,
    draw_crops,
    draw_jitter,
    full_image_crops,
    jitter,
)
from cnnzoo.errors import UserError

PUBLISHED = AugmentationConfig(flip=0.5, scale=[0.8, 1.0], ratio=[0.9, 1.1], padding=0)
RandomImages = Callable[..., Tensor]


def crop(top: float, left: float, height: float, width: float, flip: bool = False) -> Crops:
    box = [torch.tensor([float(value)]) for value in (top, left, height, width)]
    return Crops(box[0], box[1], box[2], box[3], torch.tensor([flip]))


# --- one crop, pixel by pixel


@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize(
    ("top", "left", "height", "width"), [(0, 0, 32, 32), (3, 1, 28, 30), (2, 0, 29, 32), (5, 4, 20, 25)]
)
def test_crop_equals_torchvision(
    random_images: RandomImages, top: int, left: int, height: int, width: int, flip: bool
) -> None:
    images = random_images(1)
    ours = crop_and_resize(images, crop(top, left, height, width, flip), 32)
    reference = TF.resized_crop(images.float(), top, left, height, width, [32, 32], antialias=True)
    if flip:
        reference = TF.horizontal_flip(reference)
    torch.testing.assert_close(ours, reference, atol=1e-3, rtol=0)


@pytest.mark.parametrize("size", [14, 32, 40, 96])
def test_resizing_equals_pil(random_images: RandomImages, size: int) -> None:
    """Up and down, to the rounding of PIL's two passes over whole numbers."""
    images = random_images(1, channels=1, height=32, width=28)
    ours = crop_and_resize(images, crop(4, 2, 24, 20), size)[0, 0]
    image = Image.fromarray(images[0, 0].numpy()).crop((2, 4, 22, 28))
    reference = image.resize((size, size), Image.Resampling.BILINEAR)
    assert np.abs(ours.numpy() - np.asarray(reference, dtype=float)).max() <= 1.01


def test_full_image_at_its_own_size_is_unchanged(random_images: RandomImages) -> None:
    images = random_images(5)
    ours = crop_and_resize(images, full_image_crops(5, 32, 32), 32)
    torch.testing.assert_close(ours, images.float(), atol=1e-4, rtol=0)


def test_padding_is_black(random_images: RandomImages) -> None:
    images = random_images(1)
    ours = crop_and_resize(images, crop(-4, 3, 32, 32), 32)
    reference = torch.zeros(1, 3, 32, 32)
    reference[:, :, 4:, :29] = images[:, :, :28, 3:].float()
    torch.testing.assert_close(ours, reference, atol=1e-4, rtol=0)


@pytest.mark.parametrize(("top", "left"), [(0, 0), (-2, 1), (2, 2), (1, -2)])
@pytest.mark.parametrize("flip", [False, True])
def test_reflected_crop_equals_torch_pad(random_images: RandomImages, top: int, left: int, flip: bool) -> None:
    images = random_images(3, height=8, width=10)
    padded = F.pad(images[2:].float(), (2, 2, 2, 2), mode="reflect")
    reference = padded[:, :, 2 + top : 10 + top, 2 + left : 12 + left]
    reference = reference.flip(3) if flip else reference
    assert torch.equal(crop_reflect(images[2:], crop(top, left, 8, 10, flip)).float(), reference)


# --- the draws


def test_crops_are_distributed_like_torchvisions() -> None:
    count = 20_000
    ours = draw_crops(PUBLISHED, count, 32, 32, torch.Generator().manual_seed(1))
    torch.manual_seed(2)
    image = torch.zeros(3, 32, 32)
    theirs = np.array([RandomResizedCrop.get_params(image, [0.8, 1.0], [0.9, 1.1]) for _ in range(count)])
    top, left, height, width = (field.numpy() for field in (ours.top, ours.left, ours.height, ours.width))
    assert np.all((top >= 0) & (left >= 0) & (top + height <= 32) & (left + width <= 32))
    for name, a, b in (
        ("area", height * width, theirs[:, 2] * theirs[:, 3]),
        ("ratio", width / height, theirs[:, 3] / theirs[:, 2]),
        ("top", top, theirs[:, 0]),
        ("left", left, theirs[:, 1]),
    ):
        # All values are discrete: compare how often each occurs.
        values = np.union1d(a, b)
        table = np.array([[np.sum(np.isclose(sample, v)) for v in values] for sample in (a, b)])
        common = table.sum(axis=0) >= 20
        rest = table[:, ~common].sum(axis=1, keepdims=True)
        table = np.hstack([table[:, common], rest]) if rest.sum() else table[:, common]
        assert stats.chi2_contingency(table).pvalue > 1e-4, name


def test_crop_that_never_fits_falls_back_like_torchvisions() -> None:
    """A ratio that no box inside the image can have."""
    augmentation = AugmentationConfig(flip=0, scale=[1.0, 1.0], ratio=[3.0, 4.0], padding=0)
    ours = draw_crops(augmentation, 50, 32, 32, torch.Generator().manual_seed(0))
    theirs = RandomResizedCrop.get_params(torch.zeros(3, 32, 32), [1.0, 1.0], [3.0, 4.0])
    assert {tuple(map(int, box)) for box in zip(ours.top, ours.left, ours.height, ours.width, strict=True)} == {theirs}


def test_half_of_the_images_are_flipped_independently() -> None:
    flips = draw_crops(PUBLISHED, 10_000, 32, 32, torch.Generator().manual_seed(0)).flip
    assert stats.binomtest(int(flips.sum()), 10_000, RandomHorizontalFlip().p).pvalue > 1e-4
    changes = int((flips[1:] != flips[:-1]).sum())
    assert stats.binomtest(changes, 9_999, 0.5).pvalue > 1e-4


def test_padded_crops_reach_every_offset_equally() -> None:
    augmentation = AugmentationConfig(flip=0, scale=None, ratio=None, padding=4)
    crops = draw_crops(augmentation, 9_000, 32, 32, torch.Generator().manual_seed(0))
    values, counts = np.unique(crops.top.numpy(), return_counts=True)
    assert values.tolist() == list(range(-4, 5))
    assert stats.chisquare(counts).pvalue > 1e-4


# --- brightness and contrast


@pytest.mark.parametrize("channels", [1, 3])
def test_jitter_equals_torchvision(channels: int, random_images: RandomImages) -> None:
    images = random_images(3, channels=channels).float()
    factors = torch.tensor([[0.7, 1.0], [1.6, 0.5], [1.1, 1.4]])
    for image, result, (brightness, contrast) in zip(images, jitter(images, factors), factors.tolist(), strict=True):
        expected = TF.adjust_contrast(TF.adjust_brightness(image / 255, brightness), contrast)
        torch.testing.assert_close(result / 255, expected, atol=1e-4, rtol=0)


def test_jitter_is_drawn_around_one() -> None:
    augmentation = AugmentationConfig(flip=0.0, scale=None, ratio=None, padding=0, brightness=0.2, contrast=0.5)
    factors = draw_jitter(augmentation, 5000, torch.manual_seed(0)).numpy()
    for column, spread in zip(factors.T, (0.2, 0.5), strict=True):
        assert stats.kstest(column, stats.uniform(1 - spread, 2 * spread).cdf).pvalue > 0.01
    assert abs(np.corrcoef(factors.T)[0, 1]) < 0.05


@pytest.mark.parametrize("mode", ["constant", "reflect"])
def test_padding_by_the_size_of_the_image(mode: str) -> None:
    """Of those in memory, which `dataset.image_size` may differ from."""
    augmentation = AugmentationConfig(flip=0.0, scale=None, ratio=None, padding=8, padding_mode=mode)
    draw_crops(augmentation, 2, 9, 12, torch.Generator())
    with pytest.raises(UserError, match=r"augmentation\.padding=8: the images have 9×8 pixels; expected less"):
        draw_crops(augmentation, 2, 9, 8, torch.Generator())
