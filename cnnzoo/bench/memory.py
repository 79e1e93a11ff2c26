"""The sections `memory` and `batch_size`: peak memory, measured in a process of its own for each number.

On CUDA it is what torch has allocated on the device. On the CPU it is the resident set of the process, with Python,
torch and, except in the bare loops, the data set; worker processes are not included.
"""

import math
from dataclasses import replace
from typing import Any

from cnnzoo.bench.context import Context, random_dataset
from cnnzoo.bench.interleave import section
from cnnzoo.bench.processes import in_fresh_process
from cnnzoo.bench.training import CANDIDATES, Bare, candidate_names
from cnnzoo.config.schema import BenchConfig
from cnnzoo.data.memory import free as memory_free
from cnnzoo.errors import UserError
from cnnzoo.training.devices import peak_memory, reset_peak_memory, resolve_precision

_BATCH_SIZES = [2**power for power in range(4, 14)]


def measure_memory(context: Context) -> dict[str, Any]:
    """Compare the peaks of the candidates, each over one measurement."""
    names = candidate_names(context.config.contestants, context.device)
    peaks = {name: [in_fresh_process(peak_of_candidate, context.config, name) / 2**20] for name in names}
    return section("MiB", peaks, "cnnzoo")


def peak_of_candidate(config: BenchConfig, name: str) -> int:
    """Return the peak memory, in bytes, of one measurement of a candidate in this process."""
    context = Context(config)
    candidate = CANDIDATES[name](context)
    del context.dataset
    reset_peak_memory(context.device)
    candidate.measure()
    return peak_memory(context.device)


def measure_batch_sizes(context: Context) -> dict[str, Any]:
    """Measure a bare training step, once at each of the doubled batch sizes that fit into memory."""
    config, available = context.config, memory_free(context.device) or math.inf
    points: dict[int, tuple[float, int]] = {}
    for size in _BATCH_SIZES:
        sized = replace(config, dataset=replace(config.dataset, batch_size=size))
        try:
            points[size] = in_fresh_process(train_bare, sized)
        except UserError:
            if not points:
                raise
            break
        if 2 * points[size][1] > available:  # the next size would not fit
            break
    result = section("images/s", {str(size): [rate] for size, (rate, _) in points.items()})
    for size, (_, peak) in points.items():
        result["contestants"][str(size)]["peak_memory_mib"] = peak / 2**20
    return result | {"largest": max(points)}


def train_bare(config: BenchConfig) -> tuple[float, int]:
    """Train the shortest loop on a single batch in this process; return images a second and peak memory in bytes."""
    context = Context(config, random_dataset(config.dataset, train=config.dataset.batch_size, test=1))
    reset_peak_memory(context.device)
    precision = resolve_precision(config.trainer.precision, context.device)
    loop = Bare(context, precision, config.trainer.channels_last)
    return loop.measure(), peak_memory(context.device)
