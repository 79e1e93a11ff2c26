"""VGG without batch norm: Simonyan and Zisserman 2014, https://arxiv.org/abs/1409.1556.

Configuration A of the paper's table 1 is `vgg11`; its small sister has an eighth of all widths. The flattened last
feature map goes into the hidden layers directly, so they shrink with the image (torchvision pools to 7×7 instead).
Initial weights are torch's own.
"""

from collections.abc import Sequence

from torch import Tensor, nn

from cnnzoo.nn.layers import check_image_size, check_same_length


class VGG(nn.Module):
    """`[N, in_channels, image_size, image_size]` to logits `[N, num_classes]`; made for 224×224.

    Each block has `convs_per_block` 3×3 convolutions of `widths` channels, each with ReLU, and a 2×2 max-pooling. Two
    hidden layers follow.
    """

    def __init__(
        self,
        *,
        in_channels: int,
        num_classes: int,
        image_size: int,
        convs_per_block: Sequence[int],
        widths: Sequence[int],
        hidden: int,
        dropout: float,
    ) -> None:
        super().__init__()
        check_same_length(convs_per_block=convs_per_block, widths=widths)
        halvings = len(widths)
        check_image_size("VGG", image_size, 2**halvings)
        features: list[nn.Module] = []
        channels = in_channels
        for convs, width in zip(convs_per_block, widths, strict=True):
            for _ in range(convs):
                features += [nn.Conv2d(channels, width, 3, padding=1), nn.ReLU(inplace=True)]
                channels = width
            features.append(nn.MaxPool2d(2))
        self.features = nn.Sequential(*features)
        side = image_size // 2**halvings
        self.classifier = nn.Sequential(
            nn.Flatten(),
            nn.Linear(channels * side**2, hidden),
            nn.ReLU(inplace=True),
            nn.Dropout(dropout),
            nn.Linear(hidden, hidden),
            nn.ReLU(inplace=True),
            nn.Dropout(dropout),
            nn.Linear(hidden, num_classes),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(self.features(x))
