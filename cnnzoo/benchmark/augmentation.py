"""Augmented, normalised training batches alone: images a second without any network.

Ours goes through a whole epoch each turn, from the draw of its order to the last batch. The workers of the others are
running and have their queues full before the clock starts.
"""

import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch

from cnnzoo.benchmark.loaders import PREFETCH, pil_loader, v2_loader
from cnnzoo.benchmark.measure import Turn, section, take_turns
from cnnzoo.data.dataset import Dataset
from cnnzoo.data.module import train_batches
from cnnzoo.training.devices import synchronize


def measure(config: Mapping[str, Any], dataset: Dataset, device: torch.device) -> dict[str, Any]:
    """The section `augmentation`: cnnzoo, PIL and v2 transforms in `config["workers"]` workers."""
    resident = dataset.to(device)
    waiting = config["workers"] * PREFETCH
    steps, skip = config["steps"], max(config["warmup"], waiting)
    batches = skip + steps + waiting
    contestants: dict[str, Callable[[], Turn]] = {
        "cnnzoo": lambda: drain(train_batches(resident, config), device),
        "PIL in workers": timed(pil_loader(dataset, config, batches), skip, steps),
        "v2 in workers": timed(v2_loader(dataset, config, batches), skip, steps),
    }
    turns = take_turns(contestants, config["rounds"])
    rates = {name: [turn.rate for turn in done[1:]] for name, done in turns.items()}
    return section("images/s", rates, "cnnzoo")


def drain(batches: Iterable[tuple[torch.Tensor, torch.Tensor]], device: torch.device) -> Turn:
    synchronize(device)
    begin = time.perf_counter()
    images = sum(len(labels) for _, labels in batches)
    synchronize(device)
    return Turn(images, time.perf_counter() - begin)


def timed(loader: Any, skip: int, steps: int) -> Callable[[], Turn]:
    """Times `steps` batches after the first `skip`; the rest is fetched so that no worker is busy after the turn."""

    def turn() -> Turn:
        images, begin, end = 0, 0.0, 0.0
        for i, (_, labels) in enumerate(loader):
            if i >= skip and i < skip + steps:
                images += len(labels)
            if i == skip - 1:
                begin = time.perf_counter()
            elif i == skip + steps - 1:
                end = time.perf_counter()
        return Turn(images, end - begin)

    return turn
