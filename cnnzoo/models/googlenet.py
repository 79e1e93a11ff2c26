"""GoogLeNet: Szegedy et al. 2014, https://arxiv.org/abs/1409.4842; cut down to 32×32 images, and as published.

`GoogLeNet` is the reduced network of the University of Amsterdam deep-learning tutorial 5: a 3×3 stem, eight Inception
blocks at 32², 16² and 8², and batch norm after every convolution. Its module names let the published weights load.

`GoogLeNetV1` is the seven-million-parameter network of the paper's table 1. It departs from it in having no local
response normalisation and no dropout before the linear layer, as in Dive into Deep Learning.
"""

from collections.abc import Callable, Sequence
from functools import partial

from torch import Tensor, nn

from cnnzoo.nn.layers import Activation, Branches, classifier_head, init_conv_bn, make_activation

# From input channels, output channels and kernel size to the layers of one "same" convolution.
ConvLayers = Callable[[int, int, int], Sequence[nn.Module]]


def conv_bn_act(
    in_channels: int, out_channels: int, kernel_size: int, activation: Activation
) -> tuple[nn.Conv2d, nn.BatchNorm2d, nn.Module]:
    """Return the three layers that the reduced network is made of; a bias, although batch norm follows."""
    return (
        nn.Conv2d(in_channels, out_channels, kernel_size, padding=kernel_size // 2),
        nn.BatchNorm2d(out_channels),
        make_activation(activation),
    )


class InceptionBlock(Branches):
    """Four branches over one input, concatenated along the channels in the order 1×1, 3×3, 5×5, pool."""

    def __init__(self, in_channels: int, reduce: Sequence[int], out: Sequence[int], conv: ConvLayers) -> None:
        """`reduce`: channels of the 1×1 convolutions before 3×3 and 5×5. `out`: channels of 1×1, 3×3, 5×5, pool."""
        super().__init__()
        reduce_3x3, reduce_5x5 = reduce
        out_1x1, out_3x3, out_5x5, out_pool = out
        self.conv_1x1 = nn.Sequential(*conv(in_channels, out_1x1, 1))
        self.conv_3x3 = nn.Sequential(*conv(in_channels, reduce_3x3, 1), *conv(reduce_3x3, out_3x3, 3))
        self.conv_5x5 = nn.Sequential(*conv(in_channels, reduce_5x5, 1), *conv(reduce_5x5, out_5x5, 5))
        self.max_pool = nn.Sequential(nn.MaxPool2d(3, stride=1, padding=1), *conv(in_channels, out_pool, 1))


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
        conv = partial(conv_bn_act, activation=activation)
        channels = 64
        self.input_net = nn.Sequential(*conv(in_channels, channels, 3))
        blocks: list[nn.Module] = []
        for spec in self.BLOCKS:
            if spec is None:
                blocks.append(nn.MaxPool2d(3, stride=2, padding=1))
            else:
                reduce, out = spec
                blocks.append(InceptionBlock(channels, reduce, out, conv))
                channels = sum(out)
        self.inception_blocks = nn.Sequential(*blocks)
        self.output_net = classifier_head(channels, num_classes)
        init_conv_bn(self, activation, mode="fan_in")

    def forward(self, x: Tensor) -> Tensor:
        return self.output_net(self.inception_blocks(self.input_net(x)))


class AuxiliaryHead(nn.Module):
    """An intermediate classifier, used in training only: pool to 4×4, 1×1 convolution to 128, 1024 units, dropout 0.7.

    The paper's 5×5 average pooling with stride 3 makes 4×4 of 14×14 only; pooling to 4×4 fits every size.
    """

    def __init__(self, in_channels: int, num_classes: int, conv: ConvLayers) -> None:
        super().__init__()
        self.net = nn.Sequential(
            nn.AdaptiveAvgPool2d(4),
            *conv(in_channels, 128, 1),
            nn.Flatten(),
            nn.Linear(128 * 4 * 4, 1024),
            nn.ReLU(inplace=True),
            nn.Dropout(0.7),
            nn.Linear(1024, num_classes),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x)


class GoogLeNetV1(nn.Module):
    """`[N, in_channels, H, W]` to logits `[N, num_classes]`; made for 224×224, runs at any size.

    With `auxiliary_heads`, training mode returns `(logits, auxiliary, auxiliary)`, from after blocks 4a and 4d; the
    training loss is loss(logits) + `auxiliary_weight` × the sum of the others' losses. `stem_relu` puts the ReLU of
    the paper after the two convolutions of the second stage, which Dive into Deep Learning leaves out.
    `batch_norm` (Ioffe and Szegedy 2015) comes before every ReLU; the convolutions then have no bias.
    """

    # Names and channels of the paper's table 1, in the notation of GoogLeNet.BLOCKS.
    BLOCKS = (
        ("3a", (96, 16), (64, 128, 32, 32)),
        ("3b", (128, 32), (128, 192, 96, 64)),
        ("pool3", None, None),
        ("4a", (96, 16), (192, 208, 48, 64)),
        ("4b", (112, 24), (160, 224, 64, 64)),
        ("4c", (128, 24), (128, 256, 64, 64)),
        ("4d", (144, 32), (112, 288, 64, 64)),
        ("4e", (160, 32), (256, 320, 128, 128)),
        ("pool4", None, None),
        ("5a", (160, 32), (256, 320, 128, 128)),
        ("5b", (192, 48), (384, 384, 128, 128)),
    )

    def __init__(
        self,
        *,
        in_channels: int,
        num_classes: int,
        batch_norm: bool,
        stem_relu: bool,
        auxiliary_heads: bool,
        auxiliary_weight: float,
    ) -> None:
        super().__init__()
        self.auxiliary_weight = auxiliary_weight

        def conv(
            in_channels: int, out_channels: int, kernel_size: int, stride: int = 1, relu: bool = True
        ) -> list[nn.Module]:
            layers: list[nn.Module] = [
                nn.Conv2d(in_channels, out_channels, kernel_size, stride, kernel_size // 2, bias=not batch_norm)
            ]
            if batch_norm:
                layers.append(nn.BatchNorm2d(out_channels))
            return [*layers, nn.ReLU(inplace=True)] if relu else layers

        self.stem = nn.Sequential(
            *conv(in_channels, 64, 7, stride=2),
            nn.MaxPool2d(3, stride=2, padding=1),
            *conv(64, 64, 1, relu=stem_relu),
            *conv(64, 192, 3, relu=stem_relu),
            nn.MaxPool2d(3, stride=2, padding=1),
        )
        self.blocks = nn.ModuleDict()
        self.auxiliary = nn.ModuleDict()
        channels = 192
        for name, reduce, out in self.BLOCKS:
            if reduce is None or out is None:
                self.blocks[name] = nn.MaxPool2d(3, stride=2, padding=1)
                continue
            self.blocks[name] = InceptionBlock(channels, reduce, out, conv)
            channels = sum(out)
            if auxiliary_heads and name in ("4a", "4d"):
                self.auxiliary[name] = AuxiliaryHead(channels, num_classes, conv)
        self.head = classifier_head(channels, num_classes)

    def forward(self, x: Tensor) -> Tensor | tuple[Tensor, ...]:
        x = self.stem(x)
        auxiliary: list[Tensor] = []
        for name, block in self.blocks.items():
            x = block(x)
            if self.training and name in self.auxiliary:
                auxiliary.append(self.auxiliary[name](x))
        logits = self.head(x)
        return (logits, *auxiliary) if auxiliary else logits
