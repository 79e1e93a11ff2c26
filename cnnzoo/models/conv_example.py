"""What a 1×1 convolution saves: a 5×5 convolution alone, or after a 1×1 convolution to fewer channels.

The worked example of many courses, after Szegedy et al. 2014, https://arxiv.org/abs/1409.4842, section 4: 192 to 32
channels at 28×28. The average over the image, which costs no multiplication, turns the convolution's channels into
logits, so that the example is a network like any other.
"""

from torch import Tensor, nn


class ConvExample(nn.Module):
    """`[N, in_channels, H, W]` to logits `[N, num_classes]`: a convolution of one channel a class, averaged."""

    def __init__(self, *, in_channels: int, num_classes: int, bottleneck: int | None) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        if bottleneck is not None:
            layers.append(nn.Conv2d(in_channels, bottleneck, 1))
        layers.append(nn.Conv2d(bottleneck or in_channels, num_classes, 5, padding=2))
        self.net = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten())

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x)
