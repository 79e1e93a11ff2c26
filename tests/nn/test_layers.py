"""Shared building blocks against torch's own functions."""

import pytest
import torch
from torch import nn

from cnnzoo.nn.layers import Branches, check_image_size, check_same_length, init_conv_bn


def test_branches_are_concatenated_in_the_order_of_their_registration() -> None:
    block, conv = Branches(), nn.Conv2d(3, 2, 1)
    block.add_module("first", conv)
    block.add_module("second", nn.Identity())
    x = torch.randn(2, 3, 4, 4)
    assert torch.equal(block(x), torch.cat([conv(x), x], dim=1))


@pytest.mark.parametrize(("activation", "gain"), [("relu", 2**0.5), ("tanh", 5 / 3), ("gelu", 2**0.5)])
def test_kaiming_initialisation(activation: str, gain: float) -> None:
    """Gains as in torch's documentation of `torch.nn.init`; the standard deviation is gain / √fan (He et al. 2015)."""
    net = nn.Sequential(nn.Conv2d(64, 32, 3), nn.BatchNorm2d(32))
    for mode, fan in (("fan_in", 64 * 9), ("fan_out", 32 * 9)):
        init_conv_bn(net, activation, mode)  # type: ignore[arg-type]
        assert next(net.parameters()).std().item() == pytest.approx(gain / fan**0.5, rel=0.03)


def test_checks_of_arguments() -> None:
    check_image_size("Net", 8, 8)
    with pytest.raises(ValueError, match=r"at least 8×8 pixels, got 7×7: set image_size=8 or more"):
        check_image_size("Net", 7, 8)
    check_same_length(widths=[1, 2], blocks=(3, 4))
    with pytest.raises(ValueError, match=r"one entry per stage; got widths=\[1, 2\], blocks=\[3\]"):
        check_same_length(widths=[1, 2], blocks=[3])
