"""Three small networks with the defaults of Keras: a CNN, two convolutions, and fully connected layers.

From a text that follows Foster, Generative Deep Learning (2nd edition), chapter 2. Where the defaults of Keras differ
from torch's, they are set here: Glorot-uniform weights and zero biases, LeakyReLU with slope 0.3, batch norm with
ε 1e-3 and momentum 0.99 (0.01 in torch's terms), and "same" padding. Feature maps are flattened channels first here and
channels last in Keras, which only permutes the next layer's inputs. Keras' `model.summary()` counts a batch norm's
running statistics as (non-trainable) parameters; torch does not.
"""

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from cnnzoo.nn.layers import Activation, make_activation

LEAKY_SLOPE = 0.3
BN_EPS = 1e-3
BN_MOMENTUM = 0.01


def same_padding(size: int, kernel_size: int, stride: int) -> tuple[int, int]:
    """Return the zeros before and after an axis of `size` that make ceil(size / stride) output positions."""
    total = max((-(-size // stride) - 1) * stride + kernel_size - size, 0)
    return total // 2, total - total // 2


class SameConv2d(nn.Conv2d):
    """A convolution with Keras' "same" padding: the least possible, with an odd zero at the right and bottom."""

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int, stride: int) -> None:
        super().__init__(in_channels, out_channels, kernel_size, stride=stride)

    def forward(self, x: Tensor) -> Tensor:
        top, bottom = same_padding(x.shape[2], self.kernel_size[0], self.stride[0])
        left, right = same_padding(x.shape[3], self.kernel_size[1], self.stride[1])
        return super().forward(F.pad(x, (left, right, top, bottom)))


def init_keras(net: nn.Module) -> None:
    """Glorot-uniform weights (Glorot and Bengio 2010) and zero biases."""
    for module in net.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            nn.init.xavier_uniform_(module.weight)
            if module.bias is not None:
                nn.init.zeros_(module.bias)


def _quarter(image_size: int) -> int:
    """Return the side after two "same" convolutions of stride 2."""
    return -(-image_size // 4)


class KerasCNN(nn.Module):
    """`[N, in_channels, image_size, image_size]` to logits `[N, num_classes]`; made for 32×32."""

    def __init__(self, *, in_channels: int, num_classes: int, image_size: int, dropout: float) -> None:
        super().__init__()
        features: list[nn.Module] = []
        channels = in_channels
        for width, stride in ((32, 1), (32, 2), (64, 1), (64, 2)):
            features += [
                SameConv2d(channels, width, 3, stride),
                nn.BatchNorm2d(width, eps=BN_EPS, momentum=BN_MOMENTUM),
                nn.LeakyReLU(LEAKY_SLOPE, inplace=True),
            ]
            channels = width
        self.features = nn.Sequential(*features)
        self.classifier = nn.Sequential(
            nn.Flatten(),
            nn.Linear(channels * _quarter(image_size) ** 2, 128),
            nn.BatchNorm1d(128, eps=BN_EPS, momentum=BN_MOMENTUM),
            nn.LeakyReLU(LEAKY_SLOPE, inplace=True),
            nn.Dropout(dropout),
            nn.Linear(128, num_classes),
        )
        init_keras(self)

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(self.features(x))


class TwoConv(nn.Module):
    """`[N, in_channels, image_size, image_size]` to logits `[N, num_classes]`; made for 32×32.

    The convolutions have no activation in the text, so the whole network is one linear map with shared weights.
    """

    def __init__(self, *, in_channels: int, num_classes: int, image_size: int) -> None:
        super().__init__()
        self.features = nn.Sequential(SameConv2d(in_channels, 10, 4, stride=2), SameConv2d(10, 20, 3, stride=2))
        self.classifier = nn.Sequential(nn.Flatten(), nn.Linear(20 * _quarter(image_size) ** 2, num_classes))
        init_keras(self)

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(self.features(x))


class MLP(nn.Module):
    """`[N, in_channels, image_size, image_size]`, flattened, to logits `[N, num_classes]` through hidden `widths`."""

    def __init__(
        self, *, in_channels: int, num_classes: int, image_size: int, widths: Sequence[int], activation: Activation
    ) -> None:
        super().__init__()
        layers: list[nn.Module] = [nn.Flatten()]
        features = in_channels * image_size**2
        for width in widths:
            layers += [nn.Linear(features, width), make_activation(activation)]
            features = width
        self.net = nn.Sequential(*layers, nn.Linear(features, num_classes))
        init_keras(self)

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x)
