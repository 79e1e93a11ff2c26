"""ResNeXt for small images: Xie et al. 2016, https://arxiv.org/abs/1611.05431 (section 5.3, the CIFAR networks)."""

from collections.abc import Sequence

from torch import Tensor, nn

from cnnzoo.models.resnet import Bottleneck
from cnnzoo.nn.layers import Activation, classifier_head, conv3x3, init_conv_bn, make_activation


class ResNeXt(nn.Module):
    """`[N, in_channels, H, W]` to logits `[N, num_classes]`; made for 32×32, stages at 32², 16², 8².

    A block's 3×3 convolution has `cardinality` groups of `base_width` channels each, its output `base_channels`; both
    widths double from stage to stage. Three stages of three blocks (`blocks_per_group`) are ResNeXt-29; 8×64d is
    `cardinality` 8 and `base_width` 64.
    """

    STEM_CHANNELS = 64

    def __init__(
        self,
        *,
        in_channels: int,
        num_classes: int,
        blocks_per_group: Sequence[int],
        cardinality: int,
        base_width: int,
        base_channels: int,
        activation: Activation,
        se_ratio: int | None,
    ) -> None:
        super().__init__()
        channels = self.STEM_CHANNELS
        self.stem = nn.Sequential(conv3x3(in_channels, channels), nn.BatchNorm2d(channels), make_activation(activation))
        blocks: list[nn.Module] = []
        for stage, count in enumerate(blocks_per_group):
            out_channels = base_channels * 2**stage
            for index in range(count):
                blocks.append(
                    Bottleneck(
                        channels,
                        out_channels,
                        stride=2 if stage > 0 and index == 0 else 1,
                        shortcut="projection",
                        activation=activation,
                        se_ratio=se_ratio,
                        inner_channels=cardinality * base_width * 2**stage,
                        groups=cardinality,
                    )
                )
                channels = out_channels
        self.blocks = nn.Sequential(*blocks)
        self.head = classifier_head(channels, num_classes)
        init_conv_bn(self, activation, mode="fan_out")

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.blocks(self.stem(x)))
