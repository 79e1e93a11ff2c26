"""The LightningModule that trains every network."""

from typing import Any

import pytorch_lightning as pl
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim.lr_scheduler import ReduceLROnPlateau

from cnnzoo.config import Config, config_hash, identity
from cnnzoo.data.batches import epoch_generator
from cnnzoo.data.loaders import steps_until
from cnnzoo.errors import UserError
from cnnzoo.training.freezing import freeze_parameters
from cnnzoo.training.mixing import build_mixing
from cnnzoo.training.optimizers import build_optimizer, freeze_finished_groups
from cnnzoo.training.schedules import build_scheduler, warmup_factor


class EpochMetrics:
    """Mean loss and accuracy of an epoch, summed on the device: only `compute` waits for it."""

    def __init__(self) -> None:
        self.images = 0
        self.sums: Tensor | None = None  # loss summed over images, correct predictions

    def update(self, loss: Tensor, logits: Tensor, labels: Tensor) -> None:
        """Add a batch: its mean loss, logits `[N, C]` and labels `[N]`, or probabilities `[N, C]` of mixed images.

        Of a mixed image, the class with the highest probability counts as the label.
        """
        count = len(labels)
        labels = labels if labels.ndim == 1 else labels.argmax(dim=1)
        correct = (logits.argmax(dim=1) == labels).sum()
        sums = torch.stack([loss.detach().double() * count, correct.double()])
        self.sums = sums if self.sums is None else self.sums + sums
        self.images += count

    def compute(self, across_processes: bool = False) -> tuple[float, float, int]:
        """Loss, accuracy (0..1) and number of images, of this process or of all that train together."""
        if self.sums is None:
            return float("nan"), float("nan"), 0
        totals = torch.cat([self.sums, self.sums.new_tensor([self.images])])
        if across_processes and torch.distributed.is_available() and torch.distributed.is_initialized():
            torch.distributed.all_reduce(totals)
        loss, correct, images = totals.tolist()
        return loss / images, correct / images, int(images)


