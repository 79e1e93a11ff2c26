"""ResNets for small images: basic and pre-activation blocks.

He et al. 2015, https://arxiv.org/abs/1512.03385 (section 4.2, the CIFAR-10 networks) and 2016,
https://arxiv.org/abs/1603.05027 (pre-activation). Module names and layer order follow the University of Amsterdam
deep-learning tutorial 5, so that its published weights load.
"""

from collections.abc import Sequence
from typing import Literal

import torch.nn.functional as F
from torch import Tensor, nn

from cnnzoo.models.layers import Activation, classifier_head, init_conv_bn, make_activation

Shortcut = Literal["projection", "zero_pad"]


def conv3x3(in_channels: int, out_channels: int, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(in_channels, out_channels, 3, stride=stride, padding=1, bias=False)


class ZeroPadShortcut(nn.Module):
    """The parameter-free shortcut of the paper (option A): every second pixel, new channels zero, half on each side."""

    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        self.stride = stride
        new = out_channels - in_channels
        self.padding = (new // 2, new - new // 2)

    def forward(self, x: Tensor) -> Tensor:
        return F.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, *self.padding))


class BasicBlock(nn.Module):
    """act(conv-BN-act-conv-BN + shortcut); the projection is a 1×1 convolution with bias and no BN."""

    def __init__(
        self, in_channels: int, out_channels: int, stride: int, shortcut: Shortcut, activation: Activation
    ) -> None:
        super().__init__()
        self.net = nn.Sequential(
            conv3x3(in_channels, out_channels, stride),
            nn.BatchNorm2d(out_channels),
            make_activation(activation),
            conv3x3(out_channels, out_channels),
            nn.BatchNorm2d(out_channels),
        )
        self.downsample: nn.Module
        if stride == 1 and in_channels == out_channels:
            self.downsample = nn.Identity()
        elif shortcut == "zero_pad":
            self.downsample = ZeroPadShortcut(in_channels, out_channels, stride)
        else:
            self.downsample = nn.Conv2d(in_channels, out_channels, 1, stride=stride)
        self.act = make_activation(activation)

    def forward(self, x: Tensor) -> Tensor:
        return self.act(self.net(x) + self.downsample(x))


class PreActBlock(nn.Module):
    """BN-act-conv-BN-act-conv + shortcut, nothing after the sum; the projection is BN-act-1×1 convolution."""

    def __init__(
        self, in_channels: int, out_channels: int, stride: int, shortcut: Shortcut, activation: Activation
    ) -> None:
        super().__init__()
        self.net = nn.Sequential(
            nn.BatchNorm2d(in_channels),
            make_activation(activation),
            conv3x3(in_channels, out_channels, stride),
            nn.BatchNorm2d(out_channels),
            make_activation(activation),
            conv3x3(out_channels, out_channels),
        )
        self.downsample: nn.Module
        if stride == 1 and in_channels == out_channels:
            self.downsample = nn.Identity()
        elif shortcut == "zero_pad":
            self.downsample = ZeroPadShortcut(in_channels, out_channels, stride)
        else:
            self.downsample = nn.Sequential(
                nn.BatchNorm2d(in_channels),
                make_activation(activation),
                nn.Conv2d(in_channels, out_channels, 1, stride=stride, bias=False),
            )

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x) + self.downsample(x)


BLOCKS = {"basic": BasicBlock, "preact": PreActBlock}


class ResNet(nn.Module):
    """`[N, in_channels, H, W]` to logits `[N, num_classes]`; made for 32×32, groups at 32², 16², 8².

    `blocks_per_group` blocks at each of `widths` channels; the first block of every group but the first halves the
    image. `[3, 3, 3]` is the ResNet-20 of the paper. `final_norm` puts the BN-act of the pre-activation paper before
    the pooling, which the tutorial leaves out; it means something for `block="preact"` only.
    """

    def __init__(
        self,
        *,
        in_channels: int,
        num_classes: int,
        block: Literal["basic", "preact"],
        blocks_per_group: Sequence[int],
        widths: Sequence[int],
        shortcut: Shortcut,
        activation: Activation,
        final_norm: bool,
    ) -> None:
        super().__init__()
        if len(blocks_per_group) != len(widths):
            raise ValueError(
                f"blocks_per_group={list(blocks_per_group)} and widths={list(widths)} must have one entry a group each"
            )
        if final_norm and block != "preact":
            raise ValueError("final_norm=true goes with block=preact: a basic block already ends in a norm")
        stem = conv3x3(in_channels, widths[0])
        if block == "preact":
            self.input_net = nn.Sequential(stem)
        else:
            self.input_net = nn.Sequential(stem, nn.BatchNorm2d(widths[0]), make_activation(activation))
        blocks: list[nn.Module] = []
        channels = widths[0]
        for group, (count, width) in enumerate(zip(blocks_per_group, widths, strict=True)):
            for index in range(count):
                stride = 2 if group > 0 and index == 0 else 1
                blocks.append(BLOCKS[block](channels, width, stride, shortcut, activation))
                channels = width
        if final_norm:
            blocks += [nn.BatchNorm2d(channels), make_activation(activation)]
        self.blocks = nn.Sequential(*blocks)
        self.output_net = classifier_head(channels, num_classes)
        init_conv_bn(self, activation, mode="fan_out")

    def forward(self, x: Tensor) -> Tensor:
        return self.output_net(self.blocks(self.input_net(x)))
