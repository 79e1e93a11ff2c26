"""Count what a network costs: parameters, multiply–accumulates (MACs) and output shapes, layer by layer.

A MAC is one multiplication with its addition inside a convolution or a matrix product (linear layers and attention
included), as torch.utils.flop_counter counts them; bias additions, normalisation, activations and pooling are not
counted. torchvision's published "GFLOPS" (`_ops`) are these MACs in units of 10⁹.
"""

import copy
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import product
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from cnnzoo.errors import UserError


@dataclass(frozen=True)
class Layer:
    """One module. `output_shape` is that of its first call, without the batch; None where the module is not called."""

    name: str
    type: str
    output_shape: tuple[int, ...] | None
    params: int
    macs: int


@dataclass(frozen=True)
class Profile:
    """A network's layers and totals; `params` and `macs` of the layers add up to the network's."""

    input_shape: tuple[int, ...]
    layers: tuple[Layer, ...]
    shapes: dict[str, tuple[int, ...] | None]  # output of every module that is called, by name, in that order
    trainable_params: int
    non_trainable_params: int
    buffers: int  # values that are not parameters, such as the running statistics of batch norm
    macs: int  # for one image

    @property
    def params(self) -> int:
        return self.trainable_params + self.non_trainable_params


def count_parameters(net: nn.Module) -> int:
    """Return the number of trainable parameters; one that several layers share counts once."""
    return sum(p.numel() for p in net.parameters() if p.requires_grad)


def macs(net: nn.Module, input_shape: Sequence[int]) -> int:
    """Return the MACs for one image of `input_shape`, `[C, H, W]`; raises as `profile` does."""
    return profile(net, input_shape).macs


def profile(net: nn.Module, input_shape: Sequence[int], num_classes: int | None = None) -> Profile:
    """Run one image of `input_shape`, `[C, H, W]`, through a copy of `net` in evaluation mode, and record its layers.

    Nothing is computed (meta tensors), so a large network costs milliseconds, and `net` stays as it is. Layers come in
    the order of their first call, those that evaluation does not call (auxiliary heads) after their neighbours. They
    are the modules without children, and others that hold parameters or multiply on their own. A module used several
    times is one layer with the MACs of all its calls; a parameter shared between modules belongs to the first of them.

    Raises:
        UserError: the network cannot take such an image, or its output is not logits `[N, num_classes]`.
    """
    shape = tuple(input_shape)
    try:
        trace = _trace(_meta_copy(net), shape)
    except Exception:
        # Either the image does not fit, or this network needs real numbers (a branch on a value, a tensor that is
        # no buffer). A real forward pass shows which, with the clearer message.
        try:
            trace = _trace(copy.deepcopy(net), shape)
        except Exception as error:
            raise UserError(
                f"{type(net).__name__} cannot take an image of {_times(shape)} (channels × height × width):"
                f" {type(error).__name__}: {str(error).strip().rstrip('.!')}. {_remedy(net, shape, num_classes)}"
            ) from error
    if not _are_logits(trace.output, num_classes):
        output = trace.output
        got = f"shape {list(output.shape)}" if isinstance(output, Tensor) else f"type {type(output).__name__}"
        raise UserError(
            f"{type(net).__name__} makes of one image of {_times(shape)} an output of {got};"
            f" expected logits of shape [1, {num_classes or 'num_classes'}]."
            " model.num_classes=… sets the classes where the network has that argument."
        )
    layers = tuple(_layers(trace))
    names = {module: name for name, module in trace.net.named_modules()}
    parameters = list(trace.net.parameters())
    total, trainable = sum(p.numel() for p in parameters), count_parameters(trace.net)
    return Profile(
        input_shape=shape,
        layers=layers,
        shapes={names[module]: shape for module, shape in trace.shapes.items()},
        trainable_params=trainable,
        non_trainable_params=total - trainable,
        buffers=sum(b.numel() for b in trace.net.buffers()),
        macs=sum(trace.flops.values()) // 2,
    )


@dataclass
class _Trace:
    net: nn.Module
    output: Any = None
    shapes: dict[nn.Module, tuple[int, ...] | None] = field(default_factory=dict)  # in the order of first calls
    flops: Counter[nn.Module] = field(default_factory=Counter)  # by the module itself, without its children


