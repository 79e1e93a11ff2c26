"""VGG against torchvision's published numbers."""

import torch
import torchvision

from cnnzoo.config import compose
from cnnzoo.nn.build import build_model
from cnnzoo.nn.profile import macs


def test_operations_of_vgg11_are_those_that_torchvision_publishes() -> None:
    with torch.device("meta"):
        net = build_model(compose(["model=vgg11", "dataset.num_classes=1000"]))
    operations = torchvision.models.VGG11_Weights.IMAGENET1K_V1.meta["_ops"]
    assert round(macs(net, (3, 224, 224)) / 1e9, 3) == operations
