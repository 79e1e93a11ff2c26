"""How speed and memory grow: with the images' size, the data set's, the number of devices, and the sweep's.

Every point has a process of its own; one point a figure, so small differences mean nothing. The network is compiled
only where the configuration says `true`, for `auto` would compile it at some of the points.
"""

import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from omegaconf import OmegaConf

from cnnzoo.benchmark.dataset import random_dataset
from cnnzoo.benchmark.measure import in_fresh_process, run_python, section
from cnnzoo.benchmark.training import Cnnzoo
from cnnzoo.config import compose, to_plain
from cnnzoo.data.dataset import Dataset
from cnnzoo.errors import UserError
from cnnzoo.models.build import build_model
from cnnzoo.results import record
from cnnzoo.training.devices import peak_memory, reset_peak_memory, training_device
from cnnzoo.training.fit import fit


def image_sizes(config: Mapping[str, Any]) -> dict[str, Any]:
    """The section `image_size`: training images a second and peak memory at each side of the images, in pixels."""
    answers = {
        str(size): in_fresh_process(
            f"{__name__}:one_training",
            {**config, "image_size": size, "dataset": {**config["dataset"], "image_size": size}},
        )
        for size in config["image_sizes"]
    }
    return _with_memory(answers)


def dataset_sizes(config: Mapping[str, Any]) -> dict[str, Any]:
    """The section `dataset_size`: the same at each number of training images, and memory without the images."""
    answers = {
        str(count): in_fresh_process(f"{__name__}:one_training", {**config, "train_images": count})
        for count in config["dataset_sizes"]
    }
    return _with_memory(answers)


def one_training(config: Mapping[str, Any]) -> dict[str, float]:
    """A turn of cnnzoo's training on random images in this process: its rate, and memory in bytes."""
    device = training_device(config["trainer"]["accelerator"])
    least = config["dataset"]["batch_size"] * (config["warmup"] + config["steps"])
    dataset = random_dataset(config["dataset"], train=max(config.get("train_images", 0), least), test=16)
    contestant = Cnnzoo(config, dataset, device, compile=config["trainer"]["compile"] is True)
    reset_peak_memory(device)
    turn = contestant()
    return {"rate": turn.rate, "peak": peak_memory(device), "data": dataset.train.nbytes}


def _with_memory(answers: Mapping[str, Mapping[str, float]]) -> dict[str, Any]:
    result = section("images/s", {name: [answer["rate"]] for name, answer in answers.items()})
    for name, answer in answers.items():
        result["contestants"][name]["peak_memory_mib"] = answer["peak"] / 2**20
        result["contestants"][name]["without_images_mib"] = (answer["peak"] - answer["data"]) / 2**20
    return result


def devices(config: Mapping[str, Any], device: torch.device) -> dict[str, Any]:
    """The section `devices`: images a second of one run over 1, 2, … devices; on the CPU, over 1 and 2 processes."""
    there_are = torch.cuda.device_count() if device.type == "cuda" else 2
    counts = [count for count in (1, 2, 4, 8, 16) if count <= there_are]
    rates = {str(count): [in_fresh_process(f"{__name__}:one_run", {**config, "over": count})] for count in counts}
    return section("images/s", rates)


def one_run(config: Mapping[str, Any]) -> float:
    """Images a second of the second of two epochs over `config["over"]` devices; starting up is in the first."""
    steps = config["warmup"] + config["steps"]
    shortened = {
        **{"devices": config["over"], "max_epochs": 3, "limit_train_batches": steps, "limit_val_batches": 1},
        **{"check_val_every_n_epoch": 1, "progress_bar": False},
    }
    config = {**config, "trainer": {**config["trainer"], **shortened}}
    dataset: Dataset = random_dataset(config["dataset"], train=config["dataset"]["batch_size"] * steps, test=16)
    torch.manual_seed(config["seed"])
    model = build_model(OmegaConf.create(dict(config)))
    with tempfile.TemporaryDirectory(prefix="cnnzoo-bench-") as folder:
        return fit(model, dataset, config, Path(folder)).images_per_second


def sweep_sizes(config: Mapping[str, Any], overrides: Sequence[str]) -> dict[str, Any]:
    """The section `sweep_size`: seconds until a sweep has skipped so many finished runs, start-up included."""
    seconds: dict[str, list[float]] = {}
    sizes = sorted(set(config["sweep_sizes"]))
    with tempfile.TemporaryDirectory(prefix="cnnzoo-bench-") as outputs:
        settings = [*overrides, f"paths.outputs={outputs}"]
        in_fresh_process(f"{__name__}:pretend", {"overrides": settings, "count": sizes[-1]})
        for count in sizes:
            begin = time.perf_counter()
            run_python(["-m", "cnnzoo.run", "-m", *settings, f"seed=range(0,{count})"])
            seconds[str(count)] = [time.perf_counter() - begin]
        if list(Path(outputs).rglob("metrics.csv")):
            raise UserError("a run that counted as finished was run again: the figures would be of that.")
    result = section("s", seconds)
    if len(sizes) > 1:
        more = seconds[str(sizes[-1])][0] - seconds[str(sizes[0])][0]
        result["seconds_per_skipped_run"] = more / (sizes[-1] - sizes[0])
    return result


def pretend(question: Mapping[str, Any]) -> None:
    """Writes what makes `question["count"]` seeds of a run count as finished."""
    run = to_plain(compose(question["overrides"]))
    for seed in range(question["count"]):
        record.write_result(record.run_folder({**run, "seed": seed}), {"status": "completed", "val_accuracy": 0.0})