def _meta_copy(net: nn.Module) -> nn.Module:
    """Return a copy of `net` with shapes instead of values; what was shared stays shared."""
    memo: dict[int, Any] = {
        id(p): nn.Parameter(torch.empty_like(p, device="meta"), requires_grad=p.requires_grad) for p in net.parameters()
    }
    memo |= {id(b): torch.empty_like(b, device="meta") for b in net.buffers()}
    return copy.deepcopy(net, memo)


def _trace(net: nn.Module, shape: tuple[int, ...]) -> _Trace:
    """Run `net` once; it is left with hooks and in evaluation mode."""
    trace = _Trace(net.eval())
    active = [net]  # innermost last
    charged = 0

    def charge() -> None:
        nonlocal charged
        total = counter.get_total_flops()
        trace.flops[active[-1]] += total - charged
        charged = total

    def enter(module: nn.Module, args: Any) -> None:
        charge()
        active.append(module)
        trace.shapes.setdefault(module, None)

    def leave(module: nn.Module, args: Any, output: Any) -> None:
        charge()
        active.pop()
        if trace.shapes[module] is None:
            trace.shapes[module] = _shape(output)

    for module in net.modules():
        module.register_forward_pre_hook(enter)
        module.register_forward_hook(leave)
    like = next((t for t in net.parameters() if t.is_floating_point()), torch.empty(0))
    # With gradients, as in training: without them attention may take a fused path that the counter does not support.
    with torch.enable_grad(), FlopCounterMode(display=False) as counter:
        trace.output = net(torch.zeros(1, *shape, dtype=like.dtype, device=like.device))
    return trace


def _layers(trace: _Trace) -> Iterator[Layer]:
    names = {module: name for name, module in trace.net.named_modules()}
    order = list(trace.shapes)
    neighbour = trace.net
    for module in names:
        if module not in trace.shapes:
            order.insert(order.index(neighbour) + 1, module)
        neighbour = module
    seen: set[nn.Parameter] = set()
    for module in order:
        own = set(module.parameters(recurse=False)) - seen
        seen |= own
        flops = trace.flops[module]
        is_called_leaf = module in trace.shapes and not any(True for _ in module.children())
        if own or flops or is_called_leaf:
            yield Layer(
                name=names[module] or "(root)",
                type=type(module).__name__,
                output_shape=trace.shapes.get(module),
                params=sum(p.numel() for p in own),
                macs=flops // 2,
            )


def _shape(output: Any) -> tuple[int, ...] | None:
    """Return the shape of an output, of several the first one's, without the batch."""
    if isinstance(output, dict):
        output = list(output.values())
    while isinstance(output, list | tuple) and output:
        output = output[0]
    return tuple(output.shape[1:]) if isinstance(output, Tensor) else None


def _are_logits(output: Any, num_classes: int | None) -> bool:
    return (
        isinstance(output, Tensor)
        and output.ndim == 2
        and output.shape[0] == 1
        and num_classes in (None, output.shape[1])
    )


def _remedy(net: nn.Module, shape: tuple[int, ...], num_classes: int | None) -> str:
    """Return the settings nearest to `shape` with which `net` works, found by trying."""
    channels, height, width = shape
    sides = (8, 16, 28, 32, 48, 64, 96, 112, 128, 160, 192, 224, 256, 299, 384, 512)
    sizes = [(height, width), *((side, side) for side in sides)]
    for c, size in product(dict.fromkeys((channels, 3, 1)), sizes):
        try:
            output = _trace(_meta_copy(net), (c, *size)).output
        except Exception:
            continue
        if _are_logits(output, num_classes):
            settings = [f"image_size={size[0]}"] * (size != (height, width)) + [f"dataset.channels={c}"] * (
                c != channels
            )
            return f"It works with {' '.join(settings)}."
    return "image_size=… sets the side, dataset.channels=… the channels, model.…=… the network's own arguments."


def _times(shape: Sequence[int]) -> str:
    return "×".join(map(str, shape))
