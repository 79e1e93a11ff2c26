"""The two paths of a dual path block."""

import torch
from torch import nn

from cnnzoo.models.dpn import DualPathBlock


def test_some_channels_are_added_and_others_appended() -> None:
    block = DualPathBlock(6, 4, residual=4, dense=2, stride=1, cardinality=2, first=False, activation="relu").eval()
    norm = block.net[-1]
    assert isinstance(norm, nn.BatchNorm2d)
    nn.init.zeros_(norm.weight)
    with torch.no_grad():
        norm.bias.copy_(torch.tensor([1.0, 2.0, 3.0, 4.0, 5.0, 6.0]))
    x = torch.full((1, 6, 1, 1), 10.0)
    assert block(x).flatten().tolist() == [11.0, 12.0, 13.0, 14.0, 10.0, 10.0, 5.0, 6.0]
