"""Training steps against the batch size: doubled until memory ends or nothing is gained any more.

Each size has a process of its own, so that one that does not fit ends that process and not the search.
"""

import math
from collections.abc import Mapping
from typing import Any

import torch

from cnnzoo.benchmark.dataset import random_dataset
from cnnzoo.benchmark.measure import in_fresh_process, section
from cnnzoo.benchmark.training import Bare
from cnnzoo.data.memory import free as memory_free
from cnnzoo.errors import UserError
from cnnzoo.training.devices import peak_memory, reset_peak_memory, resolve_precision, training_device

_SMALLEST, _LARGEST = 16, 8192


def measure(config: Mapping[str, Any], device: torch.device) -> dict[str, Any]:
    """The section `batch_size`: images a second and peak memory of a bare training step at each size that fits."""
    rates: dict[str, list[float]] = {}
    peaks: dict[str, int] = {}
    size, memory = _SMALLEST, memory_free(device) or math.inf
    while size <= _LARGEST:
        question = {**config, "dataset": {**config["dataset"], "batch_size": size}}
        try:
            answer = in_fresh_process("cnnzoo.benchmark.batch_size:one_size", question)
        except UserError:
            if not rates:
                raise
            break
        rates[str(size)], peaks[str(size)] = [answer["rate"]], answer["peak_memory_bytes"]
        if 2 * answer["peak_memory_bytes"] > memory:  # the next one would not fit
            break
        size *= 2
    result = section("images/s", rates)
    for name, peak in peaks.items():
        result["contestants"][name]["peak_memory_mib"] = peak / 2**20
    result["largest"] = max(map(int, rates))
    return result


def one_size(config: Mapping[str, Any]) -> dict[str, float]:
    """Images a second and peak memory, in bytes, of this process at `config["dataset"]["batch_size"]`."""
    device = training_device(config["trainer"]["accelerator"])
    size = config["dataset"]["batch_size"]
    dataset = random_dataset(config["dataset"], train=size, test=1).to(device)
    reset_peak_memory(device)
    loop = Bare(
        config, dataset, device, channels_last=config["trainer"]["channels_last"],
        precision=resolve_precision(config["trainer"]["precision"], device),
    )  # fmt: skip
    return {"rate": loop().rate, "peak_memory_bytes": peak_memory(device)}
