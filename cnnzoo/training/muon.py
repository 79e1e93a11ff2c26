"""Muon: momentum whose step is made orthogonal. Jordan et al. 2024, https://kellerjordan.github.io/posts/muon/.

torch.optim.Muon takes matrices only. Here a convolution's filters are the rows of a matrix, the norm of the filters can
be held constant, and groups of other parameters use Nesterov SGD in the same optimizer: `orthogonalize: false`.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.optim import Optimizer

# The quintic polynomial that each iteration applies to the singular values: steep at zero rather than exact at one.
COEFFICIENTS = (3.4445, -4.7750, 2.0315)


def orthogonalize(matrices: Tensor, steps: int, eps: float = 1e-7) -> Tensor:
    """Newton–Schulz iteration: `[..., rows, columns]` U S Vᵀ to about U Vᵀ.

    Singular values end near 1, except for tiny ones. In bfloat16 on CUDA: matrix units support it, and the result need
    not be exact.
    """
    a, b, c = COEFFICIENTS
    rows, columns = matrices.shape[-2:]
    x: Tensor = matrices.bfloat16() if matrices.is_cuda else matrices
    x = x / (x.norm(dim=(-2, -1), keepdim=True) + eps)  # now the largest singular value is at most 1
    if rows > columns:
        x = x.mT
    for _ in range(steps):
        gram = x @ x.mT
        x = a * x + (b * gram + c * gram @ gram) @ x
    x = x.mT if rows > columns else x
    return x.to(matrices.dtype)


def orthogonalize_all(tensors: Sequence[Tensor], steps: int, pad: bool = False) -> list[Tensor]:
    """Make the rows of each tensor, `tensor.flatten(1)`, orthogonal; those of one shape in one batch.

    pad: all of them in a single batch, filled up with zeros, which the iteration leaves zero: more arithmetic in fewer
        and larger operations.
    """
    matrices = [tensor.flatten(1) for tensor in tensors]
    largest = tuple(max(sizes) for sizes in zip(*(matrix.shape for matrix in matrices), strict=True))
    by_shape: dict[tuple[int, ...], list[int]] = defaultdict(list)
    for i, matrix in enumerate(matrices):
        by_shape[largest if pad else tuple(matrix.shape)].append(i)
    result = list(tensors)
    for (rows, columns), indices in by_shape.items():
        padded = [F.pad(m, (0, columns - m.shape[1], 0, rows - m.shape[0])) for m in (matrices[i] for i in indices)]
        for i, matrix in zip(indices, orthogonalize(torch.stack(padded), steps), strict=True):
            height, width = matrices[i].shape
            result[i] = matrix[:height, :width].reshape(tensors[i].shape)
    return result


class Muon(Optimizer):
    """Momentum, with an orthogonal step in the parameter groups that set `orthogonalize`.

    Args:
        orthogonalize: Muon's step, for matrices and convolutions; weight decay is decoupled from the gradient.
            False: SGD, exactly torch's, with its weight decay.
        normalize: before each of Muon's steps, scale a tensor of n rows to the norm √n, as airbench does; a number k:
            before the first step and every k-th after it.
        ns_steps: number of Newton–Schulz iterations.
        pad: one batch of Newton–Schulz iterations for tensors of all shapes.
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float,
        momentum: float,
        nesterov: bool,
        weight_decay: float,
        orthogonalize: bool,
        normalize: bool | int,
        ns_steps: int,
        pad: bool = False,
    ) -> None:
        defaults = {
            "lr": lr,
            "momentum": momentum,
            "nesterov": nesterov,
            "weight_decay": weight_decay,
            "orthogonalize": orthogonalize,
            "normalize": normalize,
            "ns_steps": ns_steps,
            "pad": pad,
            "step": 0,  # those that are done
        }
        super().__init__(params, defaults)
        for group in self.param_groups:
            if group["orthogonalize"] and any(p.ndim < 2 for p in group["params"]):
                raise ValueError(
                    "only matrices and convolutions can be orthogonalized; put vectors into a group with"
                    " orthogonalize=false (groups.vectors: {ndim: 1, orthogonalize: false, lr: …})"
                )

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        for group in self.param_groups:  # older checkpoints
            group.setdefault("pad", False)
            group.setdefault("step", 0)

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            params = [p for p in group["params"] if p.grad is not None]
            if params:
                self._step(group, params)
            group["step"] += 1
        return loss

    def _step(self, group: dict[str, Any], params: list[Tensor]) -> None:
        lr, momentum, decay = group["lr"], group["momentum"], group["weight_decay"]
        gradients = [p.grad for p in params if p.grad is not None]
        if decay and not group["orthogonalize"]:
            gradients = list(torch._foreach_add(gradients, params, alpha=decay))
        for p in params:
            if "momentum_buffer" not in self.state[p]:
                self.state[p]["momentum_buffer"] = torch.zeros_like(p)
        buffers = [self.state[p]["momentum_buffer"] for p in params]
        torch._foreach_mul_(buffers, momentum)
        torch._foreach_add_(buffers, gradients)
        steps = torch._foreach_add(gradients, buffers, alpha=momentum) if group["nesterov"] else buffers
        if group["orthogonalize"]:
            if group["normalize"] and group["step"] % group["normalize"] == 0:
                torch._foreach_div_(params, torch._foreach_norm(params))
                torch._foreach_mul_(params, [len(p) ** 0.5 for p in params])
            if decay:
                torch._foreach_mul_(params, 1 - lr * decay)
            steps = orthogonalize_all(steps, group["ns_steps"], group["pad"])
        torch._foreach_add_(params, list(steps), alpha=-lr)
