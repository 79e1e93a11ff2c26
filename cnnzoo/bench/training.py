"""The section `training`: cnnzoo as `cnnzoo.run` runs it, the tutorial's pipeline, and bare PyTorch loops.

A measurement trains `warmup_steps` off the clock and then `steps` on it; the clock stops when the device has finished
the last one. It includes fetching batches, the optimizer and whatever a framework does in between, but not what a run
does once or once an epoch: start-up, the draw of an epoch's order and crops, validation, checkpoints, loggers.

Doubts are decided in favour of the alternatives. The tutorial's workers have filled their queues before the clock
starts, and it has no logger, progress bar, checkpoints or validation. The bare loops reuse a few ready batches.
"""

import tempfile
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor, nn

from cnnzoo.bench.context import Context
from cnnzoo.bench.interleave import run_interleaved, section
from cnnzoo.bench.loading import pil_loader
from cnnzoo.config.schema import BenchConfig
from cnnzoo.data.loaders import steps_until, train_loader
from cnnzoo.errors import UserError, nearest
from cnnzoo.nn.build import build_model
from cnnzoo.nn.speed import speed_up
from cnnzoo.training.devices import resolve_precision, should_compile, synchronize
from cnnzoo.training.fit import fit
from cnnzoo.training.losses import build_loss
from cnnzoo.training.optimizers import build_optimizer


def measure_training(context: Context) -> dict[str, Any]:
    """Compare images a second of the candidates."""
    names = candidate_names(context.config.contestants, context.device)
    candidates = {name: CANDIDATES[name](context) for name in names}
    rates = run_interleaved({name: c.measure for name, c in candidates.items()}, context.config.rounds)
    result = section("images/s", rates, "cnnzoo")
    entries = result["contestants"]
    for name, candidate in candidates.items():
        entries[name] |= {"precision": candidate.precision, "first_step_seconds": candidate.first_step_seconds}
    if bare := [name for name in names if name.startswith("bare")]:
        result["best_bare"] = max(bare, key=lambda name: entries[name]["median"])
    return result


class Stopwatch(pl.Callback):
    """Note when an epoch begins, and when its first, its last untimed and its last timed step are done."""

    def __init__(self, config: BenchConfig, device: torch.device) -> None:
        self.device = device
        self.begin, self.end = config.warmup_steps, config.warmup_steps + config.steps
        self.times: dict[int, float] = {}  # in seconds, by the number of steps done

    def on_train_epoch_start(self, *_: Any) -> None:
        self.note(0)

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        self.note(batch_idx + 1)

    def note(self, steps: int) -> None:
        if steps in (0, 1, self.begin, self.end):
            synchronize(self.device)
            self.times[steps] = time.perf_counter()


class Candidate(ABC):
    """A network, `model`, and a way to train it."""

    precision = "32-true"
    first_step_seconds = 0.0  # of the first measurement, compilation included

    def __init__(self, context: Context) -> None:
        self.config, self.device = context.config, context.device
        torch.manual_seed(self.config.seed)
        self.model = build_model(self.config)
        self.model = speed_up(self.model)  # as `fit` does: all candidates train the same network

    def measure(self) -> float:
        """Train the warm-up and the timed steps; return images a second in the latter."""
        stopwatch = Stopwatch(self.config, self.device)
        self.train(stopwatch)
        times = stopwatch.times
        self.first_step_seconds = self.first_step_seconds or times[1] - times[0]
        seconds = times[stopwatch.end] - times[stopwatch.begin]
        return self.config.steps * self.config.dataset.batch_size / seconds

    @abstractmethod
    def train(self, stopwatch: Stopwatch) -> None:
        """Train, and let `stopwatch` note the time of every step."""


