"""Keras' padding and defaults against TensorFlow's definition."""

import math

import pytest
import torch
from torch import nn

from cnnzoo.config import compose
from cnnzoo.models.keras import SameConv2d, same_padding
from cnnzoo.nn.build import build_model
from cnnzoo.nn.profile import profile


def test_two_conv_has_the_layers_of_its_source() -> None:
    with torch.device("meta"):
        layers = profile(build_model(compose(["model=two_conv"])), (3, 32, 32)).layers
    shapes = {layer.params: layer.output_shape for layer in layers}
    assert shapes == {490: (10, 16, 16), 1_820: (20, 8, 8), 0: (1280,), 12_810: (10,)}


@pytest.mark.parametrize(
    ("size", "kernel", "stride"), [(8, 3, 2), (7, 3, 2), (8, 4, 2), (5, 4, 2), (6, 3, 1), (6, 4, 1), (3, 1, 2)]
)
def test_same_padding_against_a_slow_reference(size: int, kernel: int, stride: int) -> None:
    """TensorFlow's definition, https://www.tensorflow.org/api_docs/python/tf/nn#notes_on_padding_2."""
    conv = SameConv2d(1, 1, kernel, stride)
    x = torch.randn(1, 1, size, size)
    out = math.ceil(size / stride)
    total = max(kernel - stride, 0) if size % stride == 0 else max(kernel - size % stride, 0)
    before = total // 2
    expected = torch.zeros(out, out)
    for row in range(out):
        for column in range(out):
            for a in range(kernel):
                for b in range(kernel):
                    i, j = row * stride + a - before, column * stride + b - before
                    if 0 <= i < size and 0 <= j < size:
                        expected[row, column] += conv.weight[0, 0, a, b].detach() * x[0, 0, i, j]
    assert conv.bias is not None
    torch.testing.assert_close(conv(x)[0, 0], expected + conv.bias)


def test_same_padding_with_stride_2_is_right_and_bottom_first() -> None:
    assert same_padding(32, kernel_size=3, stride=2) == (0, 1)
    assert same_padding(32, kernel_size=4, stride=2) == (1, 1)


def test_defaults() -> None:
    net = build_model(compose(["model=keras_cnn"]))
    for module in net.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            receptive = module.weight[0, 0].numel()
            limit = math.sqrt(6 / (receptive * (module.weight.shape[0] + module.weight.shape[1])))
            largest = module.weight.abs().max().item()
            assert 0.98 * limit < largest <= limit
            assert module.bias is not None
            assert not module.bias.any()
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            assert (module.eps, module.momentum) == (1e-3, 0.01)
        if isinstance(module, nn.LeakyReLU):
            assert module.negative_slope == 0.3
