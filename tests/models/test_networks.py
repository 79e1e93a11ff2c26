"""Every network of conf/model in one table: a new network means a new row.

Expected numbers come from a paper, from torchvision, or from a calculation by hand (`Sheet`), layer by layer after
the paper's or source's own table.
"""

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass
from functools import cache
from typing import Self

import pytest
import torch
import torch.nn.functional as F
import torchvision
from torch import Tensor, nn

from cnnzoo.config import CONF_DIR, Config, compose
from cnnzoo.errors import UserError
from cnnzoo.nn.build import build_model, input_shape
from cnnzoo.nn.profile import count_parameters, profile
from cnnzoo.nn.speed import speed_up


class Sheet:
    """A calculation of parameters and multiply–accumulates (for one image) by hand, one line per layer."""

    def __init__(self) -> None:
        self.params = 0
        self.macs = 0

    def conv(self, side: int, kernel: int, inputs: int, outputs: int, bias: bool = True, groups: int = 1) -> Self:
        """`side` is that of the output."""
        weights = kernel**2 * inputs // groups * outputs
        self.params += weights + bias * outputs
        self.macs += weights * side**2
        return self

    def linear(self, inputs: int, outputs: int) -> Self:
        return self.conv(1, 1, inputs, outputs)

    def bn(self, channels: int) -> Self:
        self.params += 2 * channels
        return self

    def conv_bn(self, side: int, kernel: int, inputs: int, outputs: int, groups: int = 1) -> Self:
        return self.conv(side, kernel, inputs, outputs, bias=False, groups=groups).bn(outputs)


def alexnet(second_hidden: bool = False) -> Sheet:
    """One channel of 224×224, ten classes. torchvision's AlexNet has other widths, so it is no reference."""
    sheet = Sheet().conv(54, 11, 1, 96).conv(26, 5, 96, 256)
    sheet.conv(12, 3, 256, 384).conv(12, 3, 384, 384).conv(12, 3, 384, 256).linear(256 * 5 * 5, 4096)
    if second_hidden:
        sheet.linear(4096, 4096)
    return sheet.linear(4096, 10)


def vgg11_small() -> Sheet:
    sheet = Sheet().conv(224, 3, 1, 8).conv(112, 3, 8, 16).conv(56, 3, 16, 32).conv(56, 3, 32, 32)
    sheet.conv(28, 3, 32, 64).conv(28, 3, 64, 64).conv(14, 3, 64, 64).conv(14, 3, 64, 64)
    return sheet.linear(64 * 7 * 7, 512).linear(512, 512).linear(512, 10)


def nin() -> Sheet:
    sheet = Sheet()
    for side, kernel, inputs, outputs in ((54, 11, 1, 96), (26, 5, 96, 256), (12, 3, 256, 384), (5, 3, 384, 10)):
        sheet.conv(side, kernel, inputs, outputs).conv(side, 1, outputs, outputs).conv(side, 1, outputs, outputs)
    return sheet


# Szegedy et al. 2014, table 1: image side over 7, then #1×1, #3×3 reduce, #3×3, #5×5 reduce, #5×5, pool proj.
INCEPTION_V1 = {
    "3a": (4, 64, 96, 128, 16, 32, 32),
    "3b": (4, 128, 128, 192, 32, 96, 64),
    "4a": (2, 192, 96, 208, 16, 48, 64),
    "4b": (2, 160, 112, 224, 24, 64, 64),
    "4c": (2, 128, 128, 256, 24, 64, 64),
    "4d": (2, 112, 144, 288, 32, 64, 64),
    "4e": (2, 256, 160, 320, 32, 128, 128),
    "5a": (1, 256, 160, 320, 32, 128, 128),
    "5b": (1, 384, 192, 384, 48, 128, 128),
}


