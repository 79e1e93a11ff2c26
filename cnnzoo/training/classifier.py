"""The one LightningModule, for every network."""

import logging
from collections.abc import Mapping
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor, nn

from cnnzoo.config.targets import call_target
from cnnzoo.data.batches import epoch_generator
from cnnzoo.data.module import steps_until
from cnnzoo.errors import UserError
from cnnzoo.results.record import config_hash, identity
from cnnzoo.training.devices import compiles
from cnnzoo.training.optimizers import build_optimizer, freeze

log = logging.getLogger(__name__)


class RunningMean:
    """Mean loss and accuracy over an epoch, summed on the device: reading them is the epoch's only wait for it."""

    def __init__(self) -> None:
        self.images = 0
        self.sums: Tensor | None = None  # loss summed over images, correct predictions

    def update(self, loss: Tensor, logits: Tensor, labels: Tensor) -> None:
        count = len(labels)
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
    """Trains `model`, `[N, C, H, W]` float32 to logits `[N, num_classes]`, as a resolved configuration says.

    Checkpoints hold the network under `model.` and the part of the configuration that made them, as plain values.
    """

    def __init__(self, model: nn.Module, config: Mapping[str, Any]) -> None:
        super().__init__()
        self.save_hyperparameters({"config": identity(config), "config_hash": config_hash(config)}, logger=False)
        self.config = config
        self.model = model.to(memory_format=torch.channels_last) if config["trainer"]["channels_last"] else model
        self.loss = nn.CrossEntropyLoss(label_smoothing=config["loss"]["label_smoothing"])
        self.validation_loss = nn.CrossEntropyLoss()
        size = config["image_size"]
        self.example_input_array = torch.zeros(1, config["dataset"]["channels"], size, size)
        self.train_mean, self.val_mean = RunningMean(), RunningMean()
        self.total_steps = 0  # of the optimizer in the whole run; known when the training begins

    def forward(self, images: Tensor) -> Tensor:
        return self.model(images)

    def on_train_start(self) -> None:
        settings = self.config["trainer"]
        if compiles(settings["compile"], self.total_steps, self.device):
            log.info("compiling the network; the first steps take a minute")
            torch.compiler.reset()  # the runs before this one in a sweep: what it keeps is limited
            # A network that cannot be compiled trains as it is, unless it was to be compiled.
            torch._dynamo.config.suppress_errors = settings["compile"] == "auto"
            # In place, so parameter names stay; here, because TensorBoard's graph was traced before.
            self.model.compile(mode=settings["compile_mode"])

    def on_train_epoch_start(self) -> None:
        # Dropout draws depend on the epoch alone: a run that was resumed goes on as if never interrupted.
        torch.manual_seed(epoch_generator(self.config["seed"], self.current_epoch).initial_seed())
        self.train_mean = RunningMean()
        freeze(self.trainer.optimizers[0], self.current_epoch)

    def training_step(self, batch: tuple[Tensor, Tensor], batch_index: int) -> Tensor:
        images, labels = batch
        output = self.model(images)
        logits, *auxiliary = output if isinstance(output, tuple) else (output,)
        loss = self.loss(logits, labels)
        self.train_mean.update(loss, logits, labels)
        for head in auxiliary:  # GoogLeNet's: part of what is minimised, not of what is reported
            loss = loss + self.model.auxiliary_weight * self.loss(head, labels)
        return loss

    def on_validation_epoch_start(self) -> None:
        self.val_mean = RunningMean()

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_index: int) -> None:
        # Full precision and not compiled, as in the final test: the accuracies of both are the same to the last digit.
        images, labels = batch
        with torch.autocast(self.device.type, enabled=False):
            logits = self.model.forward(images)
        self.val_mean.update(self.validation_loss(logits, labels), logits, labels)

    def on_validation_epoch_end(self) -> None:
        loss, accuracy, _ = self.val_mean.compute()
        self.log_dict({"val_loss": loss, "val_accuracy": accuracy})

    def configure_optimizers(self) -> Any:
        optimizer = build_optimizer(self.model, self.config["optimizer"])
        if self.trainer.world_size > 1 and any(group.get("frozen_after") for group in optimizer.param_groups):
            raise UserError("optimizer.groups: frozen_after works on one device only; set trainer.devices=1.")
        assert self.trainer.max_epochs is not None
        steps_of_epoch = int(self.trainer.estimated_stepping_batches) // self.trainer.max_epochs
        self.total_steps = steps_until(self.config["trainer"]["max_epochs"], steps_of_epoch)
        node = {key: value for key, value in self.config["scheduler"].items() if key != "interval"}
        if not node.get("_target_"):
            return optimizer
        if node.get("total_steps", 0) is None:
            node["total_steps"] = self.total_steps
        scheduler = call_target("scheduler", node, optimizer)
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": scheduler, "interval": self.config["scheduler"]["interval"]},
        }
