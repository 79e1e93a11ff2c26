"""Test-time augmentation."""

import numpy as np
import pytest
import torch

from cnnzoo.config.schema import TTA
from cnnzoo.training.tta import tta_views


def test_views_are_weighted_as_published() -> None:
    """Six views: half of the weight on the image in its place, half on the two shifts; each half mirrored."""
    images = torch.arange(16.0).view(1, 1, 4, 4)
    shares, seen = zip(*tta_views(images, "mirror_translate"), strict=True)
    assert shares == (0.25, 0.25, 0.125, 0.125, 0.125, 0.125)
    padded = np.pad(images[0, 0].numpy(), 1, mode="reflect")
    expected = [
        image for plain in (images[0, 0].numpy(), padded[:4, :4], padded[2:, 2:]) for image in (plain, plain[:, ::-1])
    ]
    for ours, theirs in zip(seen, expected, strict=True):
        np.testing.assert_array_equal(ours[0, 0], theirs)


@pytest.mark.parametrize("tta", TTA)
def test_shares_add_up_to_one(tta: str) -> None:
    assert sum(share for share, _ in tta_views(torch.rand(1, 1, 4, 4), tta)) == 1


def test_unknown_augmentation() -> None:
    with pytest.raises(ValueError, match="no such test-time augmentation"):
        list(tta_views(torch.rand(1, 1, 4, 4), "rotate"))
