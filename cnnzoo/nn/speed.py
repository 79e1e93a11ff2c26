"""Make a network train faster, by replacing modules of certain types. Applied on every device, measured on CPUs.

Parameters and buffers keep their names, so a checkpoint fits the network with the replacements and without. Outputs in
evaluation stay the same to the last bit; in training they stay the same up to rounding.
"""

from collections.abc import Sequence
from typing import Any, TypeGuard

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cnnzoo.nn.layers import Branches
from cnnzoo.nn.max_pool import MaxPool3x3, is_max_pool_3x3


def speed_up(model: nn.Module) -> nn.Module:
    """Replace modules of `model` in place, and return it, or its own replacement. Call it once, before training.

    `Branches` become `MergedBranches`, and 3×3 max-poolings with stride 1 become `MaxPool3x3`.
    """
    for name, child in model.named_children():
        replacement = speed_up(child)
        if replacement is not child:
            setattr(model, name, replacement)
    if is_max_pool_3x3(model):
        return MaxPool3x3()
    if isinstance(model, Branches) and type(model).forward is Branches.forward and _can_be_merged(model):
        return MergedBranches(model)
    return model


class MergedBranches(Branches):
    """`Branches` that compute the 1×1 convolutions they begin with as a single one while training.

    Training is bound by memory bandwidth, and so the input is read once instead of once per branch. Each part of the
    result, and of the gradient at the concatenation, is a dense tensor of its own: through a view of a few channels,
    whatever computes from there is several times slower on a CPU.
    """

    def __init__(self, branches: Branches) -> None:
        super().__init__()
        self.training = branches.training
        for name, branch in branches.named_children():
            self.add_module(name, branch)

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return super().forward(x)
        convolved = iter(_convolve(x, _pointwise_convolutions(self)))
        outputs: list[Tensor] = []
        for branch in self.children():
            first, *rest = _layers(branch)
            output = next(convolved) if _is_pointwise(first) else first(x)
            for layer in rest:
                output = layer(output)
            outputs.append(output)
        return concatenate(outputs)


def _can_be_merged(branches: Branches) -> bool:
    convolutions = _pointwise_convolutions(branches)
    return len(convolutions) > 1 and len({conv.bias is None for conv in convolutions}) == 1


def _pointwise_convolutions(branches: Branches) -> list[nn.Conv2d]:
    """Return the 1×1 convolutions that branches begin with."""
    first = [_layers(branch)[0] for branch in branches.children()]
    return [layer for layer in first if _is_pointwise(layer)]


def _layers(branch: nn.Module) -> list[nn.Module]:
    return (list(branch) if type(branch) is nn.Sequential else []) or [branch]


def _is_pointwise(module: nn.Module) -> TypeGuard[nn.Conv2d]:
    if type(module) is not nn.Conv2d:  # a subclass may compute something else
        return False
    return (module.kernel_size, module.stride, module.padding, module.groups) == ((1, 1), (1, 1), (0, 0), 1)


def _convolve(x: Tensor, convolutions: Sequence[nn.Conv2d]) -> list[Tensor]:
    """Return `[conv(x) for conv in convolutions]`, computed as one convolution."""
    weight = torch.cat([conv.weight for conv in convolutions])
    biases = [conv.bias for conv in convolutions if conv.bias is not None]
    output = F.conv2d(x, weight, torch.cat(biases) if biases else None)
    return split_channels(output, [conv.out_channels for conv in convolutions])


def split_channels(x: Tensor, channels: Sequence[int]) -> list[Tensor]:
    """Return `torch.split(x, channels, dim=1)`, but each part as a dense tensor, in the memory format of `x`."""
    return [part.clone() for part in torch.split(x, list(channels), dim=1)]


class _Concatenate(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, *parts: Tensor) -> Tensor:
        ctx.channels = [part.shape[1] for part in parts]
        return torch.cat(parts, dim=1)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, ...]:
        return tuple(split_channels(grad, ctx.channels))


def concatenate(parts: Sequence[Tensor]) -> Tensor:
    """Return `torch.cat(parts, dim=1)`, whose backward pass gives each part a dense gradient instead of a view."""
    whole: Tensor = _Concatenate.apply(*parts)
    return whole