class Cnnzoo(Candidate):
    """A run's own training, in shortened epochs on one device; `compile=None`: compiled if the whole run would be."""

    def __init__(self, context: Context, compile: bool | None = None) -> None:
        super().__init__(context)
        config, trainer = context.config, context.config.trainer
        batches = len(train_loader(context.dataset, config))
        if batches < config.warmup_steps + config.steps:
            raise UserError(
                f"warmup_steps={config.warmup_steps} steps={config.steps}: an epoch has only {batches} batches, and a"
                " measurement is part of one epoch. Take fewer steps or a smaller dataset.batch_size."
            )
        if compile is None:
            steps = steps_until(trainer.max_epochs, batches // trainer.accumulate_grad_batches)
            compile = should_compile(trainer.compile, steps, self.device)
        self.config = shortened(config, compile=compile)
        self.dataset = context.dataset.to(self.device)
        self.precision = resolve_precision(trainer.precision, self.device)

    def train(self, stopwatch: Stopwatch) -> None:
        with tempfile.TemporaryDirectory(prefix="cnnzoo-bench-") as folder:
            fit(self.model, self.dataset, self.config, Path(folder), [stopwatch])


def shortened(config: BenchConfig, epochs: int = 1, **trainer: Any) -> BenchConfig:
    """Return it for epochs of the warm-up and the timed steps alone; `trainer`: further settings of the trainer."""
    settings: dict[str, Any] = {
        "devices": 1,
        "max_epochs": epochs,
        "limit_train_batches": config.warmup_steps + config.steps,
        "limit_val_batches": 1,
        "check_val_every_n_epoch": 1,
        "checkpoint_every_n_epochs": 1,
        "progress_bar": False,
    }
    warmup = replace(config.warmup, epochs=min(config.warmup.epochs, epochs))
    return replace(config, trainer=replace(config.trainer, **(settings | trainer)), warmup=warmup, logger={})


class Tutorial(Candidate):
    """PIL transforms in the workers of a DataLoader, Lightning, fp32, contiguous memory format."""

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self.loader = pil_loader(context)
        self.module = TutorialModule(self.model, build_loss(self.config, context.dataset.train.labels), self.config)

    def train(self, stopwatch: Stopwatch) -> None:
        trainer = pl.Trainer(
            accelerator=self.device.type,
            devices=1,
            max_epochs=1,
            callbacks=[stopwatch],
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
        )
        trainer.fit(self.module, self.loader)


class TutorialModule(pl.LightningModule):
    """The tutorial's LightningModule: loss and accuracy through `self.log`."""

    def __init__(self, model: nn.Module, criterion: nn.Module, config: BenchConfig) -> None:
        super().__init__()
        self.model, self.criterion, self.config = model, criterion, config

    def configure_optimizers(self) -> Any:
        return build_optimizer(self.model, self.config.optimizer, self.config.trusted_packages)

    def training_step(self, batch: tuple[Tensor, Tensor], batch_index: int) -> Tensor:
        loss, logits = loss_and_logits(self.model, self.criterion, *batch)
        self.log("train_acc", (logits.argmax(dim=-1) == batch[1]).float().mean(), on_step=False, on_epoch=True)
        self.log("train_loss", loss)
        return loss


class Bare(Candidate):
    """The shortest loop that trains: ready batches, no metrics, no schedule; compiled if `compile_mode` is given."""

    def __init__(
        self, context: Context, precision: str = "32-true", channels_last: bool = False, compile_mode: str | None = None
    ) -> None:
        super().__init__(context)
        config, dataset = context.config, context.dataset
        self.precision = precision
        memory_format = torch.channels_last if channels_last else torch.contiguous_format
        self.model = self.model.to(self.device).to(memory_format=memory_format).train()
        if compile_mode is not None:
            self.model.compile(mode=compile_mode)
        self.criterion = build_loss(config, dataset.train.labels).to(self.device)
        self.optimizer = build_optimizer(self.model, config.optimizer, config.trusted_packages)
        batches = train_loader(dataset, replace(config, trainer=replace(config.trainer, channels_last=channels_last)))
        self.batches = [(x.to(self.device), y.to(self.device)) for x, y in islice(batches, 4)]

    def train(self, stopwatch: Stopwatch) -> None:
        stopwatch.note(0)
        for done, batch in enumerate(islice(cycle(self.batches), stopwatch.end), start=1):
            self.step(*batch)
            stopwatch.note(done)

    def step(self, images: Tensor, labels: Tensor) -> None:
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.precision == "bf16-mixed"):
            loss, _ = loss_and_logits(self.model, self.criterion, images, labels)
        self.optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        self.optimizer.step()


def loss_and_logits(model: nn.Module, criterion: nn.Module, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Return the loss, auxiliary heads included as in cnnzoo's Classifier, and the logits of the main head."""
    output = model(images)
    logits, *auxiliary = output if isinstance(output, tuple) else (output,)
    loss = criterion(logits, labels)
    for head in auxiliary:
        loss = loss + model.auxiliary_weight * criterion(head, labels)
    return loss, logits


_bare_bf16 = partial(Bare, precision="bf16-mixed", channels_last=True)

# Each bare loop adds something to the one before it.
CANDIDATES: dict[str, Callable[[Context], Candidate]] = {
    "cnnzoo": Cnnzoo,
    "cnnzoo_eager": partial(Cnnzoo, compile=False),
    "cnnzoo_compiled": partial(Cnnzoo, compile=True),
    "tutorial": Tutorial,
    "bare_fp32": Bare,
    "bare_channels_last": partial(Bare, channels_last=True),
    "bare_bf16": _bare_bf16,
    "bare_compiled": partial(_bare_bf16, compile_mode="default"),
    "bare_cuda_graphs": partial(_bare_bf16, compile_mode="reduce-overhead"),
}


def candidate_names(contestants: Sequence[str] | None, device: torch.device) -> list[str]:
    """Return the names of the candidates that the option `contestants` selects; None: all that the device can have.

    Raises:
        UserError: there is no such candidate, or none is selected.
    """
    available = [name for name in CANDIDATES if device.type == "cuda" or name != "bare_cuda_graphs"]
    names = available if contestants is None else list(contestants)
    if unknown := [name for name in names or [""] if name not in available]:
        expected = f"expected some of {', '.join(available)}, or null for all"
        raise UserError(f"contestants=[{','.join(names)}]: {expected}.{nearest(unknown[0], available)}")
    return names
