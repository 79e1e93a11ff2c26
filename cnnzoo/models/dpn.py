"""Dual path networks for small images: Chen et al. 2017, https://arxiv.org/abs/1707.01629.

Every block adds to some channels, as a ResNet does, and appends others, as a DenseNet does. The form and widths are
those known from comparisons on CIFAR-10 (https://github.com/kuangliu/pytorch-cifar): a 3×3 stem of 64 channels without
pooling, BN and activation after each convolution. The paper has them before it, and a wider stem.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from cnnzoo.nn.layers import (
    Activation,
    check_same_length,
    classifier_head,
    conv1x1,
    conv3x3,
    init_conv_bn,
    make_activation,
)


class DualPathBlock(nn.Module):
    """1×1, grouped 3×3 and 1×1 convolutions; `residual` output channels are added to the input, `dense` appended to it.

    The `first` block of a stage projects its input to `residual + dense` channels.
    """

    def __init__(
        self,
        in_channels: int,
        inner: int,
        residual: int,
        dense: int,
        stride: int,
        cardinality: int,
        first: bool,
        activation: Activation,
    ) -> None:
        super().__init__()
        self.residual = residual
        self.net = nn.Sequential(
            conv1x1(in_channels, inner),
            nn.BatchNorm2d(inner),
            make_activation(activation),
            conv3x3(inner, inner, stride, cardinality),
            nn.BatchNorm2d(inner),
            make_activation(activation),
            conv1x1(inner, residual + dense),
            nn.BatchNorm2d(residual + dense),
        )
        self.projection: nn.Module = nn.Identity()
        if first:
            self.projection = nn.Sequential(
                conv1x1(in_channels, residual + dense, stride), nn.BatchNorm2d(residual + dense)
            )
        self.act = make_activation(activation)

    def forward(self, x: Tensor) -> Tensor:
        new, old = self.net(x), self.projection(x)
        added = old[:, : self.residual] + new[:, : self.residual]
        return self.act(torch.cat([added, old[:, self.residual :], new[:, self.residual :]], dim=1))


class DPN(nn.Module):
    """`[N, in_channels, H, W]` to logits `[N, num_classes]`; made for 32×32, halved before every stage but the first.

    The lists have one entry per stage: the number of blocks, and their inner, residual and dense channels.
    """

    STEM_CHANNELS = 64

    def __init__(
        self,
        *,
        in_channels: int,
        num_classes: int,
        blocks_per_group: Sequence[int],
        inner: Sequence[int],
        residual: Sequence[int],
        dense: Sequence[int],
        cardinality: int,
        activation: Activation,
    ) -> None:
        super().__init__()
        check_same_length(blocks_per_group=blocks_per_group, inner=inner, residual=residual, dense=dense)
        channels = self.STEM_CHANNELS
        self.stem = nn.Sequential(conv3x3(in_channels, channels), nn.BatchNorm2d(channels), make_activation(activation))
        blocks: list[nn.Module] = []
        for stage, count in enumerate(blocks_per_group):
            for index in range(count):
                first = index == 0
                stride = 2 if stage > 0 and first else 1
                blocks.append(
                    DualPathBlock(
                        channels, inner[stage], residual[stage], dense[stage], stride, cardinality, first, activation
                    )
                )
                channels = residual[stage] + (index + 2) * dense[stage]
        self.blocks = nn.Sequential(*blocks)
        self.head = classifier_head(channels, num_classes)
        init_conv_bn(self, activation, mode="fan_out")

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.blocks(self.stem(x)))
