"""Throughput compared with the alternatives, interleaved in one run: medians, spread, ratios within a round.

python -m cnnzoo.bench model=densenet optimizer=adam        training: cnnzoo, the tutorial's pipeline, bare loops
python -m cnnzoo.bench what=augmentation                    augmented batches alone: cnnzoo, PIL, v2 transforms
python -m cnnzoo.bench what=loading image_size=224          batches from memory, a file, JPEG files
python -m cnnzoo.bench what=evaluation model=googlenet      evaluation at several batch sizes
python -m cnnzoo.bench what=memory                          peak memory, each candidate in a fresh process
python -m cnnzoo.bench what=batch_size model=vgg11          throughput and memory at doubled batch sizes
python -m cnnzoo.bench 'contestants=[cnnzoo,tutorial]' rounds=7 steps=50 format=json out=throughput.json

The docstrings of the sections' modules describe what is timed. Use an idle machine: on a busy one the ratios stay
meaningful, the absolute numbers do not.
"""

import contextlib
import json
import logging
import pkgutil
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from cnnzoo.bench.report import markdown
from cnnzoo.config import command
from cnnzoo.config.command import command_line
from cnnzoo.config.schema import BenchConfig
from cnnzoo.console import set_up_logging
from cnnzoo.errors import UserError, nearest
from cnnzoo.io import write_atomically
from cnnzoo.results.provenance import git_commit, versions
from cnnzoo.results.run_folder import now

log = logging.getLogger(__name__)

# Functions of a `Context` that return a section of the result; named, not imported, because they need torch.
Sections = Mapping[str, str | Callable[[Any], dict[str, Any]]]
SECTIONS: Sections = {
    "training": "cnnzoo.bench.training:measure_training",
    "augmentation": "cnnzoo.bench.loading:measure_augmentation",
    "loading": "cnnzoo.bench.loading:measure_loading",
    "evaluation": "cnnzoo.bench.evaluation:measure_evaluation",
    "memory": "cnnzoo.bench.memory:measure_memory",
    "batch_size": "cnnzoo.bench.memory:measure_batch_sizes",
}


@command("bench")
def main(config: BenchConfig) -> None:
    bench(config, SECTIONS, command_line())


def bench(config: BenchConfig, sections: Sections, command: str) -> None:
    """Measure, print the result as `config.format`, and write it to `config.out` as JSON."""
    set_up_logging()
    with contextlib.redirect_stdout(sys.stderr):  # what networks and frameworks print must not get into the JSON
        result = measure(config, sections, command)
    text = json.dumps(result, indent=2) + "\n"
    if config.out is not None:
        write_atomically(Path(config.out), text)
        log.info("written: %s", config.out)
    print(text if config.format == "json" else markdown(result), end="")


def measure(config: BenchConfig, sections: Sections = SECTIONS, command: str | None = None) -> dict[str, Any]:
    """Measure those of the sections that `config.what` names; return them with what is needed to do it again.

    Raises:
        UserError: there is no such section, or a section cannot be measured here.
    """
    choices = [*sections, "all"]
    if config.what not in choices:
        raise UserError(f"what={config.what}: expected one of {', '.join(choices)}.{nearest(config.what, choices)}")
    import torch  # here, because --help and --cfg job do without

    from cnnzoo.bench.context import Context
    from cnnzoo.training.devices import device_name, resolve_precision

    torch.backends.cudnn.benchmark = True  # for all candidates
    context = Context(config)
    started = now()
    measured = {}
    training_log = logging.getLogger("cnnzoo.training")
    level = training_log.level
    training_log.setLevel(logging.WARNING)  # no line for every measured epoch
    try:
        for name in sections if config.what == "all" else [config.what]:
            log.info("%s", name)
            section = sections[name]
            measured[name] = (pkgutil.resolve_name(section) if isinstance(section, str) else section)(context)
    finally:
        training_log.setLevel(level)
    return {
        "what": config.what,
        "model": config.name,
        "dataset": config.dataset.name,
        "images": context.images,
        "batch_size": config.dataset.batch_size,
        "device": device_name(context.device),
        "threads": torch.get_num_threads(),
        "precision": resolve_precision(config.trainer.precision, context.device),
        "rounds": config.rounds,
        "warmup": config.warmup_steps,
        "steps": config.steps,
        "workers": config.workers,
        "command": command,
        "started": started,
        "git_commit": git_commit(),
        "versions": versions(),
        "sections": measured,
    }
