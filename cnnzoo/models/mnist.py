"""The two MNIST networks of the course "PyTorch in practice" (Liu Er): InceptionA blocks, and residual blocks.

Made for one channel of 28×28, where the linear layers have 1,408 and 512 inputs; any size from 16×16 up and any
number of channels works. Neither has batch norm. Initial weights are torch's own.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cnnzoo.nn.layers import check_image_size

MINIMUM_SIZE = 16


def _side_after_two_stages(image_size: int) -> int:
    """Return the side of the feature maps after twice an unpadded 5×5 convolution and 2×2 max-pooling."""
    return ((image_size - 4) // 2 - 4) // 2


class InceptionA(nn.Module):
    """Four branches, concatenated to 88 channels in the order 1×1, 5×5, 3×3, pool; linear, no activation inside."""

    OUT_CHANNELS = 16 + 24 + 24 + 24

    def __init__(self, in_channels: int) -> None:
        super().__init__()
        self.branch_1x1 = nn.Conv2d(in_channels, 16, 1)
        self.branch_5x5 = nn.Sequential(nn.Conv2d(in_channels, 16, 1), nn.Conv2d(16, 24, 5, padding=2))
        self.branch_3x3 = nn.Sequential(
            nn.Conv2d(in_channels, 16, 1), nn.Conv2d(16, 24, 3, padding=1), nn.Conv2d(24, 24, 3, padding=1)
        )
        self.branch_pool = nn.Sequential(nn.AvgPool2d(3, stride=1, padding=1), nn.Conv2d(in_channels, 24, 1))

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([self.branch_1x1(x), self.branch_5x5(x), self.branch_3x3(x), self.branch_pool(x)], dim=1)


class InceptionANet(nn.Module):
    """`[N, in_channels, image_size, image_size]` to logits `[N, num_classes]`."""

    def __init__(self, *, in_channels: int, num_classes: int, image_size: int) -> None:
        super().__init__()
        check_image_size("The InceptionA network", image_size, MINIMUM_SIZE)
        self.features = nn.Sequential(
            nn.Conv2d(in_channels, 10, 5),
            nn.MaxPool2d(2),
            nn.ReLU(inplace=True),
            InceptionA(10),
            nn.Conv2d(InceptionA.OUT_CHANNELS, 20, 5),
            nn.MaxPool2d(2),
            nn.ReLU(inplace=True),
            InceptionA(20),
        )
        side = _side_after_two_stages(image_size)
        self.classifier = nn.Sequential(nn.Flatten(), nn.Linear(InceptionA.OUT_CHANNELS * side**2, num_classes))

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(self.features(x))


class ResidualBlock(nn.Module):
    """ReLU(x + conv3×3(ReLU(conv3×3(x)))), channels unchanged."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(x + self.conv2(F.relu(self.conv1(x))))


class ResidualNet(nn.Module):
    """`[N, in_channels, image_size, image_size]` to logits `[N, num_classes]`."""

    def __init__(self, *, in_channels: int, num_classes: int, image_size: int) -> None:
        super().__init__()
        check_image_size("The residual MNIST network", image_size, MINIMUM_SIZE)
        self.features = nn.Sequential(
            nn.Conv2d(in_channels, 16, 5),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(2),
            ResidualBlock(16),
            nn.Conv2d(16, 32, 5),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(2),
            ResidualBlock(32),
        )
        side = _side_after_two_stages(image_size)
        self.classifier = nn.Sequential(nn.Flatten(), nn.Linear(32 * side**2, num_classes))

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(self.features(x))
