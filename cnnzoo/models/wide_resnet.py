"""Wide ResNet for small images: Zagoruyko and Komodakis 2016, https://arxiv.org/abs/1605.07146.

Unlike the `preact` block of `cnnzoo.models.resnet`, a projection here shares the block's first BN-act, as in the
authors' code, and there is a BN-act before the pooling.
"""

from torch import Tensor, nn

from cnnzoo.nn.layers import Activation, classifier_head, conv1x1, conv3x3, init_conv_bn, make_activation


class WideBlock(nn.Module):
    """BN-act, then conv-BN-act-dropout-conv + shortcut; the projection is a 1×1 convolution of the same BN-act."""

    def __init__(
        self, in_channels: int, out_channels: int, stride: int, dropout: float, activation: Activation
    ) -> None:
        super().__init__()
        self.preact = nn.Sequential(nn.BatchNorm2d(in_channels), make_activation(activation))
        self.net = nn.Sequential(
            conv3x3(in_channels, out_channels, stride),
            nn.BatchNorm2d(out_channels),
            make_activation(activation),
            nn.Dropout(dropout),
            conv3x3(out_channels, out_channels),
        )
        self.projection = (
            None if stride == 1 and in_channels == out_channels else conv1x1(in_channels, out_channels, stride)
        )

    def forward(self, x: Tensor) -> Tensor:
        activated = self.preact(x)
        return self.net(activated) + (x if self.projection is None else self.projection(activated))


class WideResNet(nn.Module):
    """`[N, in_channels, H, W]` to logits `[N, num_classes]`; made for 32×32, stages at 32², 16², 8².

    WRN-16-4 is `depth` 16 (n blocks per stage are 6n + 4 layers) and `widen_factor` 4.
    """

    STEM_CHANNELS = 16

    def __init__(
        self,
        *,
        in_channels: int,
        num_classes: int,
        depth: int,
        widen_factor: int,
        dropout: float,
        activation: Activation,
    ) -> None:
        super().__init__()
        if depth < 10 or (depth - 4) % 6:
            raise ValueError(f"depth={depth}: a wide ResNet has 6n + 4 layers, such as 10, 16, 22, 28 or 40")
        channels = self.STEM_CHANNELS
        self.stem = conv3x3(in_channels, channels)
        blocks: list[nn.Module] = []
        for stage in range(3):
            out_channels = self.STEM_CHANNELS * widen_factor * 2**stage
            for index in range((depth - 4) // 6):
                stride = 2 if stage > 0 and index == 0 else 1
                blocks.append(WideBlock(channels, out_channels, stride, dropout, activation))
                channels = out_channels
        self.blocks = nn.Sequential(*blocks, nn.BatchNorm2d(channels), make_activation(activation))
        self.head = classifier_head(channels, num_classes)
        init_conv_bn(self, activation, mode="fan_out")

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.blocks(self.stem(x)))
