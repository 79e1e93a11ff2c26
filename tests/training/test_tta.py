"""Test-time augmentation."""

import numpy as np
import pytest
import torch

from cnnzoo.config.schema import TTA
from cnnzoo.training.tta import mean_over_views, tta_views


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


def test_the_mean_takes_the_first_view_from_what_is_known() -> None:
    images, weights = torch.rand(5, 1, 4, 4), torch.rand(16, 3)
    seen = []

    def forward(views: torch.Tensor) -> torch.Tensor:
        seen.append(len(views))
        return views.flatten(1) @ weights

    plain = images.flatten(1) @ weights
    mean = mean_over_views(forward, images, plain, "mirror_translate")
    expected = sum(share * (view.flatten(1) @ weights) for share, view in tta_views(images, "mirror_translate"))
    torch.testing.assert_close(mean, expected)
    assert seen == [5] * 5  # not the sixth


def test_only_unsure_images_get_further_views() -> None:
    images = torch.rand(4, 1, 4, 4)
    plain = torch.tensor([[9.0, 0.0], [0.1, 0.0], [0.0, 0.2], [0.0, 9.0]])
    seen = []

    def forward(views: torch.Tensor) -> torch.Tensor:
        seen.append(views)
        return torch.ones(len(views), 2)

    mean = mean_over_views(forward, images, plain, "mirror", confidence=0.9)
    torch.testing.assert_close(mean, torch.stack([plain[0], (plain[1] + 1) / 2, (plain[2] + 1) / 2, plain[3]]))
    assert torch.equal(seen[0], images[1:3].flip(3))
    assert mean_over_views(forward, images, plain, "mirror", confidence=0.0) is plain
    assert len(seen) == 1
