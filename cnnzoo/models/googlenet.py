"""GoogLeNet for 32×32 images: Inception blocks with batch norm, after Szegedy et al. 2014, https://arxiv.org/abs/1409.4842.

This is the reduced network of the University of Amsterdam deep-learning tutorial 5, not the 7-million-parameter one
of the paper: a 3×3 stem, eight Inception blocks at 32², 16² and 8², and batch norm after every convolution.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from cnnzoo.models.layers import Activation, classifier_head, init_conv_bn, make_activation


def conv_bn_act(
    in_channels: int, out_channels: int, kernel_size: int, activation: Activation
) -> tuple[nn.Conv2d, nn.BatchNorm2d, nn.Module]:
    """The three layers that every branch is made of; "same" padding, and a bias although batch norm follows."""
    return (
        nn.Conv2d(in_channels, out_channels, kernel_size, padding=kernel_size // 2),
        nn.BatchNorm2d(out_channels),
        make_activation(activation),
    )


class InceptionBlock(nn.Module):
    """Four branches over one input, concatenated along the channels in the order 1×1, 3×3, 5×5, pool."""

    def __init__(
        self, in_channels: int, reduce: Sequence[int], out: Sequence[int], activation: Activation
    ) -> None:
        """`reduce`: channels of the 1×1 convolutions before 3×3 and 5×5. `out`: channels of 1×1, 3×3, 5×5, pool."""
        super().__init__()
        reduce_3x3, reduce_5x5 = reduce
        out_1x1, out_3x3, out_5x5, out_pool = out
        self.conv_1x1 = nn.Sequential(*conv_bn_act(in_channels, out_1x1, 1, activation))
        self.conv_3x3 = nn.Sequential(
            *conv_bn_act(in_channels, reduce_3x3, 1, activation), *conv_bn_act(reduce_3x3, out_3x3, 3, activation)
        )
        self.conv_5x5 = nn.Sequential(
            *conv_bn_act(in_channels, reduce_5x5, 1, activation), *conv_bn_act(reduce_5x5, out_5x5, 5, activation)
        )
        self.max_pool = nn.Sequential(
            nn.MaxPool2d(3, stride=1, padding=1), *conv_bn_act(in_channels, out_pool, 1, activation)
        )

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([self.conv_1x1(x), self.conv_3x3(x), self.conv_5x5(x), self.max_pool(x)], dim=1)


class GoogLeNet(nn.Module):
    """`[N, in_channels, H, W]` to logits `[N, num_classes]`; made for 32×32, works from 4×4 up."""

    # (reduce 3×3, reduce 5×5), (out 1×1, out 3×3, out 5×5, out pool); None is a max-pooling that halves the image.
    BLOCKS = (
        ((32, 16), (16, 32, 8, 8)),
        ((32, 16), (24, 48, 12, 12)),
        None,
        ((32, 16), (24, 48, 12, 12)),
        ((32, 16), (16, 48, 16, 16)),
        ((32, 16), (16, 48, 16, 16)),
        ((32, 16), (32, 48, 24, 24)),
        None,
        ((48, 16), (32, 64, 16, 16)),
        ((48, 16), (32, 64, 16, 16)),
    )

    def __init__(self, *, in_channels: int, num_classes: int, activation: Activation) -> None:
        super().__init__()
        channels = 64
        self.input_net = nn.Sequential(*conv_bn_act(in_channels, channels, 3, activation))
        blocks: list[nn.Module] = []
        for spec in self.BLOCKS:
            if spec is None:
                blocks.append(nn.MaxPool2d(3, stride=2, padding=1))
            else:
                reduce, out = spec
                blocks.append(InceptionBlock(channels, reduce, out, activation))
                channels = sum(out)
        self.inception_blocks = nn.Sequential(*blocks)
        self.output_net = classifier_head(channels, num_classes)
        init_conv_bn(self, activation, mode="fan_in")

    def forward(self, x: Tensor) -> Tensor:
        return self.output_net(self.inception_blocks(self.input_net(x)))
