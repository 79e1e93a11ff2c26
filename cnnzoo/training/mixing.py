"""Mixup and cutmix: training batches of mixed images and class probabilities."""

from collections.abc import Callable

from torch import Tensor

from cnnzoo.config.schema import AugmentationConfig

Mixing = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]


def build_mixing(config: AugmentationConfig, num_classes: int) -> Mixing | None:
    """Return a function of a batch: images `[N, C, H, W]` and labels `[N] int64` to images and `[N, classes] float32`.

    Each image is mixed with the one before it, in a ratio drawn for the batch from torch's global generator. With both
    mixup and cutmix, each batch draws one of them. None if there is neither.
    """
    if not (config.mixup or config.cutmix):
        return None
    from torchvision.transforms import v2

    transforms = [
        kind(alpha=alpha, num_classes=num_classes)
        for kind, alpha in ((v2.MixUp, config.mixup), (v2.CutMix, config.cutmix))
        if alpha
    ]
    return transforms[0] if len(transforms) == 1 else v2.RandomChoice(transforms)  # type: ignore[no-any-return]
