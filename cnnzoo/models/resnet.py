"""ResNets for small images: basic and bottleneck blocks, each also with pre-activation.

He et al. 2015, https://arxiv.org/abs/1512.03385 (section 4.2, the CIFAR-10 networks) and 2016,
https://arxiv.org/abs/1603.05027 (pre-activation, bottlenecks on CIFAR-10). Module names and layer order of the basic
blocks follow the University of Amsterdam deep-learning tutorial 5, so that its published weights load; that is also
why their projections have no BN of their own (`basic`) or one in addition to the block's (`preact`).
"""

from collections.abc import Callable, Sequence
from typing import Literal

import torch.nn.functional as F
from torch import Tensor, nn

from cnnzoo.nn.layers import (
    Activation,
    check_same_length,
    classifier_head,
    conv1x1,
    conv3x3,
    init_conv_bn,
    make_activation,
    squeeze_excitation,
)

Shortcut = Literal["projection", "zero_pad", "none"]


class ZeroPadShortcut(nn.Module):
    """The parameter-free shortcut of the paper (option A): every second pixel, new channels zero, half on each side."""

    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        self.stride = stride
        new = out_channels - in_channels
        self.padding = (new // 2, new - new // 2)

    def forward(self, x: Tensor) -> Tensor:
        return F.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, *self.padding))


def make_shortcut(
    in_channels: int, out_channels: int, stride: int, kind: Shortcut, projection: Callable[[], nn.Module]
) -> nn.Module | None:
    """Return what is added to a block's residual branch: None in plain nets, the identity where the shapes agree."""
    if kind == "none":
        return None
    if stride == 1 and in_channels == out_channels:
        return nn.Identity()
    return ZeroPadShortcut(in_channels, out_channels, stride) if kind == "zero_pad" else projection()


class BasicBlock(nn.Module):
    """act(conv-BN-act-conv-BN + shortcut); the projection is a 1×1 convolution with bias and no BN."""

    expansion = 1

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        stride: int,
        shortcut: Shortcut,
        activation: Activation,
        se_ratio: int | None,
    ) -> None:
        super().__init__()
        self.net = nn.Sequential(
            conv3x3(in_channels, out_channels, stride),
            nn.BatchNorm2d(out_channels),
            make_activation(activation),
            conv3x3(out_channels, out_channels),
            nn.BatchNorm2d(out_channels),
            *squeeze_excitation(out_channels, se_ratio),
        )
        self.downsample = make_shortcut(
            in_channels, out_channels, stride, shortcut, lambda: nn.Conv2d(in_channels, out_channels, 1, stride=stride)
        )
        self.act = make_activation(activation)

    def forward(self, x: Tensor) -> Tensor:
        residual = self.net(x)
        return self.act(residual if self.downsample is None else residual + self.downsample(x))


class PreActBlock(nn.Module):
    """BN-act-conv-BN-act-conv + shortcut, nothing after the sum; the projection is BN-act-1×1 convolution."""

    expansion = 1

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        stride: int,
        shortcut: Shortcut,
        activation: Activation,
        se_ratio: int | None,
    ) -> None:
        super().__init__()
        self.net = nn.Sequential(
            nn.BatchNorm2d(in_channels),
            make_activation(activation),
            conv3x3(in_channels, out_channels, stride),
            nn.BatchNorm2d(out_channels),
            make_activation(activation),
            conv3x3(out_channels, out_channels),
            *squeeze_excitation(out_channels, se_ratio),
        )

        def projection() -> nn.Module:
            norm, act = nn.BatchNorm2d(in_channels), make_activation(activation)
            return nn.Sequential(norm, act, conv1x1(in_channels, out_channels, stride))

        self.downsample = make_shortcut(in_channels, out_channels, stride, shortcut, projection)

    def forward(self, x: Tensor) -> Tensor:
        residual = self.net(x)
        return residual if self.downsample is None else residual + self.downsample(x)


