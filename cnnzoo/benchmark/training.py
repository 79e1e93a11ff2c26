"""Training steps: the tutorial's pipeline, bare PyTorch loops, and cnnzoo as `cnnzoo.run` runs it.

A turn trains `warmup` steps off the clock and then `steps` on it; the clock stops when the device has done the last
one. Fetching a batch counts, so do the optimizer and whatever a framework does in between. What a run does once or
once an epoch does not: start-up, the draw of an epoch's order and crops, validation, checkpoints.

Doubts go in favour of the alternatives. The tutorial's workers are running and have their queues filled before the
clock starts, and it has no logger, progress bar, checkpoints or validation; the bare loops get a few batches again and
again that lie on the device in the right layout.
"""

import tempfile
import time
from collections.abc import Callable, Mapping
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from omegaconf import OmegaConf
from torch import Tensor, nn

from cnnzoo.benchmark.dataset import images_of
from cnnzoo.benchmark.loaders import PREFETCH, pil_loader
from cnnzoo.benchmark.measure import Turn, in_fresh_process, section, take_turns
from cnnzoo.benchmark.roofline import CountBytes, device_rates
from cnnzoo.data.dataset import Dataset
from cnnzoo.data.module import steps_until, train_batches
from cnnzoo.errors import UserError, nearest
from cnnzoo.models.build import build_model, input_shape
from cnnzoo.models.profile import macs
from cnnzoo.training.devices import (
    compiles,
    peak_memory,
    reset_peak_memory,
    resolve_precision,
    synchronize,
    training_device,
)
from cnnzoo.training.fit import fit
from cnnzoo.training.optimizers import build_optimizer

_READY_BATCHES = 4


class Stopwatch(pl.Callback):
    """Times the first step, from the epoch's start, and `steps` steps after the first `warmup`."""

    def __init__(self, warmup: int, steps: int) -> None:
        self.warmup, self.steps = warmup, steps
        self.started = self.first = self.begin = self.end = 0.0

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.started = self._now(pl_module)

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        done = batch_idx + 1
        if done == 1:
            self.first = self._now(pl_module)
        if done == self.warmup:
            self.begin = self._now(pl_module)
        elif done == self.warmup + self.steps:
            self.end = self._now(pl_module)

    def turn(self, batch_size: int) -> Turn:
        return Turn(self.steps * batch_size, self.end - self.begin, self.first - self.started)

    @staticmethod
    def _now(pl_module: pl.LightningModule) -> float:
        synchronize(pl_module.device)
        return time.perf_counter()


class Contestant:
    """A network, `model`, and a way to train it: calling it takes one turn."""

    precision = "32-true"

    def __init__(self, config: Mapping[str, Any], dataset: Dataset, device: torch.device) -> None:
        self.config, self.device = config, device
        self.warmup, self.steps, self.batch_size = config["warmup"], config["steps"], config["dataset"]["batch_size"]
        torch.manual_seed(config["seed"])
        self.model = build_model(OmegaConf.create(dict(config)))

    def __call__(self) -> Turn:
        raise NotImplementedError


class TutorialModule(pl.LightningModule):
    """The tutorial's LightningModule: loss and accuracy through `self.log`."""

    def __init__(self, model: nn.Module, config: Mapping[str, Any]) -> None:
        super().__init__()
        self.model, self.config = model, config
        self.criterion = nn.CrossEntropyLoss(label_smoothing=config["loss"]["label_smoothing"])

    def configure_optimizers(self) -> Any:
        return build_optimizer(self.model, self.config["optimizer"])

    def training_step(self, batch: tuple[Tensor, Tensor], batch_index: int) -> Tensor:
        images, labels = batch
        loss, logits = loss_and_logits(self.model, self.criterion, images, labels)
        accuracy = (logits.argmax(dim=-1) == labels).float().mean()
        self.log("train_acc", accuracy, on_step=False, on_epoch=True)
        self.log("train_loss", loss)
        return loss


class Tutorial(Contestant):
    """PIL transforms in a DataLoader's workers, Lightning, fp32, default layout."""

    def __init__(self, config: Mapping[str, Any], dataset: Dataset, device: torch.device) -> None:
        super().__init__(config, dataset, device)
        # Trained after the clock has stopped, so that the queue is as full at the end as at the beginning, and no
        # worker is busy in the next contestant's turn.
        self.batches = self.warmup + self.steps + config["workers"] * PREFETCH
        self.loader = pil_loader(dataset, config, self.batches, pin_memory=device.type == "cuda")
        self.module = TutorialModule(self.model, config)

    def __call__(self) -> Turn:
        stopwatch = Stopwatch(self.warmup, self.steps)
        trainer = pl.Trainer(
            accelerator=self.device.type, devices=1, max_epochs=1, callbacks=[stopwatch], logger=False,
            enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
        )  # fmt: skip
        trainer.fit(self.module, self.loader)
        return stopwatch.turn(self.batch_size)


