"""3×3 max-pooling with stride 1 that torch.compile makes fast on a CPU.

The code that torch.compile generates for `nn.MaxPool2d` adds the gradient of each window at its place one by one: a
fifth of GoogLeNet's step. A window's maximum is also the maximum over its three rows of each row's maximum, and either
step is a few vectorised comparisons of a tensor with itself shifted by one pixel.
"""

from collections.abc import Callable
from functools import cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

_HEIGHT, _WIDTH = 2, 3


def is_max_pool_3x3(module: nn.Module) -> bool:
    """Whether `module` is an `nn.MaxPool2d` that computes the same as `MaxPool3x3`."""
    if type(module) is not nn.MaxPool2d or module.return_indices:
        return False
    settings = (module.kernel_size, 3), (module.stride, 1), (module.padding, 1), (module.dilation, 1)
    return all(value in (expected, (expected, expected)) for value, expected in settings)


class MaxPool3x3(nn.MaxPool2d):
    """`nn.MaxPool2d(3, stride=1, padding=1)`: `[N, C, H, W]` to the same shape.

    The gradient goes to the first of equal maxima, as there, but gradients of overlapping windows are added up in
    float32 at least.
    """

    def __init__(self) -> None:
        super().__init__(3, stride=1, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        compiled = x.device.type == "cpu" and torch.compiler.is_compiling()
        maxima: Tensor = _max_pool(x)[0] if compiled else super().forward(x)
        return maxima


# Compiled by themselves and opaque to the compiler of the network, which would otherwise fuse them with what comes
# before and compute that anew for each of the nine pixels of a window.
@torch.library.custom_op("cnnzoo::max_pool_3x3", mutates_args=())
def _max_pool(x: Tensor) -> tuple[Tensor, Tensor]:
    """Return the maxima, and those of the rows alone, which the backward pass needs."""
    rows, maxima = _compiled(_forward)(x)
    return _laid_out_like(x, maxima), _laid_out_like(x, rows)


@_max_pool.register_fake
def _(x: Tensor) -> tuple[Tensor, Tensor]:
    return torch.empty_like(x), torch.empty_like(x)


@torch.library.custom_op("cnnzoo::max_pool_3x3_backward", mutates_args=())
def _max_pool_backward(gradient: Tensor, x: Tensor, rows: Tensor, maxima: Tensor) -> Tensor:
    return _laid_out_like(x, _compiled(_backward)(gradient, x, rows, maxima))


@_max_pool_backward.register_fake
def _(gradient: Tensor, x: Tensor, rows: Tensor, maxima: Tensor) -> Tensor:
    return torch.empty_like(x)


def _laid_out_like(x: Tensor, result: Tensor) -> Tensor:
    """Return `result` with the strides of `x`, as the fakes promise; an image of one pixel may have others."""
    return result if result.stride() == x.stride() else torch.empty_like(x).copy_(result)


def _save(ctx: Any, inputs: tuple[Tensor], output: tuple[Tensor, Tensor]) -> None:
    (x,), (maxima, rows) = inputs, output
    ctx.save_for_backward(x, rows, maxima)


def _differentiate(ctx: Any, gradient: Tensor, _: Tensor | None) -> Tensor:
    result: Tensor = _max_pool_backward(gradient, *ctx.saved_tensors)
    return result


_max_pool.register_autograd(_differentiate, setup_context=_save)


@cache  # not before the first call, because the compiler is slow to import
def _compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    return torch.compile(function, dynamic=True)  # once for all shapes


def _forward(x: Tensor) -> tuple[Tensor, Tensor]:
    rows = _max_of_three(x, _WIDTH)
    return rows, _max_of_three(rows, _HEIGHT)


def _backward(gradient: Tensor, x: Tensor, rows: Tensor, maxima: Tensor) -> Tensor:
    gradient = gradient.to(torch.promote_types(x.dtype, torch.float32))
    return _to_first_maximum(_to_first_maximum(gradient, rows, maxima, _HEIGHT), x, rows, _WIDTH).to(x.dtype)


def _max_of_three(x: Tensor, dim: int) -> Tensor:
    """Return the largest of each value and its two neighbours along `dim`."""
    lowest = float("-inf")
    return torch.maximum(torch.maximum(_shifted(x, -1, dim, lowest), x), _shifted(x, 1, dim, lowest))


def _to_first_maximum(gradient: Tensor, x: Tensor, maxima: Tensor, dim: int) -> Tensor:
    """Return the gradient of `maxima = _max_of_three(x, dim)`; each goes to the first of three that is the maximum."""
    before = _shifted(x, -1, dim, float("-inf")) == maxima
    here = ~before & (x == maxima)
    to_before, to_here = torch.where(before, gradient, 0), torch.where(here, gradient, 0)
    to_after = torch.where(before | here, 0, gradient)
    return _shifted(to_before, 1, dim, 0) + to_here + _shifted(to_after, -1, dim, 0)


def _shifted(x: Tensor, by: int, dim: int, beyond: float) -> Tensor:
    """Return `x[i + by]` at each `i` along `dim`, for `by` of -1 or 1, and the value `beyond` past the edge."""
    before, after = max(0, -by), max(0, by)
    padding = (before, after) if dim == _WIDTH else (0, 0, before, after)
    return F.pad(x, padding, value=beyond).narrow(dim, after, x.shape[dim])