def googlenet_v1(image_size: int, channels: int, classes: int) -> Sheet:
    unit = image_size // 32
    sheet = Sheet().conv(16 * unit, 7, channels, 64).conv(8 * unit, 1, 64, 64).conv(8 * unit, 3, 64, 192)
    inputs = 192
    for scale, c1, r3, c3, r5, c5, pool in INCEPTION_V1.values():
        side = scale * unit
        sheet.conv(side, 1, inputs, c1).conv(side, 1, inputs, r3).conv(side, 3, r3, c3)
        sheet.conv(side, 1, inputs, r5).conv(side, 5, r5, c5).conv(side, 1, inputs, pool)
        inputs = c1 + c3 + c5 + pool
    return sheet.linear(1024, classes)


def torchvision_googlenet(auxiliary: bool) -> int:
    """torchvision's parameters, had it the paper's 5×5 convolutions where it has 3×3 (its own known slip)."""
    with torch.device("meta"):
        net = torchvision.models.googlenet(aux_logits=auxiliary, init_weights=False)
    return count_parameters(net) + sum((25 - 9) * r5 * c5 for _, _, _, _, r5, c5, _ in INCEPTION_V1.values())


def googlenet() -> Sheet:
    """The reduced network: block by block as the tutorial lists them."""

    def conv(side: int, kernel: int, inputs: int, outputs: int) -> None:
        sheet.conv(side, kernel, inputs, outputs).bn(outputs)

    sheet = Sheet()
    conv(32, 3, 3, 64)
    inputs = 64
    for side, r3, r5, c1, c3, c5, pool in (
        (32, 32, 16, 16, 32, 8, 8),
        (32, 32, 16, 24, 48, 12, 12),
        (16, 32, 16, 24, 48, 12, 12),
        (16, 32, 16, 16, 48, 16, 16),
        (16, 32, 16, 16, 48, 16, 16),
        (16, 32, 16, 32, 48, 24, 24),
        (8, 48, 16, 32, 64, 16, 16),
        (8, 48, 16, 32, 64, 16, 16),
    ):
        conv(side, 1, inputs, c1)
        conv(side, 1, inputs, r3)
        conv(side, 3, r3, c3)
        conv(side, 1, inputs, r5)
        conv(side, 5, r5, c5)
        conv(side, 1, inputs, pool)
        inputs = c1 + c3 + c5 + pool
    return sheet.linear(128, 10)


def inception_a() -> Sheet:
    def block(side: int, inputs: int) -> None:
        sheet.conv(side, 1, inputs, 16).conv(side, 1, inputs, 16).conv(side, 5, 16, 24)
        sheet.conv(side, 1, inputs, 16).conv(side, 3, 16, 24).conv(side, 3, 24, 24).conv(side, 1, inputs, 24)

    sheet = Sheet().conv(24, 5, 1, 10)
    block(12, 10)
    sheet.conv(8, 5, 88, 20)
    block(4, 20)
    return sheet.linear(1408, 10)


def residual_mnist() -> Sheet:
    sheet = Sheet().conv(24, 5, 1, 16).conv(12, 3, 16, 16).conv(12, 3, 16, 16)
    return sheet.conv(8, 5, 16, 32).conv(4, 3, 32, 32).conv(4, 3, 32, 32).linear(512, 10)


def keras_cnn() -> Sheet:
    sheet = Sheet().conv(32, 3, 3, 32).bn(32).conv(16, 3, 32, 32).bn(32)
    sheet.conv(16, 3, 32, 64).bn(64).conv(8, 3, 64, 64).bn(64)
    return sheet.linear(4096, 128).bn(128).linear(128, 10)


