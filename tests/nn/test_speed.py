"""Rewritten networks train as the plain ones do: up to rounding, and max-pooling to the last bit."""

from copy import deepcopy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from cnnzoo.config import compose
from cnnzoo.models.googlenet import GoogLeNet, InceptionBlock
from cnnzoo.nn.build import build_model
from cnnzoo.nn.layers import Branches
from cnnzoo.nn.max_pool import MaxPool3x3
from cnnzoo.nn.speed import MergedBranches, concatenate, speed_up

GOOGLENETS = ("googlenet", "googlenet_v1")


def block_of(model: str) -> tuple[InceptionBlock, Tensor]:
    """An Inception block, with batch norm or without, and an input, both in double precision."""
    net = build_model(compose([f"model={model}", "image_size=32"])).double()
    block = next(module for module in net.modules() if isinstance(module, InceptionBlock))
    first = block.conv_1x1[0]
    assert isinstance(first, nn.Conv2d)
    return block, torch.randn(3, first.in_channels, 6, 6, dtype=torch.double)


@pytest.mark.parametrize("model", GOOGLENETS)
def test_merged_branches_are_the_branches_one_by_one(model: str) -> None:
    plain, x = block_of(model)
    fast = speed_up(deepcopy(plain))
    assert isinstance(fast, MergedBranches)
    x.requires_grad_()
    output, expected = fast(x), plain(x)
    torch.testing.assert_close(output, expected)
    along = torch.randn_like(output)
    for gradients in zip(
        torch.autograd.grad(output, [x, *fast.parameters()], along),
        torch.autograd.grad(expected, [x, *plain.parameters()], along),
        strict=True,
    ):
        torch.testing.assert_close(*gradients)
    for buffers in zip(fast.buffers(), plain.buffers(), strict=True):  # running statistics
        torch.testing.assert_close(*buffers)
    plain.load_state_dict(fast.state_dict())
    assert torch.equal(fast.eval()(x), plain.eval()(x))


@pytest.mark.parametrize("model", GOOGLENETS)
def test_one_convolution_reads_the_input_in_training(model: str) -> None:
    plain, x = block_of(model)
    fast = speed_up(deepcopy(plain))
    for block, training, convolutions in ((plain, True, 6), (fast, True, 4), (fast, False, 6)):
        block.train(training)
        with torch.profiler.profile() as recorded:
            block(x)
        assert sum(event.count for event in recorded.key_averages() if event.key == "aten::conv2d") == convolutions


def test_names_stay_and_checkpoints_fit_either_way() -> None:
    plain = build_model(compose(["model=googlenet"]))
    fast = speed_up(deepcopy(plain))
    assert [name for name, _ in fast.named_parameters()] == [name for name, _ in plain.named_parameters()]
    fast.load_state_dict(plain.state_dict())
    plain.load_state_dict(fast.state_dict())


def test_every_block_and_pooling_is_replaced_once() -> None:
    net = build_model(compose(["model=googlenet"]))
    for _ in range(2):
        net = speed_up(net)
        assert isinstance(net, GoogLeNet)
        assert sum(isinstance(module, MergedBranches) for module in net.modules()) == 8
        assert sum(isinstance(module, MaxPool3x3) for module in net.modules()) == 8
    assert sum(type(module) is nn.MaxPool2d for module in net.modules()) == 2  # those with stride 2


def test_networks_of_others_get_the_pooling() -> None:
    net = nn.Sequential(nn.MaxPool2d((3, 3), stride=(1, 1), padding=(1, 1)), nn.MaxPool2d(2))
    assert [type(module) for module in speed_up(net).children()] == [MaxPool3x3, nn.MaxPool2d]


@pytest.mark.parametrize(
    "options",
    [
        {"kernel_size": 3, "stride": 2, "padding": 1},
        {"kernel_size": 3, "stride": 1},
        {"kernel_size": (3, 1), "stride": 1, "padding": (1, 0)},
        {"kernel_size": 3, "stride": 1, "padding": 1, "return_indices": True},
    ],
)
def test_other_poolings_stay(options: dict[str, Any]) -> None:
    pool = nn.MaxPool2d(**options)
    assert speed_up(pool) is pool


