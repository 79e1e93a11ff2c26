"""Test-time augmentation: a prediction as the mean over several views of an image."""

from collections.abc import Iterator

import torch.nn.functional as F
from torch import Tensor


def tta_views(images: Tensor, tta: str) -> Iterator[tuple[float, Tensor]]:
    """Yield views of images `[N, C, H, W]`, each with its share in the mean.

    "none": the images; "mirror": half of them, half of their mirror images; "mirror_translate": half of that, half of
    the same for images moved by one pixel along the diagonal, down and up (Jordan 2024, section 3.5,
    https://arxiv.org/abs/2404.00498).
    """
    if tta == "none":
        yield 1.0, images
        return
    shifted = []
    if tta not in ("mirror", "mirror_translate"):
        raise ValueError(f"tta={tta}: no such test-time augmentation")
    if tta == "mirror_translate":
        height, width = images.shape[2:]
        padded = F.pad(images, (1, 1, 1, 1), mode="reflect")
        shifted = [padded[:, :, :height, :width], padded[:, :, 2:, 2:]]
    for share, view in [(0.5 if shifted else 1.0, images), *((0.25, view) for view in shifted)]:
        yield share / 2, view
        yield share / 2, view.flip(3)
