"""Network in Network: Lin et al. 2013, https://arxiv.org/abs/1312.4400.

The widths and kernels are AlexNet's, as in Dive into Deep Learning, not the paper's CIFAR ones. There is no linear
layer: the last block has one channel a class, and its average over the image is the logit. That block ends in a ReLU
like the others, so logits are never negative.
"""

from torch import Tensor, nn


def nin_block(in_channels: int, out_channels: int, kernel_size: int, stride: int, padding: int) -> nn.Sequential:
    """Return a convolution and two 1×1 convolutions, a perceptron applied at each position; each with ReLU."""
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, kernel_size, stride=stride, padding=padding),
        nn.ReLU(inplace=True),
        nn.Conv2d(out_channels, out_channels, 1),
        nn.ReLU(inplace=True),
        nn.Conv2d(out_channels, out_channels, 1),
        nn.ReLU(inplace=True),
    )


class NiN(nn.Module):
    """`[N, in_channels, H, W]` to logits `[N, num_classes]`; made for 224×224, works from 67×67 up."""

    def __init__(self, *, in_channels: int, num_classes: int, dropout: float) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nin_block(in_channels, 96, 11, stride=4, padding=0),
            nn.MaxPool2d(3, stride=2),
            nin_block(96, 256, 5, stride=1, padding=2),
            nn.MaxPool2d(3, stride=2),
            nin_block(256, 384, 3, stride=1, padding=1),
            nn.MaxPool2d(3, stride=2),
            nn.Dropout(dropout),
            nin_block(384, num_classes, 3, stride=1, padding=1),
        )
        self.pool = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())

    def forward(self, x: Tensor) -> Tensor:
        return self.pool(self.features(x))
