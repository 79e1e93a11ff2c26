"""DenseNet for small images: Huang et al. 2016, https://arxiv.org/abs/1608.06993.

Layer order and module names follow the University of Amsterdam deep-learning tutorial 5, so that its published
weights load. The tutorial departs from the paper in the stem (with bias, `growth_rate * bn_size` channels), which is
an argument here, and in that each layer puts its new features before the old ones, which only permutes channels.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from cnnzoo.nn.layers import Activation, init_conv_bn, make_activation


class DenseLayer(nn.Module):
    """BN-act-1×1 convolution-BN-act-3×3 convolution to `growth_rate` channels, put before the input's channels.

    The 1×1 convolution has `bn_size * growth_rate` channels.
    """

    def __init__(self, in_channels: int, growth_rate: int, bn_size: int, activation: Activation) -> None:
        super().__init__()
        bottleneck = bn_size * growth_rate
        self.net = nn.Sequential(
            nn.BatchNorm2d(in_channels),
            make_activation(activation),
            nn.Conv2d(in_channels, bottleneck, 1, bias=False),
            nn.BatchNorm2d(bottleneck),
            make_activation(activation),
            nn.Conv2d(bottleneck, growth_rate, 3, padding=1, bias=False),
        )

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([self.net(x), x], dim=1)


class DenseBlock(nn.Module):
    """`layers` dense layers, the input of each being the concatenation of all features before it."""

    def __init__(self, in_channels: int, layers: int, growth_rate: int, bn_size: int, activation: Activation) -> None:
        super().__init__()
        self.block = nn.Sequential(
            *(DenseLayer(in_channels + i * growth_rate, growth_rate, bn_size, activation) for i in range(layers))
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.block(x)


class Transition(nn.Module):
    """BN-act-1×1 conv to `out_channels`-2×2 average pooling between two dense blocks."""

    def __init__(self, in_channels: int, out_channels: int, activation: Activation) -> None:
        super().__init__()
        self.transition = nn.Sequential(
            nn.BatchNorm2d(in_channels),
            make_activation(activation),
            nn.Conv2d(in_channels, out_channels, 1, bias=False),
            nn.AvgPool2d(2, stride=2),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.transition(x)


class DenseNet(nn.Module):
    """`[N, in_channels, H, W]` to logits `[N, num_classes]`; made for 32×32, halved after every block but the last.

    `stem_channels` None means `growth_rate * bn_size`. `compression` is the share of channels that a transition keeps.
    """

    def __init__(
        self,
        *,
        in_channels: int,
        num_classes: int,
        layers_per_block: Sequence[int],
        growth_rate: int,
        bn_size: int,
        compression: float,
        stem_channels: int | None,
        stem_bias: bool,
        activation: Activation,
    ) -> None:
        super().__init__()
        if not 0 < compression <= 1:
            raise ValueError(f"compression={compression}: a share of the channels, above 0 and at most 1")
        channels = growth_rate * bn_size if stem_channels is None else stem_channels
        self.input_net = nn.Sequential(nn.Conv2d(in_channels, channels, 3, padding=1, bias=stem_bias))
        blocks: list[nn.Module] = []
        for index, layers in enumerate(layers_per_block):
            blocks.append(DenseBlock(channels, layers, growth_rate, bn_size, activation))
            channels += layers * growth_rate
            if index < len(layers_per_block) - 1:
                kept = int(channels * compression)
                blocks.append(Transition(channels, kept, activation))
                channels = kept
        self.blocks = nn.Sequential(*blocks)
        self.output_net = nn.Sequential(
            nn.BatchNorm2d(channels),
            make_activation(activation),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(channels, num_classes),
        )
        init_conv_bn(self, activation, mode="fan_in")

    def forward(self, x: Tensor) -> Tensor:
        return self.output_net(self.blocks(self.input_net(x)))
