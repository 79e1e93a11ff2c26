"""Inception blocks: the order of their branches, and GoogLeNet's auxiliary classifiers."""

import torch
from torch import Tensor, nn

from cnnzoo.config import compose
from cnnzoo.models.googlenet import InceptionBlock
from cnnzoo.models.mnist import InceptionA
from cnnzoo.nn.build import build_model


def fill(branch: nn.Module, value: float) -> None:
    """Make a branch's output `value` everywhere."""
    last = [module for module in branch.modules() if isinstance(module, nn.Conv2d)][-1]
    nn.init.zeros_(last.weight)
    assert last.bias is not None
    nn.init.constant_(last.bias, value)


def test_order_of_the_branches_of_inception_a() -> None:
    block = InceptionA(10)
    for value, branch in enumerate((block.branch_1x1, block.branch_5x5, block.branch_3x3, block.branch_pool)):
        fill(branch, value)
    assert block(torch.randn(1, 10, 5, 5))[0, :, 2, 2].tolist() == [0.0] * 16 + [1.0] * 24 + [2.0] * 24 + [3.0] * 24


def test_order_of_the_branches_of_googlenet() -> None:
    block = InceptionBlock(6, (2, 2), (1, 2, 3, 4), lambda i, o, kernel: [nn.Conv2d(i, o, kernel, padding=kernel // 2)])
    for value, branch in enumerate((block.conv_1x1, block.conv_3x3, block.conv_5x5, block.max_pool)):
        fill(branch, value)
    assert block(torch.randn(1, 6, 5, 5))[0, :, 2, 2].tolist() == [0, 1, 1, 2, 2, 2, 3, 3, 3, 3]


def test_auxiliary_classifiers_are_for_training_only() -> None:
    net = build_model(compose(["model=googlenet_v1", "image_size=32", "model.auxiliary_heads=true"]))
    images = torch.randn(2, 3, 32, 32)
    assert len(net(images)) == 3
    assert net.auxiliary_weight == 0.3  # Szegedy et al. 2014, section 5
    assert isinstance(net.eval()(images), Tensor)