class Classifier(pl.LightningModule):
    """Trains `model`, `[N, C, H, W] float32` to logits `[N, num_classes]`, as a configuration describes.

    A network may return a tuple in training: logits, then those of auxiliary heads, whose losses are weighted by its
    attribute `auxiliary_weight`.

    Checkpoints hold the network under `model.`, and the identity of the configuration in plain containers.
    """

    def __init__(self, model: nn.Module, config: Config, loss: nn.Module) -> None:
        super().__init__()
        self.save_hyperparameters({"config": identity(config), "config_hash": config_hash(config)})
        self.config = config
        self.model = model.to(memory_format=torch.channels_last) if config.trainer.channels_last else model
        self.loss = loss
        self.mixing = build_mixing(config.augmentation, config.dataset.num_classes)
        self.fixed_norms = freeze_parameters(model, config.freeze)
        self.example_input_array = torch.zeros(1, config.dataset.channels, config.image_size, config.image_size)
        self.train_metrics, self.val_metrics = EpochMetrics(), EpochMetrics()
        self.validated = False  # in this epoch
        # optimizer steps, known when the training begins
        self.total_steps = self.warmup_steps = 0
        self._within_epoch: dict[str, Any] | None = None  # from a checkpoint

    def forward(self, images: Tensor) -> Tensor:
        return self.model(images)  # type: ignore[no-any-return]

    def configure_optimizers(self) -> Any:
        config, trainer = self.config, self.trainer
        optimizer = build_optimizer(self.model, config.optimizer, config.trusted_packages)
        if trainer.world_size > 1 and any(g.get("frozen_after") is not None for g in optimizer.param_groups):
            raise UserError("optimizer.groups: frozen_after works on one device only; set trainer.devices=1.")
        steps_per_epoch = int(trainer.estimated_stepping_batches) // config.trainer.epochs
        self.total_steps = steps_until(config.trainer.max_epochs, steps_per_epoch)
        self.warmup_steps = steps_until(config.warmup.epochs, steps_per_epoch)
        schedule = build_scheduler(optimizer, config.scheduler, self.total_steps, config.trusted_packages)
        if schedule is None:
            return optimizer
        needs_validation = isinstance(schedule, ReduceLROnPlateau) and self._monitor.startswith("val_")
        if needs_validation and not trainer.enable_validation:
            raise UserError(
                f"scheduler.monitor={self._monitor}: there is no validation. Set dataset.val_size, or monitor training:"
                " scheduler.monitor=train_loss scheduler.mode=min."
            )
        interval = config.scheduler.get("interval", "epoch")
        # reduce_on_plateau=False: Lightning would step it after last.ckpt is written, and a resumed run would lack it.
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": schedule, "interval": interval, "reduce_on_plateau": False},
        }

    @property
    def _monitor(self) -> str:
        return str(self.config.scheduler.get("monitor", "val_accuracy"))

    def lr_scheduler_step(self, scheduler: Any, metric: Any) -> None:
        if not isinstance(scheduler, ReduceLROnPlateau):
            scheduler.step()

    def warmup_factor(self) -> float:
        """Factor of all learning rates in the optimizer step that comes next."""
        return warmup_factor(self.trainer.global_step, self.warmup_steps, self.config.warmup.start_factor)

    def optimizer_step(self, epoch: int, batch_idx: int, optimizer: Any, optimizer_closure: Any = None) -> None:
        """Warm up by scaling the rates for this step only, so that no schedule is disturbed."""
        if self.trainer.global_step >= self.warmup_steps:
            return super().optimizer_step(epoch, batch_idx, optimizer, optimizer_closure)
        factor = self.warmup_factor()
        rates = [group["lr"] for group in optimizer.param_groups]
        for group, rate in zip(optimizer.param_groups, rates, strict=True):
            group["lr"] = rate * factor
        super().optimizer_step(epoch, batch_idx, optimizer, optimizer_closure)
        for group, rate in zip(optimizer.param_groups, rates, strict=True):
            group["lr"] = rate

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add the state within the epoch, of each process: random numbers and metrics."""
        state = {
            "random": torch.get_rng_state(),
            "cuda_random": torch.cuda.get_rng_state(self.device) if self.device.type == "cuda" else None,
            "images": self.train_metrics.images,
            "sums": None if self.train_metrics.sums is None else self.train_metrics.sums.cpu(),
        }
        states = [state] * self.trainer.world_size
        if self.trainer.world_size > 1:
            torch.distributed.all_gather_object(states, state)
        checkpoint["within_epoch"] = states

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        states = checkpoint.get("within_epoch")  # earlier versions had none
        self._within_epoch = states[self.trainer.global_rank % len(states)] if states else None

    def on_train_start(self) -> None:
        # An epoch that is resumed does not start again; one that starts sets all of this itself.
        self._set_modes()
        if self._within_epoch is not None:
            self.train_metrics.images, sums = self._within_epoch["images"], self._within_epoch["sums"]
            self.train_metrics.sums = None if sums is None else sums.to(self.device)
            torch.set_rng_state(self._within_epoch["random"])
            if self._within_epoch["cuda_random"] is not None and self.device.type == "cuda":
                torch.cuda.set_rng_state(self._within_epoch["cuda_random"], self.device)

    def on_train_epoch_start(self) -> None:
        # Draws of dropout and mixing depend on the epoch alone: a resumed run continues as if never interrupted.
        torch.manual_seed(epoch_generator(self.config.seed, self.current_epoch).initial_seed())
        self.train_metrics, self.validated = EpochMetrics(), False
        self._set_modes()

    def _set_modes(self) -> None:
        freeze_finished_groups(self.trainer.optimizers[0], self.current_epoch)
        for name in self.fixed_norms:
            self.model.get_submodule(name).eval()

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        images, labels = batch if self.mixing is None else self.mixing(*batch)
        output = self.model(images)
        logits, *auxiliary = output if isinstance(output, tuple) else (output,)
        loss: Tensor = self.loss(logits, labels)
        self.train_metrics.update(loss, logits, labels)
        for head in auxiliary:  # part of what is minimised, not of what is reported
            loss = loss + self.model.auxiliary_weight * self.loss(head, labels)
        return loss

    def on_train_epoch_end(self) -> None:
        schedule = self.lr_schedulers()
        if isinstance(schedule, ReduceLROnPlateau) and (self.validated or self._monitor.startswith("train_")):
            schedule.step(self.trainer.callback_metrics[self._monitor])

    def on_validation_epoch_start(self) -> None:
        self.val_metrics = EpochMetrics()

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        # Full precision and not compiled, as in the final test: the accuracies of both are the same to the last digit.
        images, labels = batch
        with torch.autocast(self.device.type, enabled=False):
            logits = self.model.forward(images)
        self.val_metrics.update(F.cross_entropy(logits, labels), logits, labels)

    def on_validation_epoch_end(self) -> None:
        loss, accuracy, _ = self.val_metrics.compute()
        self.log_dict({"val_loss": loss, "val_accuracy": accuracy})
        self.validated = True
