"""ResNet blocks against torchvision's and against calculations by hand."""

import pytest
import torch
import torch.nn.functional as F
import torchvision
from torch import Tensor, nn

from cnnzoo.config import compose
from cnnzoo.models.resnet import BasicBlock, Bottleneck, PreActBottleneck, ResNet, ZeroPadShortcut
from cnnzoo.nn.build import build_model
from cnnzoo.nn.profile import count_parameters


def resnet(*overrides: str) -> ResNet:
    net = build_model(compose(["model=resnet", *overrides]))
    assert isinstance(net, ResNet)
    return net


def test_resnet1001_without_batch_norm() -> None:
    with torch.device("meta"):
        net = build_model(compose(["model=preact_resnet1001"]))
    norms = sum(count_parameters(module) for module in net.modules() if isinstance(module, nn.BatchNorm2d))
    assert round((count_parameters(net) - norms) / 1e6, 1) == 10.2  # He et al. 2016, table 4


def test_zero_pad_shortcut() -> None:
    x = torch.arange(2 * 16, dtype=torch.float).reshape(1, 2, 4, 4)
    y = ZeroPadShortcut(2, 4, stride=2)(x)
    kept = [[[0.0, 2.0], [8.0, 10.0]], [[16.0, 18.0], [24.0, 26.0]]]
    assert y.tolist() == [[[[0.0] * 2] * 2, *kept, [[0.0] * 2] * 2]]


def test_plain_net_lacks_the_shortcuts_alone() -> None:
    plain = resnet("model.shortcut=none").eval()
    residual = resnet("model.shortcut=zero_pad").eval()
    residual.load_state_dict(plain.state_dict())  # zero-padding shortcuts have no parameters
    images = torch.randn(4, 3, 32, 32)

    def by_hand(x: Tensor, skip: float) -> Tensor:
        x = residual.input_net(x)
        for block in residual.blocks:
            assert isinstance(block, BasicBlock)
            assert block.downsample is not None
            x = F.relu(block.net(x) + skip * block.downsample(x))
        logits: Tensor = residual.output_net(x)
        return logits

    torch.testing.assert_close(plain(images), by_hand(images, 0.0))
    torch.testing.assert_close(residual(images), by_hand(images, 1.0))


@pytest.mark.parametrize("groups", [1, 4])
def test_bottleneck_is_torchvisions(groups: int) -> None:
    projection = nn.Sequential(nn.Conv2d(8, 32, 1, stride=2, bias=False), nn.BatchNorm2d(32))
    theirs = torchvision.models.resnet.Bottleneck(8, 8, stride=2, downsample=projection, groups=groups, base_width=64)
    ours = Bottleneck(8, 32, 2, "projection", "relu", None, inner_channels=8 * groups, groups=groups)
    with torch.no_grad():
        for ours_p, theirs_p in zip(ours.parameters(), theirs.parameters(), strict=True):
            ours_p.copy_(theirs_p)
    x = torch.randn(3, 8, 6, 6)
    torch.testing.assert_close(ours(x), theirs(x))


def test_projection_is_preactivated_and_identity_is_not() -> None:
    x = torch.randn(2, 8, 4, 4)
    for out_channels in (8, 16):
        block = PreActBottleneck(8, out_channels, 1, "projection", "relu", None).eval()
        last = block.net[-1]
        assert isinstance(last, nn.Conv2d)
        nn.init.zeros_(last.weight)  # only the shortcut remains
        expected = x
        if isinstance(block.downsample, nn.Conv2d):
            expected = F.conv2d(F.relu(block.preact[0](x)), block.downsample.weight)
        assert isinstance(block.downsample, nn.Conv2d if out_channels == 16 else nn.Identity)
        torch.testing.assert_close(block(x), expected)
