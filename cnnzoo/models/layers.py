"""What the network families share: activations by name and the initialisation that goes with them."""

from typing import Literal

from torch import nn

Activation = Literal["relu", "leakyrelu", "tanh", "gelu"]

_ACTIVATIONS = {"relu": nn.ReLU, "leakyrelu": nn.LeakyReLU, "tanh": nn.Tanh, "gelu": nn.GELU}
# The names that torch.nn.init knows; GELU has no gain of its own there and is close to ReLU.
_GAIN_NAMES = {"relu": "relu", "leakyrelu": "leaky_relu", "tanh": "tanh", "gelu": "relu"}


def make_activation(name: Activation) -> nn.Module:
    """A new activation layer; the rectifiers work in place, for every use here follows a layer that owns its output."""
    return _ACTIVATIONS[name](inplace=True) if name in ("relu", "leakyrelu") else _ACTIVATIONS[name]()


def init_conv_bn(net: nn.Module, activation: Activation, mode: Literal["fan_in", "fan_out"]) -> None:
    """Kaiming-normal convolutions and BatchNorms at weight 1, bias 0 (He et al. 2015); other layers keep torch's own."""
    for module in net.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode=mode, nonlinearity=_GAIN_NAMES[activation])
        elif isinstance(module, nn.BatchNorm2d):
            nn.init.ones_(module.weight)
            nn.init.zeros_(module.bias)


def classifier_head(features: int, num_classes: int) -> nn.Sequential:
    """Global average pooling and one linear layer: `[N, features, H, W]` to `[N, num_classes]`."""
    return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(features, num_classes))
