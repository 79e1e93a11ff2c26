"""TensorBoard during a training, beyond the metrics of each epoch: augmented images, histograms, no zigzag at a resume.

What it shows of a finished run is in `cnnzoo.figures.tensorboard`.
"""

from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.loggers import TensorBoardLogger
from torch import Tensor

from cnnzoo.data.loaders import DataModule

_IMAGES = 64  # of the first batch, eight in a row


class TensorBoard(TensorBoardLogger):
    """Lightning's logger with two settings more.

    Args:
        save_dir: the run's folder.
        images: show the first batch of the training as it is augmented (before mixup and cutmix).
        histograms: of every parameter after every epoch.
        kwargs: those of Lightning's logger, and of `torch.utils.tensorboard.SummaryWriter`.
    """

    def __init__(self, save_dir: str, images: bool = True, histograms: bool = False, **kwargs: Any) -> None:
        super().__init__(save_dir, **kwargs)
        self.images, self.histograms = images, histograms


class TensorBoardContent(pl.Callback):
    """Give `logger` what Lightning does not."""

    def __init__(self, logger: TensorBoard) -> None:
        self.logger = logger

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if trainer.is_global_zero and trainer.global_step:
            # TensorBoard then drops the steps that a resumed run repeats; `purge_step` of the writer does the same.
            from tensorboard.compat.proto.event_pb2 import Event, SessionLog  # not in a training without TensorBoard

            restart = Event(step=trainer.global_step, session_log=SessionLog(status=SessionLog.START))
            writer = self.logger.experiment.file_writer
            assert writer is not None
            writer.add_event(restart)

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: tuple[Tensor, Tensor], batch_idx: int
    ) -> None:
        if trainer.global_step or batch_idx or not (self.logger.images and trainer.is_global_zero):
            return
        data = trainer.datamodule  # type: ignore[attr-defined]
        assert isinstance(data, DataModule)
        mean, std = (values.view(-1, 1, 1) for values in (data.dataset.mean, data.dataset.std))
        images = (batch[0][:_IMAGES].detach().float().cpu() * std.cpu() + mean.cpu()).clamp_(0, 1)
        self.logger.experiment.add_images("train_images", images if images.shape[1] == 3 else images[:, :1])

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if self.logger.histograms and trainer.is_global_zero:
            for name, parameter in pl_module.named_parameters():
                self.logger.experiment.add_histogram(name, parameter.detach().float(), trainer.global_step - 1)
