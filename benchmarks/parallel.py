"""Several runs at once on one device: the images that they train together in a second, compared with a single run.

Each run is `cnnzoo.run`'s own training in a process of its own, as `hydra/launcher=joblib` starts them; on the CPU they
share the threads. The clock, which all processes of Linux share, starts with the first timed step of any of them and
stops with the last one of all. On NVIDIA GPUs processes are time-sliced unless the Multi-Process Service runs
(`nvidia-cuda-mps-control -d`): measure with it and without.
"""

import multiprocessing
import statistics
import subprocess
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from functools import partial
from typing import Any

import torch

from cnnzoo.bench.context import Context, random_dataset
from cnnzoo.bench.interleave import run_interleaved, section
from cnnzoo.bench.processes import keep_quiet
from cnnzoo.bench.training import Cnnzoo, Stopwatch
from cnnzoo.config.schema import BenchConfig

_candidate: Cnnzoo  # of a process that trains, see `prepare`


def measure_parallel_runs(context: Context, counts: Sequence[int]) -> dict[str, Any]:
    """Measure images a second of so many runs at once, and the gain over the smallest number; `counts` ascend."""
    config = context.config
    images, threads = config.steps * config.dataset.batch_size, torch.get_num_threads()
    with ExitStack() as stack:
        spawn = multiprocessing.get_context("spawn")
        processes = [stack.enter_context(ProcessPoolExecutor(1, spawn, keep_quiet)) for _ in range(counts[-1])]

        def measure(count: int) -> float:
            training = [process.submit(train, max(1, threads // count)) for process in processes[:count]]
            begins, ends = zip(*(future.result() for future in training), strict=True)
            return float(count * images / (max(ends) - min(begins)))

        for ready in [process.submit(prepare, config) for process in processes]:
            ready.result()
        rates = run_interleaved({str(count): partial(measure, count) for count in counts}, config.rounds)
    result = section("images/s", rates)
    smallest = rates[str(counts[0])]
    for name, entry in result["contestants"].items():
        entry["gain"] = statistics.median(own / first for own, first in zip(rates[name], smallest, strict=True))
    result["multi_process_service"] = _mps_is_running() if context.device.type == "cuda" else None
    return result


def prepare(config: BenchConfig) -> None:
    """Build the network and the images of this process, which `train` then uses."""
    global _candidate
    images = config.dataset.batch_size * (config.warmup_steps + config.steps + 1)
    context = Context(config, random_dataset(config.dataset, train=images, test=16))
    _candidate = Cnnzoo(context, compile=config.trainer.compile is True)


def train(threads: int) -> tuple[float, float]:
    """Train with so many threads; return when the timed steps began and ended."""
    torch.set_num_threads(threads)
    stopwatch = Stopwatch(_candidate.config, _candidate.device)
    _candidate.train(stopwatch)
    return stopwatch.times[stopwatch.begin], stopwatch.times[stopwatch.end]


def _mps_is_running() -> bool:
    found = subprocess.run(["pgrep", "-f", "nvidia-cuda-mps-control"], capture_output=True, check=False)
    return found.returncode == 0
