"""Trainings that go wrong: losses or weights that are no longer finite, a loss that does not move, spikes."""

import logging
import math
from collections.abc import Iterator
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor, nn

from cnnzoo.errors import UserError
from cnnzoo.training.callbacks import MetricsCsv
from cnnzoo.training.classifier import Classifier

log = logging.getLogger(__name__)

_EVERY = 50  # steps between two looks at the loss on a device that is not waited for


class StopOnDivergence(pl.Callback):
    """End a training whose loss or weights are no longer finite, before a checkpoint of them is written.

    On the CPU each loss is looked at. A GPU is not waited for: every `_EVERY` steps its losses are copied to main
    memory, and looked at the next time. The weights are looked at once an epoch.
    """

    def __init__(self, metrics: MetricsCsv) -> None:
        self.metrics = metrics
        self.losses: list[Tensor] = []  # of this epoch, on the device: some of single batches, then the others' stacked
        self.stacked: list[Tensor] = []
        self.rates: list[float] = []
        self.first_batch = self.first_step = 0
        self.arrived: Tensor | None = None  # sum of the losses, of a while ago, in main memory
        self.batch: Any = None
        self.losses_before = torch.empty(0)  # those of the first epoch

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.losses, self.stacked, self.rates, self.arrived = [], [], [], None

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        assert isinstance(pl_module, Classifier)
        self.batch = batch
        if not self.rates:
            self.first_batch, self.first_step = batch_idx, trainer.global_step
        self.rates.append(trainer.optimizers[0].param_groups[0]["lr"] * pl_module.warmup_factor())

    def on_before_backward(self, trainer: pl.Trainer, pl_module: pl.LightningModule, loss: Tensor) -> None:
        # Before the step that would make all weights of the network as wrong as the loss.
        if loss.device.type == "cpu" and not math.isfinite(loss.item()):
            self.losses.append(loss.detach())
            raise self._diverged(trainer, pl_module)

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        assert isinstance(pl_module, Classifier)
        self.batch = None
        self.losses.append(outputs["loss"])
        if len(self.losses) < _EVERY:
            return
        self.stacked.append(torch.stack(self.losses))
        self.losses.clear()
        if pl_module.device.type == "cuda" and (sums := pl_module.train_metrics.sums) is not None:
            if self.arrived is None:
                self.arrived = torch.zeros_like(sums, device="cpu").pin_memory()
            if not self.arrived.isfinite().all():
                raise self._diverged(trainer, pl_module)
            self.arrived.copy_(sums, non_blocking=True)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        row = self.metrics.rows[-1]
        losses = self._losses()
        if not losses.isfinite().all():
            raise self._diverged(trainer, pl_module)
        epoch = f"epoch {trainer.current_epoch + 1}"
        if not _all_finite(pl_module):
            raise UserError(
                f"At the end of {epoch} (step {trainer.global_step}, learning rate {self.rates[-1]:.4g}):"
                f" {_first_wrong_tensor(pl_module)} {_advice(trainer)}"
            )
        if row["val_loss"] is not None and not math.isfinite(row["val_loss"]):
            raise UserError(
                f"The validation loss is {row['val_loss']} in {epoch}, though the training loss is"
                f" {row['train_loss']:.4g} and all weights are finite: the network computes no numbers for some"
                f" validation images. {_advice(trainer)}"
            )
        self._say_if_it_does_not_move(trainer, losses)

    def _say_if_it_does_not_move(self, trainer: pl.Trainer, losses: Tensor) -> None:
        """In the first two epochs: later, it may have reached its minimum. Not while the learning rate rises."""
        before, after = self.losses_before, losses
        if trainer.current_epoch == 0:
            quarter = len(losses) // 4 if len(losses) > 100 else 0  # of fewer batches, the images decide the means
            before, after = losses[:quarter], losses[-quarter:]
            self.losses_before = losses
        rises = self.rates[-1] > self.rates[0]
        if trainer.current_epoch > 1 or rises or len(before) < 1 or not trainer.is_global_zero or _moves(before, after):
            return
        log.warning(
            "the training loss does not move in epoch %d: %.4g, then %.4g. Look at optimizer.lr=%.4g, at the labels, at"
            " freeze, and at activations that have died.",
            trainer.current_epoch + 1,
            before.mean(),
            after.mean(),
            self.rates[0],
        )

    def _losses(self) -> Tensor:
        """Those of the epoch's batches, in main memory."""
        last = [torch.stack(self.losses)] if self.losses else []
        return torch.cat([*self.stacked, *last]).cpu() if self.stacked or last else torch.empty(0)

    def _diverged(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> UserError:
        losses = self._losses()
        index = int((~losses.isfinite()).nonzero()[0]) if not losses.isfinite().all() else len(losses) - 1
        step = self.first_step + index // trainer.accumulate_grad_batches + 1
        assert isinstance(pl_module, Classifier)
        where = _first_wrong_tensor(pl_module) or _first_wrong_output(trainer, pl_module, self.batch)
        return UserError(
            f"The training loss is {losses[index].item()} in epoch {trainer.current_epoch + 1}, batch"
            f" {self.first_batch + index + 1} (step {step}, learning rate {self.rates[index]:.4g}). {where}"
            f" {_advice(trainer)}"
        )


def _advice(trainer: pl.Trainer) -> str:
    precision = " trainer.precision=32-true has a wider range." if str(trainer.precision).startswith("16") else ""
    return (
        "Lower optimizer.lr, let it rise slowly (warmup.epochs=1), or set trainer.gradient_clip_val=1 or"
        f" callbacks=spike_guard.{precision}"
    )


def _tensors(module: nn.Module) -> Iterator[tuple[str, str, Tensor]]:
    """Name, kind and values of all floating-point tensors, layer by layer: first the weights."""
    yield from ((name, "weights", value.detach()) for name, value in module.named_parameters())
    yield from ((name, "gradients", value.grad) for name, value in module.named_parameters() if value.grad is not None)
    yield from ((name, "statistics", value) for name, value in module.named_buffers() if value.is_floating_point())


def _all_finite(module: nn.Module) -> bool:
    """Whether all weights and buffers are: one wait for the device."""
    values = [value for _, kind, value in _tensors(module) if kind != "gradients" and value.numel()]
    return bool(torch.nn.utils.get_total_norm(values, math.inf).isfinite())  # the largest: a sum could overflow


def _first_wrong_tensor(module: nn.Module) -> str:
    for name, kind, value in _tensors(module):
        if wrong := int((~value.isfinite()).sum()):
            layer, _, tensor = name.removeprefix("model.").rpartition(".")
            return (
                f"The first layer with {kind} that are not finite is {layer or 'the network itself'}: {wrong} of"
                f" {value.numel()} in {tensor}."
            )
    return ""


def _first_wrong_output(trainer: pl.Trainer, module: Classifier, batch: Any) -> str:
    """Run the network once more on the batch, if it is still there, and look at what each layer makes of it."""
    if batch is None:
        return "All weights are finite."
    images, _ = batch
    if not images.isfinite().all():
        return "The images are not finite: look at dataset.mean, dataset.std and the data."
    found: list[str] = []

    def look(name: str) -> Any:
        def hook(layer: nn.Module, inputs: Any, output: Any) -> None:
            if not found and isinstance(output, Tensor) and not output.isfinite().all():
                found.append(f"The first layer with outputs that are not finite is {name} ({type(layer).__name__}).")

        return hook

    for name, layer in module.model.named_modules():
        if not any(layer.children()):
            layer.register_forward_hook(look(name or "the network itself"))
    with torch.no_grad(), trainer.precision_plugin.train_step_context():
        module.model.forward(images)  # not compiled
    return found[0] if found else "All weights and outputs of layers are finite; look at the loss."


def _moves(before: Tensor, after: Tensor) -> bool:
    """Whether the mean of some batches' losses has changed by more than a hundredth: a network that learns changes it
    by more, and one whose gradients or labels are broken stays at the loss of chance."""
    first, second = before.double().mean(), after.double().mean()
    return bool((second - first).abs() > 0.01 * first.abs())


class SpikeGuard(pl.Callback):
    """Scale the gradients of a step down where their norm is more than `factor` times its running average.

    The average is exponential, over about 1 / (1 - `decay`) steps, of the norms after scaling. Nothing waits for the
    device. As Kumar et al. 2025, https://arxiv.org/abs/2504.02507, with a factor in the place of the z-score.

    Raises:
        ValueError: an argument is out of its range.
    """

    def __init__(self, factor: float, decay: float) -> None:
        if factor <= 1:
            raise ValueError(f"factor={factor}: expected more than 1")
        if not 0 <= decay < 1:
            raise ValueError(f"decay={decay}: expected at least 0 and less than 1")
        self.factor, self.decay = factor, decay
        self.average = torch.tensor(math.nan)  # before the first step
        self.spikes: Tensor | int = 0  # in this epoch

    def state_dict(self) -> dict[str, Any]:
        return {"average": self.average, "spikes": self.spikes}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.average, self.spikes = state_dict["average"], state_dict["spikes"]

    def on_before_optimizer_step(self, trainer: pl.Trainer, pl_module: pl.LightningModule, optimizer: Any) -> None:
        gradients = [p.grad for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
        norm = torch.nn.utils.get_total_norm(gradients)
        self.average = self.average.to(norm.device)
        average = torch.where(self.average.isnan(), norm, self.average)
        limit = self.factor * average
        is_spike = (norm > limit) & norm.isfinite()  # what is not finite is for those who stop the training
        torch._foreach_mul_(gradients, torch.where(is_spike, limit / norm, 1.0))
        new = torch.lerp(average, torch.minimum(norm, limit), 1 - self.decay)
        self.average = torch.where(norm.isfinite(), new, self.average)
        self.spikes = self.spikes + is_spike.long()

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if spikes := int(self.spikes):
            log.info("the gradients of %d steps were scaled down to %g times their average", spikes, self.factor)
        self.spikes = 0