class Bottleneck(nn.Module):
    """act(1×1-BN-act-3×3-BN-act-1×1-BN + shortcut), BN on the projection; `groups` > 1 makes it ResNeXt's.

    The 3×3 convolution has `inner_channels`, by default a quarter of the output's channels.
    """

    expansion = 4

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        stride: int,
        shortcut: Shortcut,
        activation: Activation,
        se_ratio: int | None,
        inner_channels: int | None = None,
        groups: int = 1,
    ) -> None:
        super().__init__()
        inner = out_channels // self.expansion if inner_channels is None else inner_channels
        self.net = nn.Sequential(
            conv1x1(in_channels, inner),
            nn.BatchNorm2d(inner),
            make_activation(activation),
            conv3x3(inner, inner, stride, groups),
            nn.BatchNorm2d(inner),
            make_activation(activation),
            conv1x1(inner, out_channels),
            nn.BatchNorm2d(out_channels),
            *squeeze_excitation(out_channels, se_ratio),
        )

        def projection() -> nn.Module:
            return nn.Sequential(conv1x1(in_channels, out_channels, stride), nn.BatchNorm2d(out_channels))

        self.downsample = make_shortcut(in_channels, out_channels, stride, shortcut, projection)
        self.act = make_activation(activation)

    def forward(self, x: Tensor) -> Tensor:
        residual = self.net(x)
        return self.act(residual if self.downsample is None else residual + self.downsample(x))


class PreActBottleneck(nn.Module):
    """BN-act, then 1×1-BN-act-3×3-BN-act-1×1 + shortcut; a projection starts from that BN-act too."""

    expansion = 4

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        stride: int,
        shortcut: Shortcut,
        activation: Activation,
        se_ratio: int | None,
    ) -> None:
        super().__init__()
        inner = out_channels // self.expansion
        self.preact = nn.Sequential(nn.BatchNorm2d(in_channels), make_activation(activation))
        self.net = nn.Sequential(
            conv1x1(in_channels, inner),
            nn.BatchNorm2d(inner),
            make_activation(activation),
            conv3x3(inner, inner, stride),
            nn.BatchNorm2d(inner),
            make_activation(activation),
            conv1x1(inner, out_channels),
            *squeeze_excitation(out_channels, se_ratio),
        )
        self.downsample = make_shortcut(
            in_channels, out_channels, stride, shortcut, lambda: conv1x1(in_channels, out_channels, stride)
        )

    def forward(self, x: Tensor) -> Tensor:
        activated = self.preact(x)
        residual = self.net(activated)
        if self.downsample is None:
            return residual
        return residual + self.downsample(activated if isinstance(self.downsample, nn.Conv2d) else x)


BLOCKS: dict[str, type[BasicBlock | PreActBlock | Bottleneck | PreActBottleneck]] = {
    "basic": BasicBlock,
    "preact": PreActBlock,
    "bottleneck": Bottleneck,
    "preact_bottleneck": PreActBottleneck,
}


class ResNet(nn.Module):
    """`[N, in_channels, H, W]` to logits `[N, num_classes]`; made for 32×32, stages at 32², 16², 8².

    `blocks_per_group` and `widths` have one entry per stage: blocks, and their channels (a bottleneck block has four
    times as many outputs). The first block of every stage but the first halves the image. n blocks per stage are
    6n + 2 layers (bottleneck: 9n + 2). `shortcut` `none` makes the plain nets of the paper. `final_norm`, only with
    pre-activation blocks, puts the BN-act of that paper before the pooling, which the tutorial leaves out.
    """

    def __init__(
        self,
        *,
        in_channels: int,
        num_classes: int,
        block: Literal["basic", "preact", "bottleneck", "preact_bottleneck"],
        blocks_per_group: Sequence[int],
        widths: Sequence[int],
        shortcut: Shortcut,
        activation: Activation,
        final_norm: bool,
        se_ratio: int | None,
    ) -> None:
        super().__init__()
        check_same_length(blocks_per_group=blocks_per_group, widths=widths)
        preact = block.startswith("preact")
        if final_norm and not preact:
            raise ValueError(f"final_norm=true goes with block=preact: a {block} block already ends in a norm")
        stem = conv3x3(in_channels, widths[0])
        if preact:
            self.input_net = nn.Sequential(stem)
        else:
            self.input_net = nn.Sequential(stem, nn.BatchNorm2d(widths[0]), make_activation(activation))
        blocks: list[nn.Module] = []
        channels = widths[0]
        for stage, (count, width) in enumerate(zip(blocks_per_group, widths, strict=True)):
            out_channels = width * BLOCKS[block].expansion
            for index in range(count):
                stride = 2 if stage > 0 and index == 0 else 1
                blocks.append(BLOCKS[block](channels, out_channels, stride, shortcut, activation, se_ratio))
                channels = out_channels
        if final_norm:
            blocks += [nn.BatchNorm2d(channels), make_activation(activation)]
        self.blocks = nn.Sequential(*blocks)
        self.output_net = classifier_head(channels, num_classes)
        init_conv_bn(self, activation, mode="fan_out")

    def forward(self, x: Tensor) -> Tensor:
        return self.output_net(self.blocks(self.input_net(x)))
