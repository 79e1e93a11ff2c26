"""Building blocks that several network families share, their initialisation, and checks of their arguments."""

from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torchvision.ops import SqueezeExcitation

Activation = Literal["relu", "leakyrelu", "tanh", "gelu"]

_ACTIVATIONS: dict[str, type[nn.Module]] = {
    "relu": nn.ReLU,
    "leakyrelu": nn.LeakyReLU,
    "tanh": nn.Tanh,
    "gelu": nn.GELU,
}
# Names of torch.nn.init. GELU has no gain of its own there and is close to ReLU.
_GAIN_NAMES: dict[str, Literal["relu", "leaky_relu", "tanh"]] = {
    "relu": "relu",
    "leakyrelu": "leaky_relu",
    "tanh": "tanh",
    "gelu": "relu",
}


def make_activation(name: Activation) -> nn.Module:
    """Return a new activation layer.

    None works in place: on a CPU that is slower in bfloat16, and it saves no memory, because the convolution or sum
    that follows keeps the output anyway and the norm before keeps only its input.
    """
    return _ACTIVATIONS[name]()


def conv3x3(in_channels: int, out_channels: int, stride: int = 1, groups: int = 1) -> nn.Conv2d:
    return nn.Conv2d(in_channels, out_channels, 3, stride=stride, padding=1, groups=groups, bias=False)


def conv1x1(in_channels: int, out_channels: int, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(in_channels, out_channels, 1, stride=stride, bias=False)


class Branches(nn.Module):
    """Parallel branches: all read the same input, and their outputs are concatenated along the channels.

    The branches are the submodules, in the order of their registration. `cnnzoo.nn.speed` makes them train faster.
    """

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([branch(x) for branch in self.children()], dim=1)


def squeeze_excitation(channels: int, ratio: int | None) -> list[nn.Module]:
    """Return the layers that end a residual branch: none, or channel weights from `channels / ratio` hidden units.

    Hu et al. 2017, https://arxiv.org/abs/1709.01507.
    """
    return [] if ratio is None else [SqueezeExcitation(channels, max(1, channels // ratio))]


def classifier_head(features: int, num_classes: int) -> nn.Sequential:
    """Global average pooling and one linear layer: `[N, features, H, W]` to `[N, num_classes]`."""
    return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(features, num_classes))


def init_conv_bn(net: nn.Module, activation: Activation, mode: Literal["fan_in", "fan_out"]) -> None:
    """Kaiming-normal convolutions, and batch norms of weight 1 and bias 0 (He et al. 2015); the rest stays torch's."""
    for module in net.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode=mode, nonlinearity=_GAIN_NAMES[activation])
        elif isinstance(module, nn.BatchNorm2d):
            nn.init.ones_(module.weight)
            nn.init.zeros_(module.bias)


def check_image_size(network: str, image_size: int, minimum: int) -> None:
    """Raise ValueError where nothing of the image would be left at the network's last layers."""
    if image_size < minimum:
        raise ValueError(
            f"{network} needs images of at least {minimum}×{minimum} pixels, got {image_size}×{image_size}:"
            f" set image_size={minimum} or more, or choose another network"
        )


def check_same_length(**lists: Sequence[Any]) -> None:
    """Raise ValueError unless the lists, given by name, are equally long: one entry per stage of the network."""
    if len({len(values) for values in lists.values()}) > 1:
        given = ", ".join(f"{name}={list(values)}" for name, values in lists.items())
        raise ValueError(f"expected lists of the same length, one entry per stage; got {given}")