def test_what_cannot_be_merged_stays() -> None:
    class Doubled(Branches):
        def forward(self, x: Tensor) -> Tensor:
            result: Tensor = 2 * super().forward(x)
            return result

    def branches(kind: type[Branches], *convolutions: nn.Module) -> Branches:
        block = kind()
        for index, convolution in enumerate(convolutions):
            block.add_module(str(index), convolution)
        return block

    with_bias, without_bias = nn.Conv2d(2, 3, 1), nn.Conv2d(2, 3, 1, bias=False)
    strided, grouped = nn.Conv2d(2, 3, 1, stride=2), nn.Conv2d(2, 4, 1, groups=2)
    for block in (
        branches(Doubled, with_bias, nn.Conv2d(2, 3, 1)),
        branches(Branches, with_bias, without_bias),
        branches(Branches, with_bias, nn.Conv2d(2, 3, 3, padding=1)),
        branches(Branches, strided, nn.Conv2d(2, 3, 1, stride=2)),
        branches(Branches, with_bias, grouped),
        branches(Branches, nn.Identity(), nn.Sequential()),
    ):
        assert speed_up(block) is block


def test_branches_without_a_leading_convolution_take_part() -> None:
    plain = Branches()
    plain.a, plain.b, plain.c, plain.d = nn.Conv2d(2, 3, 1), nn.Identity(), nn.Sequential(), nn.Conv2d(2, 5, 1)
    fast = speed_up(deepcopy(plain))
    assert isinstance(fast, MergedBranches)
    x = torch.randn(2, 2, 4, 4)
    torch.testing.assert_close(fast(x), plain(x))


def test_rewritten_network_is_one_graph() -> None:
    """What torch.compile cannot trace would split the network, and cost most of what compiling gains."""
    torch.compiler.reset()
    net = speed_up(build_model(compose(["model=googlenet"]))).train()
    net.compile(backend="eager", fullgraph=True)
    net(torch.randn(2, 3, 8, 8))


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_concatenation_with_dense_gradients(memory_format: torch.memory_format) -> None:
    parts = [
        torch.randn(2, channels, 3, 3, dtype=torch.double).to(memory_format=memory_format).requires_grad_()
        for channels in (3, 1, 2)
    ]
    whole = concatenate(parts)
    assert torch.equal(whole, torch.cat(parts, dim=1))
    gradients = torch.autograd.grad(concatenate(parts), parts, torch.randn_like(whole))
    assert all(gradient.is_contiguous(memory_format=memory_format) for gradient in gradients)
    assert torch.autograd.gradcheck(lambda *x: concatenate(x), parts)
    assert torch.autograd.gradgradcheck(lambda *x: concatenate(x), parts)


@pytest.mark.parametrize(
    ("shape", "dtype", "memory_format"),
    [
        ((2, 5, 7, 6), torch.float32, torch.contiguous_format),
        ((2, 5, 7, 6), torch.bfloat16, torch.channels_last),
        ((3, 4, 1, 1), torch.bfloat16, torch.channels_last),
    ],
)
def test_compiled_max_pooling_is_torchs(
    shape: tuple[int, ...], dtype: torch.dtype, memory_format: torch.memory_format
) -> None:
    """Small whole numbers: most windows have several largest pixels, and every sum of gradients is exact."""
    torch.compiler.reset()
    x, along = (torch.randint(-2, 3, shape).to(dtype).to(memory_format=memory_format) for _ in range(2))

    def output_and_gradient(pool: nn.Module) -> list[Tensor]:
        input = x.clone().requires_grad_()
        output = pool(input)
        return [output.detach(), *torch.autograd.grad(output, input, along)]

    compiled = MaxPool3x3()
    compiled.compile()
    expected = output_and_gradient(nn.MaxPool2d(3, stride=1, padding=1))
    for pool in (compiled, MaxPool3x3()):
        for own, torchs in zip(output_and_gradient(pool), expected, strict=True):
            assert torch.equal(own, torchs)
    torch.library.opcheck(torch.ops.cnnzoo.max_pool_3x3.default, (x.requires_grad_(),))
