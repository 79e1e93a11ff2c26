"""What the network families share: activations by name, the initialisation that goes with them, checks of arguments."""

from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torchvision.ops import SqueezeExcitation

Activation = Literal["relu", "leakyrelu", "tanh", "gelu"]

_ACTIVATIONS = {"relu": nn.ReLU, "leakyrelu": nn.LeakyReLU, "tanh": nn.Tanh, "gelu": nn.GELU}
# The names that torch.nn.init knows; GELU has no gain of its own there and is close to ReLU.
_GAIN_NAMES: dict[str, Literal["relu", "leaky_relu", "tanh"]] = {
    "relu": "relu",
    "leakyrelu": "leaky_relu",
    "tanh": "tanh",
    "gelu": "relu",
}


def make_activation(name: Activation) -> nn.Module:
    """A new activation layer. None works in place: on the CPU that is slower in bfloat16, and saves no memory, for
    the convolution or sum that follows keeps the output anyway and the norm before keeps only its input.
    """
    return _ACTIVATIONS[name]()


def conv3x3(in_channels: int, out_channels: int, stride: int = 1, groups: int = 1) -> nn.Conv2d:
    return nn.Conv2d(in_channels, out_channels, 3, stride=stride, padding=1, groups=groups, bias=False)


def conv1x1(in_channels: int, out_channels: int, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(in_channels, out_channels, 1, stride=stride, bias=False)


def squeeze_excitation(channels: int, ratio: int | None) -> list[nn.Module]:
    """Layers that end a residual branch: none, or channels weighted through a bottleneck of `channels / ratio`.

    Hu et al. 2017, https://arxiv.org/abs/1709.01507.
    """
    return [] if ratio is None else [SqueezeExcitation(channels, max(1, channels // ratio))]


class _Concatenate(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, *parts: Tensor) -> Tensor:
        ctx.channels = [part.shape[1] for part in parts]
        return torch.cat(parts, dim=1)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, ...]:
        return tuple(split_channels(grad, ctx.channels))


def concatenate(parts: Sequence[Tensor]) -> Tensor:
    """`torch.cat(parts, dim=1)`, but each part's gradient is a tensor of its own instead of a view of the whole's.

    Through a view's few channels at a time, what computes backward from there is several times slower on the CPU.
    """
    return _Concatenate.apply(*parts)


def split_channels(x: Tensor, channels: Sequence[int]) -> list[Tensor]:
    """`x.split(channels, dim=1)`, but each part is a dense tensor of its own, in the memory format of `x`."""
    return [part.clone() for part in x.split(list(channels), dim=1)]


def init_conv_bn(net: nn.Module, activation: Activation, mode: Literal["fan_in", "fan_out"]) -> None:
    """Kaiming-normal convolutions and BatchNorms at weight 1, bias 0 (He et al. 2015); the rest stays torch's."""
    for module in net.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode=mode, nonlinearity=_GAIN_NAMES[activation])
        elif isinstance(module, nn.BatchNorm2d):
            nn.init.ones_(module.weight)
            nn.init.zeros_(module.bias)


def classifier_head(features: int, num_classes: int) -> nn.Sequential:
    """Global average pooling and one linear layer: `[N, features, H, W]` to `[N, num_classes]`."""
    return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(features, num_classes))


def check_image_size(network: str, image_size: int, minimum: int) -> None:
    """Raises ValueError where nothing of the image would be left at the network's last layers."""
    if image_size < minimum:
        raise ValueError(
            f"{network} needs images of at least {minimum}×{minimum} pixels, got {image_size}×{image_size}:"
            f" set image_size={minimum} or more, or take another network"
        )


def check_same_length(**lists: Sequence[Any]) -> None:
    """Raises ValueError unless the lists, given by their names, have one entry a group each."""
    if len({len(values) for values in lists.values()}) > 1:
        given = ", ".join(f"{name}={list(values)}" for name, values in lists.items())
        raise ValueError(f"expected lists of one length, one entry a group each; got {given}")
