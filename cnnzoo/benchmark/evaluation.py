"""Evaluation alone: images a second at several batch sizes and, on the CPU, settings of the memory allocator.

Evaluation is full precision, as always here. On the CPU the large temporary tensors of large batches are memory that
the C library takes from the kernel and gives back each time; every page of it is then cleared and mapped anew (a minor
fault). The settings keep the memory instead (mallopt(3)), or ask for larger pages.
"""

import ctypes
import resource
import sys
import time
from collections.abc import Mapping
from typing import Any

import torch
from omegaconf import OmegaConf

from cnnzoo.benchmark.dataset import random_dataset
from cnnzoo.benchmark.measure import Turn, in_fresh_process, section, take_turns
from cnnzoo.data.module import eval_batches
from cnnzoo.models.build import build_model
from cnnzoo.training.devices import synchronize, training_device
from cnnzoo.training.predict import predict

# Parameter numbers of glibc's malloc.h. A threshold for mmap is at most 32 MiB there; M_MMAP_MAX=0 goes beyond.
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_MMAP_MAX = -1, -3, -4
_KEEP = (_M_TRIM_THRESHOLD, 2**31 - 1)

ALLOCATORS: dict[str, dict[str, Any]] = {
    "default": {},
    "mmap_threshold": {"mallopt": [_KEEP, (_M_MMAP_THRESHOLD, 2**25)]},
    "no_mmap": {"mallopt": [_KEEP, (_M_MMAP_MAX, 0)]},
    "huge_pages": {"environment": {"THP_MEM_ALLOC_ENABLE": "1"}},
}


def measure(config: Mapping[str, Any], device: torch.device) -> dict[str, Any]:
    """The section `evaluation`; a contestant is an allocator's setting with a batch size.

    A turn is a fresh process that goes through all batch sizes, for the settings are a process's.
    """
    glibc = device.type == "cpu" and sys.platform == "linux"
    settings = ALLOCATORS if glibc else {"default": ALLOCATORS["default"]}

    def contestant(setting: Mapping[str, Any]) -> dict[str, dict[str, float]]:
        question = {"config": config, "mallopt": setting.get("mallopt", [])}
        return in_fresh_process("cnnzoo.benchmark.evaluation:sweep", question, setting.get("environment"))

    turns = take_turns({name: lambda s=s: contestant(s) for name, s in settings.items()}, config["rounds"])  # type: ignore[misc]
    rates, extras = {}, {}
    for name, done in turns.items():
        for size in done[0]:
            rates[f"{name} {size}"] = [turn[size]["rate"] for turn in done[1:]]
            extras[f"{name} {size}"] = {key: value for key, value in done[-1][size].items() if key != "rate"}
    one = random_dataset(config["dataset"], train=1, test=1).to(device)
    result = section("images/s", rates, f"default {eval_batches(one, one.test, config).batch_size}")
    for name, values in extras.items():
        result["contestants"][name] |= values
    return result


def sweep(question: Mapping[str, Any]) -> dict[str, dict[str, float]]:
    """This process's figures for each batch size: images a second, and what the kernel had to do for it."""
    for parameter, value in question["mallopt"]:
        if not ctypes.CDLL(None).mallopt(parameter, value):
            raise OSError(f"mallopt({parameter}, {value}) is refused")
    config = question["config"]
    device = training_device(config["trainer"]["accelerator"])
    model = build_model(OmegaConf.create(dict(config))).to(device)
    if config["trainer"]["channels_last"]:
        model = model.to(memory_format=torch.channels_last)
    images = config["eval_images"]
    dataset = random_dataset(config["dataset"], train=1, test=images).to(device)
    answer = {}
    for size in config["eval_batch_sizes"]:
        batches = eval_batches(
            dataset, dataset.test, {**config, "dataset": {**config["dataset"], "eval_batch_size": size}}
        )
        predict(model, batches)  # warms up
        synchronize(device)
        before, begin = resource.getrusage(resource.RUSAGE_SELF), time.perf_counter()
        predict(model, batches)  # ends with a copy to the CPU: nothing is left to wait for
        turn, after = Turn(images, time.perf_counter() - begin), resource.getrusage(resource.RUSAGE_SELF)
        system, user = after.ru_stime - before.ru_stime, after.ru_utime - before.ru_utime
        answer[str(size)] = {
            "rate": turn.rate,
            "page_faults_per_image": (after.ru_minflt - before.ru_minflt) / images,
            "system_time_share": system / max(system + user, 1e-9),
        }
    return answer
