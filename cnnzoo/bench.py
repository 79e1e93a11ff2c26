"""Throughput beside the alternatives: contestants take turns in one run; medians, spread, ratios within a round.

python -m cnnzoo.bench model=densenet optimizer=adam                 training, beside the tutorial's and bare loops
python -m cnnzoo.bench model=resnet 'contestants=[cnnzoo,tutorial]' rounds=7 steps=50
python -m cnnzoo.bench what=augmentation                             batches alone, beside PIL and v2 transforms
python -m cnnzoo.bench what=loading image_size=224                   from memory, from a file, from JPEG files
python -m cnnzoo.bench what=evaluation model=googlenet               batch sizes and allocator settings
python -m cnnzoo.bench what=startup                                  commands, beside `import torch`
python -m cnnzoo.bench what=memory                                   peak memory, a fresh process each
python -m cnnzoo.bench what=batch_size model=vgg11                   throughput and memory at doubled batch sizes
python -m cnnzoo.bench what=parallel parallel=[1,2,4,8]               several runs at once on one device
python -m cnnzoo.bench what=image_size|dataset_size|devices|sweep_size   how speed and memory grow
python -m cnnzoo.bench what=all format=json out=benchmarks/results/throughput-cpu.json

What is timed and what is not stands at the head of each module of `cnnzoo.benchmark`. Use a machine that does nothing
else: on a busy one the ratios stay meaningful, the figures do not.
"""

import contextlib
import dataclasses
import json
import logging
import re
import shlex
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig
from tabulate import tabulate

from cnnzoo.config import command, to_plain
from cnnzoo.config.schema import Bench, Root
from cnnzoo.console import set_up_logging
from cnnzoo.errors import UserError, nearest
from cnnzoo.results import record

log = logging.getLogger("cnnzoo.bench")

WHAT = (
    *("training", "augmentation", "loading", "evaluation", "startup", "memory", "batch_size"),
    *("parallel", "image_size", "dataset_size", "devices", "sweep_size"),
)
FORMATS = ("md", "json")


@command("bench")
def main(cfg: DictConfig) -> None:
    set_up_logging()
    overrides = list(HydraConfig.get().overrides.task)
    config = to_plain(cfg)
    check(config)
    with contextlib.redirect_stdout(sys.stderr):  # what networks and frameworks say must not get into the JSON
        result = bench(config, overrides)
    text = json.dumps(result, indent=2) + "\n"
    if config["out"] is not None:
        record.write_atomically(Path(config["out"]), text)
        log.info("written: %s", config["out"])
    print(text if config["format"] == "json" else markdown(result), end="")


def check(config: Mapping[str, Any]) -> None:
    """Raises UserError for values that no benchmark can have."""
    for key, choices in (("what", (*WHAT, "all")), ("format", FORMATS), ("images", ("auto", "random"))):
        if config[key] not in choices:
            raise UserError(
                f"{key}={config[key]}: expected one of {', '.join(choices)}.{nearest(str(config[key]), choices)}"
            )
    for key, least in (("rounds", 1), ("warmup", 1), ("steps", 1), ("workers", 0), ("eval_images", 1)):
        if config[key] < least:
            raise UserError(f"{key}={config[key]}: expected at least {least}.")
    for key in ("eval_batch_sizes", "parallel", "image_sizes", "dataset_sizes", "sweep_sizes"):
        if not config[key] or min(config[key]) < 1:
            raise UserError(f"{key}={config[key]}: expected a list of positive numbers.")


