"""Test-time augmentation: a prediction as the mean over several views of an image."""

from collections.abc import Callable, Iterator

import torch
import torch.nn.functional as F
from torch import Tensor


def mean_over_views(
    forward: Callable[[Tensor], Tensor], images: Tensor, logits: Tensor, tta: str, confidence: float | None = None
) -> Tensor:
    """Return the mean of `forward` over the views of `images`, of which the first gives `logits` `[N, classes]`.

    confidence: images whose most probable class has at least this probability keep their `logits`; None: none do.
    """
    logits = logits.to(images.device)
    unsure = torch.ones(len(images), dtype=torch.bool, device=images.device)
    if confidence is not None:
        unsure = logits.softmax(dim=1).amax(dim=1) < confidence
    if not unsure.any():
        return logits
    (share, _), *views = tta_views(images[unsure], tta)
    mean = logits[unsure] * share
    for share, view in views:
        mean = mean + share * forward(view)
    return logits.index_put((unsure,), mean)


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
