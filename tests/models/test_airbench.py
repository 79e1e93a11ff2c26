"""The parts of airbench's network against numpy and the paper."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from cnnzoo.models.airbench import Airbench, identity_conv, patch_covariance, whitening_filters


def airbench(whitening_images: int = 5000, head_std: float | None = None) -> Airbench:
    return Airbench(
        in_channels=3,
        num_classes=10,
        image_size=16,
        widths=[8, 16, 16],
        batch_norm_momentum=0.6,
        logits_scale=1 / 9,
        head_std=head_std,
        whitening_images=whitening_images,
        whitening_eps=5e-4,
    )


def test_whitened_patches_are_uncorrelated_with_variance_one() -> None:
    images = F.avg_pool2d(torch.randn(200, 3, 18, 18, generator=torch.manual_seed(0)), 3, 1)  # neighbours alike
    filters = whitening_filters(patch_covariance([images], 2), 3, eps=0.0).float()
    assert filters.shape == (12, 3, 2, 2)
    outputs = F.conv2d(images, filters).permute(0, 2, 3, 1).reshape(-1, 12).double()
    np.testing.assert_allclose(outputs.T @ outputs / len(outputs), np.eye(12), atol=1e-4)


def test_patch_covariance_is_numpys_patch_by_patch_and_batch_by_batch() -> None:
    images = torch.randn(5, 2, 4, 6, generator=torch.manual_seed(0))
    patches = np.stack(
        [image[:, y : y + 2, x : x + 2].numpy().ravel() for image in images for y in range(3) for x in range(5)]
    ).astype(np.float64)
    covariance = patch_covariance([images[:3], images[3:]], 2)
    np.testing.assert_allclose(covariance, patches.T @ patches / len(patches), rtol=1e-5, atol=1e-6)


def test_whitening_takes_the_configured_number_of_images() -> None:
    net = airbench(whitening_images=5)
    images = torch.randn(12, 3, 16, 16)
    net.initialize_from((batch, torch.zeros(4)) for batch in images.view(3, 4, 3, 16, 16))
    expected = whitening_filters(patch_covariance([images[:5]], 2), 3, 5e-4).float()
    torch.testing.assert_close(net.whitening.weight, torch.cat([expected, -expected]))
    assert not net.whitening.weight.requires_grad
    assert net.whitening.bias is not None
    assert net.whitening.bias.requires_grad


def test_convolution_begins_as_identity() -> None:
    x = torch.randn(2, 4, 8, 8)
    torch.testing.assert_close(identity_conv(4, 9)(x)[:, :4], x)


def test_batch_norm_has_no_scale_and_keeps_most_of_its_statistics() -> None:
    norms = [module for module in airbench().modules() if isinstance(module, nn.BatchNorm2d)]
    assert len(norms) == 6
    for norm in norms:
        assert (norm.weight == 1).all()
        assert not norm.weight.requires_grad
        norm(torch.full((1, norm.num_features, 2, 2), 5.0))
        assert norm.running_mean is not None
        torch.testing.assert_close(norm.running_mean, torch.full_like(norm.running_mean, 0.4 * 5))  # keeps 0.6


def test_head_at_a_standard_deviation_of_its_own() -> None:
    assert airbench(head_std=1.0).head.weight.std().item() == pytest.approx(1, rel=1e-5)
