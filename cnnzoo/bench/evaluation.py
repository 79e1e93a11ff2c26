"""Evaluation alone: images a second at several batch sizes, in full precision, as in every run."""

from dataclasses import replace
from functools import partial
from typing import Any

import torch

from cnnzoo.bench.context import Context, random_dataset
from cnnzoo.bench.interleave import run_interleaved, section
from cnnzoo.data.batches import BatchLoader
from cnnzoo.data.module import eval_loader
from cnnzoo.nn.build import build_model
from cnnzoo.training.devices import disable_malloc_trim
from cnnzoo.training.predict import predict


def measure_evaluation(context: Context) -> dict[str, Any]:
    """Compare batch sizes, with that of a run as the reference."""
    config, device = context.config, context.device
    disable_malloc_trim()  # as a run does
    model = build_model(config).to(device)
    if config.trainer.channels_last:
        model = model.to(memory_format=torch.channels_last)
    dataset = random_dataset(config.dataset, train=1, test=config.eval_images).to(device)

    def loader(batch_size: int | None) -> BatchLoader:
        sized = replace(config, dataset=replace(config.dataset, eval_batch_size=batch_size))
        return eval_loader(dataset, dataset.test, sized)

    def rate(batches: BatchLoader) -> float:
        return config.eval_images / predict(model, batches).seconds

    candidates = {str(size): partial(rate, loader(size)) for size in config.eval_batch_sizes}
    default = loader(config.dataset.eval_batch_size).batch_size
    return section("images/s", run_interleaved(candidates, config.rounds), str(default))