class Cnnzoo(Contestant):
    """`cnnzoo.training.fit.fit` with the run's own settings, on one device, one shortened epoch a turn.

    `compile` says whether the network is compiled; None: as it would be in a run of the configuration's length.
    """

    def __init__(
        self, config: Mapping[str, Any], dataset: Dataset, device: torch.device, compile: bool | None = None
    ) -> None:
        super().__init__(config, dataset, device)
        if compile is None:
            of_epoch = len(train_batches(dataset, config)) // config["trainer"]["accumulate_grad_batches"]
            steps = steps_until(config["trainer"]["max_epochs"], of_epoch)
            compile = compiles(config["trainer"]["compile"], steps, device)
        shortened = {
            **{"devices": 1, "max_epochs": 1, "limit_train_batches": self.warmup + self.steps},
            **{"limit_val_batches": 1, "check_val_every_n_epoch": 1, "progress_bar": False, "compile": compile},
        }
        logger = {**config["logger"], "graph": False}  # off the clock; a compiled network, at its second turn, has none
        self.config = {**config, "trainer": {**config["trainer"], **shortened}, "logger": logger}
        self.dataset = dataset.to(device)
        self.precision = resolve_precision(config["trainer"]["precision"], device)
        there_are = len(train_batches(dataset, config))
        if there_are < self.warmup + self.steps:
            raise UserError(
                f"warmup={self.warmup} steps={self.steps}: an epoch of {config['dataset']['name']} has only {there_are}"
                " batches, and a turn is part of one epoch. Take fewer steps or a smaller dataset.batch_size."
            )

    def __call__(self) -> Turn:
        self.stopwatch = Stopwatch(self.warmup, self.steps)
        with tempfile.TemporaryDirectory(prefix="cnnzoo-bench-") as folder:
            fit(self.model, self.dataset, self.config, Path(folder), [self.stopwatch])
        return self.stopwatch.turn(self.batch_size)


class Bare(Contestant):
    """The shortest loop that trains: ready batches, no metrics, no schedule. `compile_mode` None: eager."""

    def __init__(
        self,
        config: Mapping[str, Any],
        dataset: Dataset,
        device: torch.device,
        *,
        channels_last: bool = False,
        precision: str = "32-true",
        compile_mode: str | None = None,
    ) -> None:
        super().__init__(config, dataset, device)
        self.precision = precision
        layout = torch.channels_last if channels_last else torch.contiguous_format
        self.model = self.model.to(device).to(memory_format=layout).train()
        if compile_mode is not None:
            self.model.compile(mode=compile_mode)
        self.criterion = nn.CrossEntropyLoss(label_smoothing=config["loss"]["label_smoothing"])
        self.optimizer = build_optimizer(self.model, config["optimizer"])
        batches = train_batches(dataset, {**config, "trainer": {**config["trainer"], "channels_last": channels_last}})
        self.batches = [(x.to(device), y.to(device)) for x, y in islice(batches, _READY_BATCHES)]

    def step(self, images: Tensor, labels: Tensor) -> None:
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.precision == "bf16-mixed"):
            loss, _ = loss_and_logits(self.model, self.criterion, images, labels)
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()

    def __call__(self) -> Turn:
        def now() -> float:
            synchronize(self.device)
            return time.perf_counter()

        batches = cycle(self.batches)
        started = now()
        self.step(*next(batches))
        first = now()
        for _ in range(self.warmup - 1):
            self.step(*next(batches))
        begin = now()
        images = 0
        for _ in range(self.steps):
            x, y = next(batches)
            self.step(x, y)
            images += len(y)
        return Turn(images, now() - begin, first - started)


