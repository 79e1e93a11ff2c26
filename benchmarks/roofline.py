"""What this device could do: how fast it multiplies and copies, and what share of that a training step reaches.

Training costs three times the forward pass: forward, the gradient of the inputs, the gradient of the weights; two
operations (FLOPs) a multiply–accumulate. The bytes are those of every operation's inputs and outputs in an eager
training step, so they hold for code that fuses no operations and reuses no caches.
"""

import logging
import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from cnnzoo.bench.context import Context
from cnnzoo.bench.training import Bare, measure_training
from cnnzoo.nn.build import build_model, input_shape
from cnnzoo.nn.profile import macs
from cnnzoo.training.devices import synchronize

log = logging.getLogger(__name__)

_MATRIX_SIDE = {"cpu": 2048, "cuda": 8192}  # large enough for the highest rate
_COPY_BYTES = {"cpu": 2**28, "cuda": 2**31}  # far beyond the caches


def measure_roofline(context: Context) -> dict[str, Any]:
    """Measure the section `training`, and the share of the device's rates that each candidate reaches."""
    result = measure_training(context)
    peaks, costs = device_rates(context.device), step_costs(context)
    for entry in result["contestants"].values():
        dtype = "fp32" if entry["precision"] == "32-true" else "bf16"
        flops, copied = (entry["median"] * costs[key] for key in ("flops_per_image", f"{dtype}_bytes_per_image"))
        entry["fraction_of_matmul_peak"] = flops / peaks[f"{dtype}_flops_per_second"]
        entry["fraction_of_copy_peak"] = copied / peaks["copy_bytes_per_second"]
    result["roofline"] = peaks | costs
    log.info("%s", describe(result["roofline"]))
    return result


def describe(rates: Mapping[str, float]) -> str:
    return (
        f"The device multiplies matrices at {rates['fp32_flops_per_second'] / 1e12:.3g} (fp32) and"
        f" {rates['bf16_flops_per_second'] / 1e12:.3g} (bf16) TFLOP/s and copies"
        f" {rates['copy_bytes_per_second'] / 1e9:.3g} GB/s. An eager training step takes"
        f" {rates['flops_per_image'] / 1e6:,.0f} MFLOP and moves {rates['fp32_bytes_per_image'] / 1e6:,.1f} (fp32) or"
        f" {rates['bf16_bytes_per_image'] / 1e6:,.1f} (bf16) MB per image."
    )


def step_costs(context: Context) -> dict[str, float]:
    """Return FLOPs and bytes of an eager training step per image."""
    config = context.config
    costs: dict[str, float] = {"flops_per_image": 2 * 3 * macs(build_model(config), input_shape(config))}
    for name, precision in (("fp32", "32-true"), ("bf16", "bf16-mixed")):
        loop = Bare(context, precision, channels_last=True)
        images, labels = loop.batches[0]
        loop.step(images, labels)  # the optimizer creates its state
        with CountBytes() as counter:
            loop.step(images, labels)
        costs[f"{name}_bytes_per_image"] = counter.total / len(labels)
    return costs


def device_rates(device: torch.device, tries: int = 5) -> dict[str, float]:
    """Return FLOPs a second of square matrix products in fp32 and bf16, and bytes a second of a copy.

    The best of `tries`. A copied byte is read and written: it counts twice.
    """
    side = _MATRIX_SIDE[device.type]
    rates = {}
    for name, dtype in (("fp32", torch.float32), ("bf16", torch.bfloat16)):
        a, b = (torch.randn(side, side, device=device).to(dtype) for _ in range(2))
        seconds = _best_seconds(partial(torch.mm, a, b, out=torch.empty_like(a)), device, tries)
        rates[f"{name}_flops_per_second"] = 2 * side**3 / seconds
    source = torch.ones(_COPY_BYTES[device.type], dtype=torch.uint8, device=device)
    seconds = _best_seconds(partial(torch.ones_like(source).copy_, source), device, tries)
    rates["copy_bytes_per_second"] = 2 * len(source) / seconds
    return rates


def _best_seconds(work: Callable[[], object], device: torch.device, tries: int) -> float:
    seconds = []
    for _ in range(tries + 1):  # the first warms up
        synchronize(device)
        begin = time.perf_counter()
        work()
        synchronize(device)
        seconds.append(time.perf_counter() - begin)
    return min(seconds[1:])


class CountBytes(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Sum the bytes of the tensors that operations read and write; views cost nothing.

    torch documents its base class in the developer notes only.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.total = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if not func.is_view:
            tensors = [leaf for leaf in tree_leaves((args, kwargs, result)) if isinstance(leaf, Tensor)]
            self.total += sum(tensor.numel() * tensor.element_size() for tensor in tensors)
        return result
