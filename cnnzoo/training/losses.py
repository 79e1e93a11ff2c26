"""The training loss of a configuration, with class weights."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cnnzoo.config import Config, instantiate
from cnnzoo.errors import UserError


def build_loss(config: Config, labels: Tensor) -> nn.Module:
    """Return the loss of the section `loss`: logits `[N, C]` and labels `[N] int64` to one number.

    With mixup or cutmix, it takes class probabilities `[N, C]` instead of labels.

    Args:
        labels: of the training images, for `loss.weight=balanced`.

    Raises:
        UserError: there is no such loss, it refuses its arguments, or it is none of classes.
    """
    num_classes = config.dataset.num_classes
    arguments = {key: value for key, value in config.loss.items() if key != "weight"}
    if (weight := config.loss.get("weight")) is not None:
        arguments["weight"] = class_weights(weight, labels, num_classes)
    loss = instantiate(nn.Module, "loss", arguments, trusted_packages=config.trusted_packages)
    for module in loss.modules():
        for name, buffer in list(module.named_buffers(recurse=False)):
            module.register_buffer(name, buffer, persistent=False)  # a checkpoint holds the network alone
    _try(loss, config)
    return loss


def class_weights(weight: str | Sequence[float], labels: Tensor, num_classes: int) -> Tensor:
    """Return `[C] float32` of `loss.weight`: numbers, or `balanced`.

    `balanced` is scikit-learn's: N / (C · N_c), the number of images over that of classes times the class's images.

    Raises:
        UserError: it is neither, or a class without images would be balanced.
    """
    if weight == "balanced":
        from sklearn.utils.class_weight import compute_class_weight

        counts = labels.bincount(minlength=num_classes)
        if not counts.all():
            missing = (counts == 0).nonzero().flatten().tolist()
            raise UserError(f"loss.weight=balanced: there are no training images of class {missing[0]}.")
        classes = torch.arange(num_classes).numpy()
        weight = compute_class_weight("balanced", classes=classes, y=labels.cpu().numpy()).tolist()
    elif (
        not isinstance(weight, list)
        or len(weight) != num_classes
        or not all(isinstance(w, int | float) and w >= 0 for w in weight)
    ):
        raise UserError(
            f"loss.weight={weight}: expected one number of at least 0 for each of the {num_classes} classes,"
            " balanced, or null."
        )
    return torch.tensor(weight, dtype=torch.float32)


def _try(loss: nn.Module, config: Config) -> None:
    """Refuse a loss that could not be trained, before the training."""
    mixed = config.augmentation.mixup or config.augmentation.cutmix
    labels = torch.tensor([0, 1])
    targets = F.one_hot(labels, config.dataset.num_classes).float() if mixed else labels
    takes = "class probabilities, which mixup and cutmix make" if mixed else "logits and class numbers"
    try:
        value = loss(torch.zeros(2, config.dataset.num_classes), targets)
    except Exception as error:
        raise UserError(
            f"loss._target_={config.loss['_target_']} does not take {takes}: {error}. loss=cross_entropy does."
        ) from error
    if not isinstance(value, Tensor) or value.ndim:
        raise UserError(
            f"loss._target_={config.loss['_target_']}: expected one number, such as with +loss.reduction=mean."
        )