def loss_and_logits(model: nn.Module, criterion: nn.Module, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """What is minimised, auxiliary heads included as cnnzoo's Classifier does, and the main head's logits."""
    output = model(images)
    logits, *auxiliary = output if isinstance(output, tuple) else (output,)
    loss = criterion(logits, labels)
    for head in auxiliary:
        loss = loss + model.auxiliary_weight * criterion(head, labels)
    return loss, logits


Maker = Callable[[Mapping[str, Any], Dataset, torch.device], Contestant]


def makers(device: torch.device) -> dict[str, Maker]:
    """All contestants by name; the bare loops add one thing at a time."""

    def bare(**options: Any) -> Maker:
        return lambda config, dataset, device: Bare(config, dataset, device, **options)

    fastest = {"channels_last": True, "precision": "bf16-mixed"}
    found: dict[str, Maker] = {
        "cnnzoo": Cnnzoo,
        "cnnzoo_eager": lambda config, dataset, device: Cnnzoo(config, dataset, device, compile=False),
        "cnnzoo_compiled": lambda config, dataset, device: Cnnzoo(config, dataset, device, compile=True),
        "tutorial": Tutorial,
        "bare_fp32": bare(),
        "bare_channels_last": bare(channels_last=True),
        "bare_bf16": bare(**fastest),
        "bare_compiled": bare(**fastest, compile_mode="default"),
    }
    if device.type == "cuda":
        found["bare_cuda_graphs"] = bare(**fastest, compile_mode="reduce-overhead")
    return found


def chosen(config: Mapping[str, Any], device: torch.device) -> dict[str, Maker]:
    """Those that `config["contestants"]` names.

    Raises:
        UserError: there is no such contestant.
    """
    everybody = makers(device)
    names = everybody if config["contestants"] is None else config["contestants"]
    for name in names:
        if name not in everybody:
            raise UserError(f"contestants: {name}: expected some of {', '.join(everybody)}.{nearest(name, everybody)}")
    if not names:
        raise UserError(f"contestants=[]: expected some of {', '.join(everybody)}, or null for all.")
    return {name: everybody[name] for name in names}


def measure(config: Mapping[str, Any], dataset: Dataset, device: torch.device) -> dict[str, Any]:
    """The section `training`: images a second of each contestant, and what the device could do."""
    contestants = {name: make(config, dataset, device) for name, make in chosen(config, device).items()}
    turns = take_turns(contestants, config["rounds"])
    rates = {name: [turn.rate for turn in done[1:]] for name, done in turns.items()}
    result = section("images/s", rates, "cnnzoo")
    costs = network_costs(config, dataset, device)
    roofline = device_rates(device)
    for name, contestant in contestants.items():
        entry = result["contestants"][name]
        dtype = "fp32" if contestant.precision == "32-true" else "bf16"
        entry["precision"] = contestant.precision
        entry["first_step_seconds"] = turns[name][0].first_step  # compilation included
        flops = entry["median"] * costs["flops_per_image"]
        entry["fraction_of_matmul_peak"] = flops / roofline[f"{dtype}_flops_per_second"]
        entry["fraction_of_copy_peak"] = (
            entry["median"] * costs[f"{dtype}_bytes_per_image"] / roofline["copy_bytes_per_second"]
        )
    result["roofline"] = roofline | costs
    bare = {name: entry["median"] for name, entry in result["contestants"].items() if name.startswith("bare")}
    if bare:
        result["best_bare"] = max(bare, key=lambda name: bare[name])
    return result


def network_costs(config: Mapping[str, Any], dataset: Dataset, device: torch.device) -> dict[str, float]:
    """FLOPs and bytes of an eager training step for one image."""
    model = build_model(OmegaConf.create(dict(config)))
    costs: dict[str, float] = {
        "flops_per_image": 2 * 3 * macs(model, input_shape(OmegaConf.create(dict(config)))),
    }
    for name, precision in (("fp32", "32-true"), ("bf16", "bf16-mixed")):
        loop = Bare(config, dataset, device, channels_last=True, precision=precision)
        images, labels = loop.batches[0]
        loop.step(images, labels)  # the optimizer makes its state
        with CountBytes() as counter:
            loop.step(images, labels)
        costs[f"{name}_bytes_per_image"] = counter.total / len(labels)
    return costs


def measure_memory(config: Mapping[str, Any], device: torch.device) -> dict[str, Any]:
    """The section `memory`: peak bytes of each contestant's main process, a fresh one, over one turn.

    On CUDA: allocated by torch on the device. On the CPU: the resident set, with Python, torch and (but for the bare
    loops) the data set in it; the tutorial's worker processes come on top.
    """
    peaks = {
        name: [in_fresh_process("cnnzoo.benchmark.training:one_peak", {"config": config, "name": name})]
        for name in chosen(config, device)
    }
    return section("bytes", peaks, "cnnzoo")


def one_peak(question: Mapping[str, Any]) -> int:
    """Peak memory in bytes of one turn of the contestant `question["name"]` in this process."""
    config = question["config"]
    device = training_device(config["trainer"]["accelerator"])
    dataset, _ = images_of(config)
    contestant = makers(device)[question["name"]](config, dataset, device)
    del dataset
    reset_peak_memory(device)
    contestant()
    return peak_memory(device)
