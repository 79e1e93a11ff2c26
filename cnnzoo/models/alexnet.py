"""AlexNet: Krizhevsky et al. 2012, https://proceedings.neurips.cc/paper/2012/hash/c399862d3b9d6b76c8436e924a68c45b-Abstract.html.

One branch instead of the paper's two half-connected ones, no padding in the first layer and no local response
normalisation, as in Dive into Deep Learning; torchvision's `alexnet` is a narrower network. `second_hidden` adds the
paper's second layer of 4096 units.
"""

from torch import Tensor, nn

from cnnzoo.nn.layers import check_image_size


class AlexNet(nn.Module):
    """`[N, in_channels, image_size, image_size]` to logits `[N, num_classes]`; made for 224×224, 67×67 or more."""

    MINIMUM_SIZE = 67

    def __init__(
        self, *, in_channels: int, num_classes: int, image_size: int, dropout: float, second_hidden: bool
    ) -> None:
        super().__init__()
        check_image_size("AlexNet", image_size, self.MINIMUM_SIZE)
        self.features = nn.Sequential(
            nn.Conv2d(in_channels, 96, 11, stride=4),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(3, stride=2),
            nn.Conv2d(96, 256, 5, padding=2),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(3, stride=2),
            nn.Conv2d(256, 384, 3, padding=1),
            nn.ReLU(inplace=True),
            nn.Conv2d(384, 384, 3, padding=1),
            nn.ReLU(inplace=True),
            nn.Conv2d(384, 256, 3, padding=1),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(3, stride=2),
        )
        side = (image_size - 11) // 4 + 1
        for _ in range(3):
            side = (side - 3) // 2 + 1
        hidden: list[nn.Module] = [nn.Linear(256 * side**2, 4096), nn.ReLU(inplace=True), nn.Dropout(dropout)]
        if second_hidden:
            hidden += [nn.Linear(4096, 4096), nn.ReLU(inplace=True), nn.Dropout(dropout)]
        self.classifier = nn.Sequential(nn.Flatten(), *hidden, nn.Linear(4096, num_classes))

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(self.features(x))
