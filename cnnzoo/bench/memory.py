"""Peak memory, measured in a process of its own for each number.

On CUDA it is what torch has allocated on the device. On the CPU it is the resident set of the process, with Python,
torch and, except in the bare loops, the data set; worker processes are not included.
"""

import math
import multiprocessing
import sys
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from typing import Any, TypeVar

from cnnzoo.bench.context import Context, random_dataset
from cnnzoo.bench.interleave import section
from cnnzoo.bench.training import CANDIDATES, Bare, candidate_names
from cnnzoo.config.schema import BenchConfig
from cnnzoo.data.memory import free as memory_free
from cnnzoo.errors import UserError
from cnnzoo.training.devices import peak_memory, reset_peak_memory, resolve_precision

T = TypeVar("T")
_BATCH_SIZES = [2**power for power in range(4, 14)]


def measure_memory(context: Context) -> dict[str, Any]:
    """Compare peak bytes of the candidates, each over one measurement."""
    names = candidate_names(context.config.contestants, context.device)
    peaks = {name: [in_fresh_process(peak_of_candidate, context.config, name)] for name in names}
    return section("bytes", peaks, "cnnzoo")


def peak_of_candidate(config: BenchConfig, name: str) -> int:
    """Return the peak memory, in bytes, of one measurement of a candidate in this process."""
    context = Context(config)
    candidate = CANDIDATES[name](context)
    del context.dataset
    reset_peak_memory(context.device)
    candidate.measure()
    return peak_memory(context.device)


def measure_batch_sizes(context: Context) -> dict[str, Any]:
    """Measure a bare training step at doubled batch sizes, until one does not fit into memory.

    Each is measured once, so small differences mean nothing.
    """
    config, available = context.config, memory_free(context.device) or math.inf
    rates: dict[str, list[float]] = {}
    peaks: dict[str, int] = {}
    for size in map(str, _BATCH_SIZES):
        sized = replace(config, dataset=replace(config.dataset, batch_size=int(size)))
        try:
            rate, peaks[size] = in_fresh_process(train_bare, sized)
        except UserError:
            if not rates:
                raise
            break
        rates[size] = [rate]
        if 2 * peaks[size] > available:  # the next size would not fit
            break
    result = section("images/s", rates) | {"largest": max(map(int, rates))}
    for size, peak in peaks.items():
        result["contestants"][size]["peak_memory_mib"] = peak / 2**20
    return result


def train_bare(config: BenchConfig) -> tuple[float, int]:
    """Train the shortest loop on a single batch in this process; return images a second and peak memory in bytes."""
    context = Context(config, random_dataset(config.dataset, train=config.dataset.batch_size, test=1))
    reset_peak_memory(context.device)
    precision = resolve_precision(config.trainer.precision, context.device)
    loop = Bare(context, precision, config.trainer.channels_last)
    return loop.measure().rate, peak_memory(context.device)


def in_fresh_process(function: Callable[..., T], *args: object) -> T:
    """Return `function(*args)`, called in a process of its own. What it prints goes to stderr.

    Raises:
        UserError: the call failed, or the process died.
    """
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn"), print_to_stderr) as process:
        try:
            return process.submit(function, *args).result()
        except Exception as error:
            raise UserError(f"{function.__name__} failed in its process: {type(error).__name__}: {error}") from error


def print_to_stderr() -> None:
    """Keep what libraries print in this process out of the result on stdout."""
    sys.stdout = sys.stderr
