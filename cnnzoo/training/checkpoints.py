"""Checkpoints: which are written and when, whole or not at all, and from which a run may resume."""

import logging
import shutil
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Checkpoint
from pytorch_lightning.plugins.io import TorchCheckpointIO

from cnnzoo.config import Config, config_hash
from cnnzoo.errors import UserError
from cnnzoo.io import atomic_path, check_archive
from cnnzoo.training.callbacks import MetricsCsv, Row
from cnnzoo.training.interruption import Interruption

log = logging.getLogger(__name__)

BEST, LAST, PREVIOUS, DAMAGED = "best.ckpt", "last.ckpt", "previous.ckpt", "damaged.ckpt"


class AtomicCheckpointIO(TorchCheckpointIO):
    """Write next to the old checkpoint and rename, so that a killed process leaves the old one.

    Lightning itself writes into the system's temporary folder and moves the file: to another file system that is a
    copy, which can be cut off.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        with (
            atomic_path(Path(path), lambda: _saved_bytes(checkpoint)) as temporary,
            temporary.open("wb") as file,
        ):
            torch.save(checkpoint, file)


def _saved_bytes(checkpoint: Mapping[str, Any]) -> int:
    class Counter:
        count = 0

        def write(self, data: Any) -> int:
            self.count += len(data)
            return len(data)

        def flush(self) -> None:
            pass

    counter = Counter()
    torch.save(checkpoint, counter)  # type: ignore[arg-type]
    return counter.count


class Checkpoints(Checkpoint):
    """Keep `last.ckpt`, to resume from, the one before it as `previous.ckpt`, and `best.ckpt`.

    `last.ckpt` is written after every few epochs, after the best ones and the final one; within an epoch after so many
    minutes, and when a signal ends the training. `best.ckpt` is of the epoch with the highest validation accuracy among
    the rows of metrics.csv, or of the final one without validation.

    Args:
        folder: of the checkpoints.
        minutes: None: within an epoch only for a signal.
    """

    def __init__(
        self,
        folder: Path,
        metrics: MetricsCsv,
        interruption: Interruption,
        *,
        every_n_epochs: int,
        minutes: float | None,
    ) -> None:
        self.folder = folder
        self.metrics = metrics
        self.interruption = interruption
        self.every_n_epochs = every_n_epochs
        self.minutes = minutes
        self.step = 0
        self.saved_at = 0.0

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.step, self.saved_at = trainer.global_step, time.monotonic()

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        # After the last batch the epoch's end is near; while gradients are accumulated, they would be lost.
        ends = batch_idx + 1 >= trainer.num_training_batches or trainer.should_stop
        if ends or trainer.global_step == self.step:
            return
        self.step = trainer.global_step
        late = self.minutes is not None and time.monotonic() - self.saved_at > 60 * self.minutes
        if trainer.strategy.reduce_boolean_decision(late or bool(self.interruption.requested), all=False):
            self._save_last(trainer)
            self._stop_if_requested(trainer)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        epoch, rows = trainer.current_epoch, self.metrics.rows
        ends = trainer.should_stop or epoch + 1 == trainer.max_epochs
        is_best = best_epoch(rows) == epoch + 1 and (ends or rows[-1]["val_accuracy"] is not None)
        is_best = trainer.strategy.broadcast(is_best)  # batch norm's statistics, and so accuracies, differ a little
        stops = trainer.strategy.reduce_boolean_decision(bool(self.interruption.requested), all=False)
        if is_best or ends or stops or (epoch + 1) % self.every_n_epochs == 0:
            self._save_last(trainer)
        if is_best:  # after last.ckpt: `checkpoint_to_resume` makes up for a kill between the two
            trainer.save_checkpoint(self.folder / BEST, weights_only=False)
        if not ends:
            self._stop_if_requested(trainer)

    def _save_last(self, trainer: pl.Trainer) -> None:
        last = self.folder / LAST
        if trainer.is_global_zero and last.is_file():
            last.replace(self.folder / PREVIOUS)
        trainer.save_checkpoint(last, weights_only=False)
        self.saved_at = time.monotonic()
        self.interruption.has_unsaved = False

    def _stop_if_requested(self, trainer: pl.Trainer) -> None:
        if trainer.strategy.reduce_boolean_decision(bool(self.interruption.requested), all=False):
            self.interruption.stop()


def best_epoch(rows: Sequence[Row]) -> int:
    """Return the epoch, counted from 1, with the highest validation accuracy; the first of equals.

    Without validation, the last one.
    """
    validated = [row for row in rows if row["val_accuracy"] is not None]
    best = max(validated or rows[-1:], key=lambda row: row["val_accuracy"])
    return 1 + int(best["epoch"])


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Return what Lightning has saved, with its checksums compared; no code in it is executed.

    Raises:
        UserError: it cannot be read.
    """
    try:
        check_archive(path)
        content: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        # torch's own messages advise to load it with code
        reason = str(error) if isinstance(error, OSError) else f"it is no checkpoint: {type(error).__name__}"
        raise UserError(f"{path} cannot be read ({reason}).") from error
    return content


def read_rows(checkpoint: Mapping[str, Any]) -> list[Row]:
    """Return the rows of metrics.csv up to a checkpoint."""
    return list(checkpoint["callbacks"][MetricsCsv.STATE_KEY]["rows"])


def checkpoint_to_resume(folder: Path, config: Config) -> Path | None:
    """Return the newest checkpoint in `folder` that can be read; None if there is none at all.

    Raises:
        UserError: none can be read, or they were made by another configuration. They are left as they are.
    """
    failures: list[UserError] = []
    for path in (folder / LAST, folder / PREVIOUS):
        if not path.is_file():
            continue
        try:
            checkpoint = read_checkpoint(path)
        except UserError as error:
            failures.append(error)
            continue
        _check_same_run(path, checkpoint, config)
        for failure in failures:
            log.warning("%s It is now %s, and the run resumes from the one before.", failure, DAMAGED)
            (folder / LAST).replace(folder / DAMAGED)  # or it would take the place of the one that can be read
        _restore_best(path, checkpoint)
        return path
    if failures:
        raise UserError(f"{' '.join(map(str, failures))} Nothing was changed; rerun=true trains this run anew.")
    return None


def _check_same_run(path: Path, checkpoint: Mapping[str, Any], config: Config) -> None:
    made_by = (checkpoint.get("hyper_parameters") or {}).get("config_hash")
    if made_by != config_hash(config):
        raise UserError(
            f"{path} was made by another configuration ({made_by}, this one is {config_hash(config)})."
            " Start this run over with rerun=true."
        )


def _restore_best(path: Path, checkpoint: Mapping[str, Any]) -> None:
    """Copy a checkpoint to best.ckpt if it is the best epoch's, as the process may have died before it did that."""
    rows = read_rows(checkpoint)
    if rows and best_epoch(rows) == checkpoint["epoch"] + 1:
        with atomic_path(path.with_name(BEST)) as temporary:
            shutil.copyfile(path, temporary)


def check_best(path: Path, epoch: int) -> None:
    """Raise UserError unless `path` can be read and is of `epoch`, counted from 1."""
    found = read_checkpoint(path)["epoch"] + 1
    if found != epoch:
        raise UserError(
            f"{path} is of epoch {found}, but the best one of metrics.csv is {epoch}: the files are of two trainings."
            " rerun=true trains this run anew."
        )
