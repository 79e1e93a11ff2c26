"""Evaluation with settings of the memory allocator, on the CPU: images a second, page faults, the kernel's share.

The C library takes the large temporary tensors of large batches from the kernel and returns them each time; every page
of them is then cleared and mapped anew (a minor fault). The settings keep the memory instead (mallopt(3)), or request
larger pages. cnnzoo has `no_mmap`.
"""

import ctypes
import os
import resource
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any
from unittest.mock import patch

import torch

from cnnzoo.bench.context import Context, random_dataset
from cnnzoo.bench.interleave import run_interleaved, section
from cnnzoo.bench.processes import in_fresh_process
from cnnzoo.config.schema import BenchConfig
from cnnzoo.data.loaders import eval_loader
from cnnzoo.nn.build import build_model
from cnnzoo.training.predict import predict

# Parameter numbers of glibc's malloc.h. A threshold for mmap is at most 32 MiB there; M_MMAP_MAX=0 goes beyond.
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_MMAP_MAX = -1, -3, -4
_NO_TRIM = (_M_TRIM_THRESHOLD, 2**31 - 1)

# Parameters of mallopt with their values, and environment variables.
ALLOCATORS: dict[str, tuple[list[tuple[int, int]], dict[str, str]]] = {
    "default": ([], {}),
    "mmap_threshold": ([_NO_TRIM, (_M_MMAP_THRESHOLD, 2**25)], {}),
    "no_mmap": ([_NO_TRIM, (_M_MMAP_MAX, 0)], {}),
    "huge_pages": ([], {"THP_MEM_ALLOC_ENABLE": "1"}),
}


def measure_allocators(context: Context) -> dict[str, Any]:
    """Compare allocators and batch sizes; each pair is a candidate.

    An allocator is set for a whole process, so a measurement is a fresh process that evaluates at all batch sizes.
    """
    config, device = context.config, context.device
    glibc = device.type == "cpu" and sys.platform == "linux"
    allocators = ALLOCATORS if glibc else {"default": ALLOCATORS["default"]}
    processes = {name: partial(evaluate_in_process, config, *settings) for name, settings in allocators.items()}
    values, extras = {}, {}
    for name, results in run_interleaved(processes, config.rounds).items():
        for size in results[0]:
            values[f"{name} {size}"] = [result[size]["rate"] for result in results]
            extras[f"{name} {size}"] = {key: value for key, value in results[-1][size].items() if key != "rate"}
    one_image = random_dataset(config.dataset, train=1, test=1).to(device)
    default_size = eval_loader(one_image, one_image.test, config).batch_size
    result = section("images/s", values, f"default {default_size}")
    for name, extra in extras.items():
        result["contestants"][name] |= extra
    return result


def evaluate_in_process(
    config: BenchConfig, mallopt: Sequence[tuple[int, int]], environment: Mapping[str, str]
) -> dict[str, dict[str, float]]:
    with patch.dict(os.environ, environment):  # the process inherits it
        return in_fresh_process(evaluate_at_batch_sizes, config, mallopt)


def evaluate_at_batch_sizes(config: BenchConfig, mallopt: Sequence[tuple[int, int]]) -> dict[str, dict[str, float]]:
    """Return, for each batch size, images a second of this process, and the work of the kernel for it."""
    set_allocator(mallopt)
    device = Context(config).device
    model = build_model(config).to(device)
    if config.trainer.channels_last:
        model = model.to(memory_format=torch.channels_last)
    dataset = random_dataset(config.dataset, train=1, test=config.eval_images).to(device)
    results = {}
    for size in config.eval_batch_sizes:
        sized = replace(config, dataset=replace(config.dataset, eval_batch_size=size))
        batches = eval_loader(dataset, dataset.test, sized)
        predict(model, batches)  # warms up
        before = resource.getrusage(resource.RUSAGE_SELF)
        seconds = predict(model, batches).seconds
        after = resource.getrusage(resource.RUSAGE_SELF)
        system, user = after.ru_stime - before.ru_stime, after.ru_utime - before.ru_utime
        results[str(size)] = {
            "rate": config.eval_images / seconds,
            "page_faults_per_image": (after.ru_minflt - before.ru_minflt) / config.eval_images,
            "system_time_share": system / max(system + user, 1e-9),
        }
    return results


def set_allocator(mallopt: Sequence[tuple[int, int]]) -> None:
    """Set parameters of the C library's allocator.

    Raises:
        OSError: it refuses one.
    """
    for parameter, value in mallopt:
        if not ctypes.CDLL(None).mallopt(parameter, value):
            raise OSError(f"mallopt({parameter}, {value}) is refused")
