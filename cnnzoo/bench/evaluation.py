"""Evaluation alone: images a second at several batch sizes, in full precision, as in every run."""

from dataclasses import replace
from functools import partial
from typing import Any

import torch

from cnnzoo.bench.context import Context, random_dataset
from cnnzoo.bench.interleave import run_interleaved, section
from cnnzoo.data.loaders import eval_loader
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
    candidates = {}
    for size in config.eval_batch_sizes:
        sized = replace(config, dataset=replace(config.dataset, eval_batch_size=size))
        candidates[str(size)] = partial(predict, model, eval_loader(dataset, dataset.test, sized))
    predictions = run_interleaved(candidates, config.rounds)
    rates = {size: [config.eval_images / each.seconds for each in done] for size, done in predictions.items()}
    return section("images/s", rates, reference=str(eval_loader(dataset, dataset.test, config).batch_size))
