"""Mixup and cutmix by hand, in a ratio that is read off the labels."""

import pytest
import torch

from cnnzoo.config.schema import AugmentationConfig
from cnnzoo.training.mixing import build_mixing

IMAGES = torch.rand(8, 3, 16, 16, generator=torch.manual_seed(0)).to(memory_format=torch.channels_last)
LABELS = torch.arange(8) % 4


def config(**settings: float) -> AugmentationConfig:
    return AugmentationConfig(flip=0.0, scale=None, ratio=None, padding=0, **settings)  # type: ignore[arg-type]


def share_of_own_label(targets: torch.Tensor) -> float:
    shares = targets.gather(1, LABELS[:, None]).flatten()
    assert torch.allclose(shares, shares[0].expand(8))
    assert torch.allclose(targets.sum(1), torch.ones(8))
    return shares[0].item()


@pytest.mark.parametrize("seed", range(3))
def test_mixup_is_a_weighted_mean_with_the_image_before(seed: int) -> None:
    mixing = build_mixing(config(mixup=1.0), num_classes=4)
    assert mixing is not None
    torch.manual_seed(seed)
    images, targets = mixing(IMAGES, LABELS)
    share = share_of_own_label(targets)
    for i in range(8):
        torch.testing.assert_close(images[i], share * IMAGES[i] + (1 - share) * IMAGES[i - 1])
        assert targets[i, LABELS[i - 1]].item() == pytest.approx(1 - share)
    assert images.is_contiguous(memory_format=torch.channels_last)


def test_cutmix_pastes_a_box_in_the_share_of_its_area() -> None:
    mixing = build_mixing(config(cutmix=1.0), num_classes=4)
    assert mixing is not None
    torch.manual_seed(1)
    images, targets = mixing(IMAGES, LABELS)
    share = share_of_own_label(targets)
    own = (images == IMAGES).all(1)
    pasted = (images == IMAGES.roll(1, 0)).all(1)
    assert (own ^ pasted).all()
    assert own.double().mean().item() == pytest.approx(share)
    assert 0 < share < 1


def test_both_take_turns() -> None:
    mixing = build_mixing(config(mixup=1.0, cutmix=1.0), num_classes=4)
    assert mixing is not None
    torch.manual_seed(0)
    kinds = {
        bool(((images == IMAGES) | (images == IMAGES.roll(1, 0))).all())
        for images, _ in (mixing(IMAGES, LABELS) for _ in range(20))
    }
    assert kinds == {True, False}


def test_ratios_follow_the_beta_distribution() -> None:
    """Variance of Beta(α, α): 1 / (4 (2α + 1)); α = 0.2 is rarely near a half."""
    mixing = build_mixing(config(mixup=0.2), num_classes=4)
    assert mixing is not None
    torch.manual_seed(0)
    shares = torch.tensor([mixing(IMAGES[:2, :, :1, :1], LABELS[:2])[1][0, 0] for _ in range(2000)])
    assert shares.mean().item() == pytest.approx(0.5, abs=0.04)
    assert shares.var().item() == pytest.approx(1 / (4 * 1.4), rel=0.06)


def test_nothing_is_mixed_by_default() -> None:
    assert build_mixing(config(), num_classes=4) is None
