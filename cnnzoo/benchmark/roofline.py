"""How fast this device multiplies and copies, and how fast a network could train if nothing else took time.

Training costs three times the forward pass: forward, the gradient of the inputs, the gradient of the weights; two
operations (FLOPs) a multiply–accumulate. The bytes are those of every operation's inputs and outputs in an eager
training step, so they hold for code that fuses nothing and keeps nothing in caches.
"""

import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from cnnzoo.training.devices import synchronize

_MATRIX = {"cpu": 2048, "cuda": 8192}  # side, large enough for the highest rate
_COPY_BYTES = {"cpu": 2**28, "cuda": 2**31}  # far beyond the caches


def device_rates(device: torch.device, tries: int = 5) -> dict[str, float]:
    """FLOPs a second of square matrix products in fp32 and bf16, bytes a second of a copy; the best of `tries`.

    A copied byte is read and written: it counts twice.
    """
    side = _MATRIX[device.type]
    rates = {}
    for name, dtype in (("fp32", torch.float32), ("bf16", torch.bfloat16)):
        a, b = (torch.randn(side, side, device=device).to(dtype) for _ in range(2))
        out = torch.empty_like(a)
        rates[f"{name}_flops_per_second"] = 2 * side**3 / _best_seconds(lambda: torch.mm(a, b, out=out), device, tries)  # noqa: B023
    source = torch.ones(_COPY_BYTES[device.type], dtype=torch.uint8, device=device)
    target = torch.ones_like(source)
    rates["copy_bytes_per_second"] = 2 * len(source) / _best_seconds(lambda: target.copy_(source), device, tries)
    return rates


def _best_seconds(work: Callable[[], Any], device: torch.device, tries: int) -> float:
    seconds = []
    for _ in range(tries + 1):  # the first warms up
        synchronize(device)
        begin = time.perf_counter()
        work()
        synchronize(device)
        seconds.append(time.perf_counter() - begin)
    return min(seconds[1:])


class CountBytes(TorchDispatchMode):
    """Sums the bytes of the tensors that each operation reads and writes; views cost nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.total = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if not func.is_view:
            tensors = [t for t in tree_leaves((args, kwargs, result)) if isinstance(t, Tensor)]
            self.total += sum(t.numel() * t.element_size() for t in tensors)
        return result