def bench(config: Mapping[str, Any], overrides: Sequence[str]) -> dict[str, Any]:
    """All that `config["what"]` asks for, with what is needed to repeat it."""
    import torch  # here, for --help and --cfg job do without

    from cnnzoo.benchmark import augmentation, batch_size, evaluation, loading, parallel, scaling, startup, training
    from cnnzoo.benchmark.dataset import images_of
    from cnnzoo.training.devices import device_name, resolve_precision, training_device

    logging.getLogger("cnnzoo.training").setLevel(logging.WARNING)  # an epoch a turn would be told of
    device = training_device(config["trainer"]["accelerator"])
    torch.backends.cudnn.benchmark = True  # for everybody
    wanted = WHAT if config["what"] == "all" else (config["what"],)
    dataset, images = (
        images_of(config) if {"training", "augmentation", "loading"} & set(wanted) else (None, config["images"])
    )
    result = {
        "what": config["what"],
        "model": config["name"],
        "dataset": config["dataset"]["name"],
        "images": images,
        "batch_size": config["dataset"]["batch_size"],
        "device": device_name(device),
        "threads": torch.get_num_threads(),
        "precision": resolve_precision(config["trainer"]["precision"], device),
        "rounds": config["rounds"],
        "warmup": config["warmup"],
        "steps": config["steps"],
        "workers": config["workers"],
        "command": "python -m cnnzoo.bench " + shlex.join(overrides),
        "started": record.now(),
        "git_commit": record.git_commit(),
        "versions": record.versions(),
        "sections": {},
    }
    for what in wanted:
        log.info("%s", what)
        if what == "training":
            assert dataset is not None
            result["sections"][what] = training.measure(config, dataset, device)
        elif what == "augmentation":
            assert dataset is not None
            result["sections"][what] = augmentation.measure(config, dataset, device)
        elif what == "loading":
            assert dataset is not None
            result["sections"][what] = loading.measure(config, dataset, device)
        elif what == "evaluation":
            result["sections"][what] = evaluation.measure(config, device)
        elif what == "startup":
            result["sections"][what] = startup.measure(of_run(overrides), config["rounds"])
        elif what == "batch_size":
            result["sections"][what] = batch_size.measure(config, device)
        elif what == "parallel":
            result["sections"][what] = parallel.measure(config, device)
        elif what == "image_size":
            result["sections"][what] = scaling.image_sizes(config)
        elif what == "dataset_size":
            result["sections"][what] = scaling.dataset_sizes(config)
        elif what == "devices":
            result["sections"][what] = scaling.devices(config, device)
        elif what == "sweep_size":
            result["sections"][what] = scaling.sweep_sizes(config, of_run(overrides))
        else:
            result["sections"][what] = training.measure_memory(config, device)
    return result


def of_run(overrides: Sequence[str]) -> list[str]:
    """Those of the overrides that `cnnzoo.run` knows too."""
    own = {f.name for f in dataclasses.fields(Bench)} - {f.name for f in dataclasses.fields(Root)} | {"format"}
    return [o for o in overrides if re.split(r"[.=@]", o.lstrip("+~"), maxsplit=1)[0] not in own]


def markdown(result: Mapping[str, Any]) -> str:
    """Tables for people; the JSON holds every round."""
    images = "" if result["images"] != "random" else ", random images"
    lines = [
        f"{result['model']} on {result['dataset']}{images}: {result['device']}, {result['precision']}, batch"
        f" {result['batch_size']}; {result['rounds']} rounds of {result['steps']} steps, median (min–max)",
    ]
    for what, part in result["sections"].items():
        lines += ["", f"**{what}**, {'MiB' if part['unit'] == 'bytes' else part['unit']}", "", _table(part)]
        if "roofline" in part:
            lines += ["", _roofline(part["roofline"])]
    return "\n".join([*lines, "", f"`{result['command']}` at {result['git_commit']}", ""])


def _table(part: Mapping[str, Any]) -> str:
    extras = [key for key in next(iter(part["contestants"].values())) if key not in ("median", "min", "max", "rounds")]
    reference = part.get("reference")
    headers = ["", part["unit"].replace("bytes", "MiB"), *([f"{reference} ÷ it"] if reference else [])]
    rows = []
    for name, entry in part["contestants"].items():
        row = [name, _with_spread(entry, part["unit"])]
        if reference:
            row.append("1" if name == reference else _with_spread(part["ratios"][name], "ratio"))
        rows.append(row + [_number(entry[key], "ratio") for key in extras])
    return tabulate(rows, [*headers, *(key.replace("_", " ") for key in extras)], "pipe", disable_numparse=True)


def _with_spread(figures: Mapping[str, Any], unit: str) -> str:
    return f"{_number(figures['median'], unit)} ({_number(figures['min'], unit)}–{_number(figures['max'], unit)})"


def _number(value: Any, unit: str) -> str:
    if isinstance(value, str):
        return value
    match unit:
        case "images/s":
            return f"{value:,.0f}"
        case "bytes":
            return f"{value / 2**20:,.0f}"
        case "s":
            return f"{value:.3f}"
        case _:
            return f"{value:.3g}"


def _roofline(figures: Mapping[str, float]) -> str:
    return (
        f"The device multiplies at {figures['fp32_flops_per_second'] / 1e12:.3g} (fp32) and"
        f" {figures['bf16_flops_per_second'] / 1e12:.3g} (bf16) TFLOP/s and copies"
        f" {figures['copy_bytes_per_second'] / 1e9:.3g} GB/s; an image costs {figures['flops_per_image'] / 1e6:,.0f}"
        f" MFLOP and {figures['fp32_bytes_per_image'] / 1e6:,.1f} (fp32) or"
        f" {figures['bf16_bytes_per_image'] / 1e6:,.1f} (bf16) MB in an eager step."
    )


if __name__ == "__main__":
    main()