def resnet(n: int, projection: bool, se_ratio: int | None = None) -> Sheet:
    """6n + 2 layers of basic blocks; projections have a bias and no BN."""
    sheet = Sheet().conv_bn(32, 3, 3, 16)
    inputs = 16
    for side, width in ((32, 16), (16, 32), (8, 64)):
        for _ in range(n):
            sheet.conv_bn(side, 3, inputs, width).conv_bn(side, 3, width, width)
            if se_ratio is not None:
                sheet.linear(width, width // se_ratio).linear(width // se_ratio, width)
            if projection and inputs != width:
                sheet.conv(side, 1, inputs, width)
            inputs = width
    return sheet.linear(64, 10)


def preact_resnet(n: int, projection: bool, final_norm: bool) -> Sheet:
    sheet = Sheet().conv(32, 3, 3, 16, bias=False)
    inputs = 16
    for side, width in ((32, 16), (16, 32), (8, 64)):
        for _ in range(n):
            sheet.bn(inputs).conv_bn(side, 3, inputs, width).conv(side, 3, width, width, bias=False)
            if projection and inputs != width:
                sheet.bn(inputs).conv(side, 1, inputs, width, bias=False)
            inputs = width
    return (sheet.bn(64) if final_norm else sheet).linear(64, 10)


def bottleneck_resnet(n: int, preact: bool) -> Sheet:
    """9n + 2 layers; BN after every convolution, or before every convolution but the first and before the pooling."""
    sheet = Sheet().conv(32, 3, 3, 16, bias=False).bn(16)
    inputs, before = 16, 32
    for side, width in ((32, 16), (16, 32), (8, 64)):
        for index in range(n):
            # The stride is in the 3×3 convolution, so the first 1×1 still sees the larger image.
            sheet.conv_bn(before if index == 0 else side, 1, inputs, width)
            sheet.conv_bn(side, 3, width, width).conv_bn(side, 1, width, 4 * width)
            if index == 0:
                sheet.conv(side, 1, inputs, 4 * width, bias=False)
                if not preact:
                    sheet.bn(4 * width)
            inputs = 4 * width
        before = side
    return sheet.linear(256, 10)


def resnext29(cardinality: int, base_width: int) -> Sheet:
    sheet = Sheet().conv_bn(32, 3, 3, 64)
    inputs, before = 64, 32
    for side, outputs, width in ((32, 256, 1), (16, 512, 2), (8, 1024, 4)):
        inner = cardinality * base_width * width
        for index in range(3):
            sheet.conv_bn(before if index == 0 else side, 1, inputs, inner)
            sheet.conv_bn(side, 3, inner, inner, groups=cardinality).conv_bn(side, 1, inner, outputs)
            if index == 0:
                sheet.conv_bn(side, 1, inputs, outputs)
            inputs = outputs
        before = side
    return sheet.linear(1024, 10)


def wide_resnet(depth: int, k: int) -> Sheet:
    sheet = Sheet().conv(32, 3, 3, 16, bias=False)
    inputs = 16
    for side, width in ((32, 16 * k), (16, 32 * k), (8, 64 * k)):
        for index in range((depth - 4) // 6):
            sheet.bn(inputs).conv_bn(side, 3, inputs, width).conv(side, 3, width, width, bias=False)
            if index == 0:
                sheet.conv(side, 1, inputs, width, bias=False)
            inputs = width
    return sheet.bn(inputs).linear(inputs, 10)


def densenet(blocks: Sequence[int], growth: int, bn_size: int, stem: int, stem_bias: bool) -> Sheet:
    sheet = Sheet().conv(32, 3, 3, stem, bias=stem_bias)
    channels, side = stem, 32
    for index, layers in enumerate(blocks):
        for _ in range(layers):
            sheet.bn(channels).conv_bn(side, 1, channels, bn_size * growth)
            sheet.conv(side, 3, bn_size * growth, growth, bias=False)
            channels += growth
        sheet.bn(channels)
        if index < len(blocks) - 1:
            sheet.conv(side, 1, channels, channels // 2, bias=False)
            channels, side = channels // 2, side // 2
    return sheet.linear(channels, 10)


def dpn(stages: Sequence[tuple[int, int, int, int]], cardinality: int) -> Sheet:
    """`stages`: blocks, inner, residual and dense channels, after the network known from comparisons on CIFAR-10."""
    sheet = Sheet().conv_bn(32, 3, 3, 64)
    inputs = 64
    for level, (blocks, inner, residual, dense) in enumerate(stages):
        side = 32 // 2**level
        for index in range(blocks):
            sheet.conv_bn(2 * side if level > 0 and index == 0 else side, 1, inputs, inner)
            sheet.conv_bn(side, 3, inner, inner, groups=cardinality).conv_bn(side, 1, inner, residual + dense)
            if index == 0:
                sheet.conv_bn(side, 1, inputs, residual + dense)
            inputs = residual + (index + 2) * dense
    return sheet.linear(inputs, 10)


def airbench(widths: Sequence[int]) -> Sheet:
    """Whitening filters of 2×2 and their negatives; the first convolution of a block comes before its pooling."""
    sheet, side, inputs = Sheet().conv(31, 2, 3, 24), 31, 24
    for width in widths:
        sheet.conv_bn(side, 3, inputs, width)
        side, inputs = side // 2, width
        sheet.conv_bn(side, 3, width, width)
    return sheet.conv(1, 1, inputs, 10, bias=False)


@cache
def torchvision_vgg11() -> int:
    with torch.device("meta"):
        return count_parameters(torchvision.models.vgg11(init_weights=False))


@cache
def torchvision_resnet18() -> int:
    with torch.device("meta"):
        return count_parameters(torchvision.models.resnet18(num_classes=10))


@dataclass(frozen=True)
class Row:
    """`expected` parameters and MACs of `model` on `dataset` with `overrides`."""

    model: str
    dataset: str
    expected: Sheet | tuple[int, int | None]
    overrides: tuple[str, ...] = ()
    published: str | None = None  # millions of parameters, rounded in the paper
    frozen: int = 0  # parameters that are not trained


# Parameters of the first four: the University of Amsterdam tutorial's published networks.
DPN_STAGES = ((96, 256, 16), (192, 512, 32), (384, 1024, 24), (768, 2048, 128))
ROWS = (
    Row("googlenet", "cifar10", (260_650, googlenet().macs)),
    Row("resnet", "cifar10", (272_378, resnet(3, projection=True).macs), published="0.27"),  # He et al. 2015, table 6
    Row("preact_resnet", "cifar10", (272_250, preact_resnet(3, projection=True, final_norm=False).macs)),
    Row("densenet", "cifar10", (239_146, densenet([6] * 4, 16, 2, 32, stem_bias=True).macs)),
    Row("alexnet", "fashion_mnist", alexnet()),
    Row("alexnet", "fashion_mnist", alexnet(second_hidden=True), ("model.second_hidden=true",)),
    # torchvision, live; for the operations see test_torchvision_publishes_the_same_operations_for_vgg11.
    Row("vgg11", "cifar10", (torchvision_vgg11(), None), ("dataset.num_classes=1000",)),
    Row("vgg11", "fashion_mnist", (torchvision_vgg11() - 2 * 9 * 64 - 990 * 4097, None)),
    Row("vgg11_small", "fashion_mnist", vgg11_small()),
    Row("nin", "fashion_mnist", nin()),
    Row("googlenet_v1", "fashion_mnist", googlenet_v1(96, channels=1, classes=10)),
    Row("googlenet_v1", "fashion_mnist", googlenet_v1(224, channels=1, classes=10), ("image_size=224",)),
    Row(
        "googlenet_v1",
        "cifar10",
        (torchvision_googlenet(auxiliary=False), googlenet_v1(224, channels=3, classes=1000).macs),
        ("dataset.num_classes=1000", "image_size=224", "model.batch_norm=true"),
    ),
    Row(
        "googlenet_v1",
        "cifar10",
        (torchvision_googlenet(auxiliary=True), googlenet_v1(224, channels=3, classes=1000).macs),
        ("dataset.num_classes=1000", "image_size=224", "model.batch_norm=true", "model.auxiliary_heads=true"),
    ),
    Row("inception_a", "mnist", inception_a()),
    Row("residual_mnist", "mnist", residual_mnist()),
    # Keras' summary prints 592,554, of which 2·(32 + 32 + 64 + 64 + 128) are running statistics.
    Row("keras_cnn", "cifar10", (592_554 - 640, keras_cnn().macs)),
    # The source's own numbers, layer by layer.
    Row("two_conv", "cifar10", (490 + 1_820 + 12_810, 480 * 16**2 + 1_800 * 8**2 + 12_800)),
    Row("mlp", "cifar10", Sheet().linear(3072, 200).linear(200, 150).linear(150, 10)),
    # The libraries themselves, the second with one input channel instead of three.
    Row("torchvision", "cifar10", (torchvision_resnet18(), None)),
    Row("timm", "fashion_mnist", (torchvision_resnet18() - 2 * 7**2 * 64, None)),
    Row("conv_example", "mnist", Sheet().conv(28, 5, 1, 10)),
    Row("plain20", "cifar10", resnet(3, projection=False), published="0.27"),  # He et al. 2015, table 6, as follows
    Row("plain56", "cifar10", resnet(9, projection=False), published="0.85"),
    Row(
        "resnet",
        "cifar10",
        resnet(5, projection=False),
        ("model.blocks_per_group=[5,5,5]", "model.shortcut=zero_pad"),
        "0.46",
    ),
    Row(
        "resnet",
        "cifar10",
        resnet(7, projection=False),
        ("model.blocks_per_group=[7,7,7]", "model.shortcut=zero_pad"),
        "0.66",
    ),
    Row("resnet56", "cifar10", resnet(9, projection=False), published="0.85"),
    Row("resnet110", "cifar10", resnet(18, projection=False), published="1.7"),
    Row("preact_resnet110", "cifar10", preact_resnet(18, projection=False, final_norm=True), published="1.7"),
    Row("resnet164", "cifar10", bottleneck_resnet(18, preact=False), published="1.7"),  # He et al. 2016, table 4
    Row("preact_resnet164", "cifar10", bottleneck_resnet(18, preact=True), published="1.7"),
    # The paper's 10.2 million leave batch norm's parameters out: see test_resnet1001_without_batch_norm.
    Row("preact_resnet1001", "cifar10", bottleneck_resnet(111, preact=True)),
    Row("se_resnet20", "cifar10", resnet(3, projection=True, se_ratio=4)),
    # Zagoruyko and Komodakis 2016, tables 4 and 5.
    Row("wide_resnet", "cifar10", wide_resnet(16, 4)),
    Row("wide_resnet", "cifar10", wide_resnet(40, 4), ("model.depth=40",), "8.9"),
    Row("wide_resnet", "cifar10", wide_resnet(28, 10), ("model.depth=28", "model.widen_factor=10"), "36.5"),
    # Xie et al. 2016, table 7.
    Row("resnext29", "cifar10", resnext29(8, 64), published="34.4"),
    Row("resnext29", "cifar10", resnext29(16, 64), ("model.cardinality=16",), "68.1"),
    # Huang et al. 2016, table 2.
    Row("densenet_bc", "cifar10", densenet([16] * 3, 12, 4, 24, stem_bias=False), published="0.8"),
    Row(
        "densenet_bc",
        "cifar10",
        densenet([41] * 3, 24, 4, 48, stem_bias=False),
        ("model.layers_per_block=[41,41,41]", "model.growth_rate=24", "model.stem_channels=48"),
        "15.3",
    ),
    Row("dpn92", "cifar10", dpn([(n, *g) for n, g in zip((3, 4, 20, 3), DPN_STAGES, strict=True)], 32)),
    Row(
        "dpn92",
        "cifar10",
        dpn([(2, *stage) for stage in DPN_STAGES], 32),
        ("model.blocks_per_group=[2,2,2,2]",),
    ),
    # Jordan 2024, section 3.1: 1.97 million.
    Row("airbench94", "cifar10", airbench((64, 256, 256)), published="1.97", frozen=288 + 2 * (64 + 256 + 256)),
    Row("dpn_small", "cifar10", dpn([(2, 24, 32, 8), (2, 48, 64, 16), (2, 96, 128, 16)], 8)),
)
MODELS = sorted(path.stem for path in CONF_DIR.glob("model/*.yaml"))
DATASET = {row.model: row.dataset for row in reversed(ROWS)}

# Where a test computes, the smallest form that has every kind of layer: two cores and two gigabytes must do.
SMALL = {
    "alexnet": ("image_size=67",),
    "nin": ("image_size=67",),
    "vgg11": ("image_size=32", "model.widths=[16,16,16,16,16]", "model.hidden=32"),
    "vgg11_small": ("image_size=32",),
    "googlenet_v1": ("image_size=32", "model.auxiliary_heads=true"),
    "resnext29": ("image_size=16", "model.blocks_per_group=[1,1,1]", "model.cardinality=2"),
    "densenet": ("image_size=16", "model.layers_per_block=[2,2]"),
    "densenet_bc": ("image_size=16", "model.layers_per_block=[2,2]"),
    "dpn92": ("image_size=16", "model.blocks_per_group=[1,2,1,1]", "model.inner=[32,32,32,32]"),
    "dpn_small": ("image_size=16",),
    "timm": ("+model.zero_init_last=false",),  # its own start blocks the gradient of every block for one step
    **dict.fromkeys(
        ("plain56", "resnet56", "resnet110", "resnet164", "preact_resnet110", "preact_resnet164", "preact_resnet1001"),
        ("image_size=16", "model.blocks_per_group=[2,2,2]"),
    ),
}


def build(config: Config, device: str = "cpu") -> nn.Module:
    torch.manual_seed(config.seed)
    with torch.device(device):
        return build_model(config)


def small(model: str) -> tuple[nn.Module, Tensor, Tensor]:
    """Return a network in training mode, four images and four labels."""
    config = compose([f"model={model}", f"dataset={DATASET[model]}", *SMALL.get(model, ())])
    net = build(config)
    return net, torch.randn(4, *input_shape(config)), torch.arange(4)


def backward(output: Tensor | tuple[Tensor, ...], labels: Tensor) -> None:
    """Backpropagate the sum of the classifiers' losses, auxiliary ones included."""
    outputs = output if isinstance(output, tuple) else (output,)
    torch.autograd.backward([F.cross_entropy(logits, labels) for logits in outputs])


def test_every_network_has_a_row() -> None:
    assert set(MODELS) == set(DATASET)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: "-".join([row.model, row.dataset, *row.overrides]))
def test_parameters_and_macs(row: Row) -> None:
    config = compose([f"model={row.model}", f"dataset={row.dataset}", *row.overrides])
    result = profile(build(config, "meta"), input_shape(config), config.dataset.num_classes)
    expected = (row.expected.params, row.expected.macs) if isinstance(row.expected, Sheet) else row.expected
    assert result.params == result.trainable_params + row.frozen == expected[0]
    if expected[1] is not None:
        assert result.macs == expected[1]
    if row.published is not None:
        decimals = len(row.published.partition(".")[2])
        assert abs(result.params / 1e6 - float(row.published)) < 10**-decimals  # papers round, or cut off


@pytest.mark.parametrize("model", MODELS)
def test_gradient_reaches_every_parameter(model: str) -> None:
    net, images, labels = small(model)
    output = net(images)
    for logits in output if isinstance(output, tuple) else (output,):
        assert logits.shape == (4, 10)
    backward(output, labels)
    trained = {name: p for name, p in net.named_parameters() if p.requires_grad}
    unreached = [name for name, p in trained.items() if p.grad is None or not p.grad.any()]
    assert unreached == []


@pytest.mark.parametrize("model", MODELS)
def test_evaluation_is_deterministic_exports_and_survives_a_checkpoint(model: str) -> None:
    net, images, _ = small(model)
    net(images)  # moves the running statistics away from their initial values
    net.eval()
    with torch.no_grad():
        logits = net(images)
        assert logits.isfinite().all()
        assert torch.equal(net(images), logits)

        other = small(model)[0]
        for parameter in other.parameters():
            parameter.zero_()
        other.load_state_dict(net.state_dict())
        assert torch.equal(other.eval()(images), logits)

        exported = torch.export.export(net, (images,)).module()
        torch.testing.assert_close(exported(images), logits)


@pytest.mark.parametrize("model", MODELS)
def test_speed_up_keeps_names_and_results(model: str) -> None:
    plain, images, labels = small(model)
    fast = speed_up(deepcopy(plain))
    assert list(fast.state_dict()) == list(plain.state_dict())
    for net in (plain, fast):
        torch.manual_seed(0)  # dropout
        backward(net(images), labels)
    for (name, own), expected in zip(fast.named_parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(own.grad, expected.grad, rtol=1e-3, atol=1e-5, msg=name)
    plain.load_state_dict(fast.state_dict())
    with torch.no_grad():
        assert torch.equal(fast.eval()(images), plain.eval()(images))


@pytest.mark.parametrize("dataset", ["mnist", "cifar100", "digits"])
@pytest.mark.parametrize("model", MODELS)
def test_any_network_trains_on_any_data_set(model: str, dataset: str) -> None:
    """Grey and colour, 28 and 32 pixels, 10 and 100 classes: the shapes fit, forwards and backwards."""
    smaller = (override for override in SMALL.get(model, ()) if not override.startswith("image_size"))
    # torchvision's networks are made for colour; grey images are turned into it on request
    colour = ("dataset.channels=3",) if model == "torchvision" else ()
    config = compose([f"model={model}", f"dataset={dataset}", *smaller, *colour])
    net = build(config, "meta")
    profile(net, input_shape(config), config.dataset.num_classes)  # raises unless the output is logits
    images = torch.zeros(4, *input_shape(config), device="meta")
    backward(net.train()(images), torch.zeros(4, dtype=torch.int64, device="meta"))
    assert all(p.grad is not None for p in net.parameters() if p.requires_grad)


def test_message_for_grey_images_in_a_network_for_colour() -> None:
    config = compose(["model=torchvision", "dataset=mnist"])
    with pytest.raises(UserError, match=r"dataset\.channels=3"):
        profile(build(config, "meta"), input_shape(config), config.dataset.num_classes)


@pytest.mark.parametrize(
    ("model", "minimum"),
    [("alexnet", 67), ("nin", 67), ("vgg11_small", 32), ("inception_a", 16), ("residual_mnist", 16)],
)
def test_smallest_image(model: str, minimum: int) -> None:
    config = compose([f"model={model}", f"image_size={minimum}"])
    profile(build(config, "meta"), input_shape(config), config.dataset.num_classes)
    config = compose([f"model={model}", f"image_size={minimum - 1}"])
    with pytest.raises(UserError, match="image_size"):
        profile(build(config, "meta"), input_shape(config), config.dataset.num_classes)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("model.blocks_per_group=[3,3]", "the same length"),
        ("model.final_norm=true", "block=preact"),
        ("model=wide_resnet model.depth=20", "6n \\+ 4"),
        ("model=densenet model.compression=1.5", "at most 1"),
        ("model=vgg11 model.widths=[8]", "the same length"),
    ],
)
def test_arguments_that_are_refused(override: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        build(compose(override.split()), "meta")


@pytest.mark.slow
@pytest.mark.parametrize("model", MODELS)
def test_compiled(model: str) -> None:
    """Traced as a whole and differentiated; the code generation that follows is torch's own."""
    torch.compiler.reset()
    plain, images, labels = small(model)
    net = speed_up(deepcopy(plain))
    net.compile(backend="aot_eager", fullgraph=True)
    for network in (net, plain):
        torch.manual_seed(0)  # dropout
        backward(network(images), labels)
    for own, expected in zip(net.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(own.grad, expected.grad, rtol=1e-3, atol=1e-4)
