"""SIGINT and SIGTERM: a checkpoint within the epoch, then the end; the same command resumes bit for bit.

Signals that somebody else handles, as a batch system's launcher does, remain theirs.
"""

import contextlib
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Iterator
from types import FrameType
from typing import Any

import pytorch_lightning as pl
import torch
from torch.multiprocessing.spawn import ProcessExitedException

from cnnzoo.errors import Interrupted, UserError

_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_PATIENCE = 1.0  # seconds after which a second signal is a second request, not an echo: `timeout` sends it twice


class Interruption(pl.Callback):
    """Note SIGINT and SIGTERM while a training goes on.

    `Checkpoints` looks at `requested` after each batch, saves and calls `stop`. A signal ends the training at once if
    there is nothing to save, or if it is the second one. Lightning's own handling of SIGTERM is replaced: it neither
    saves nor lets others handle the signal.
    """

    def __init__(self) -> None:
        ours = (signal.SIG_DFL, signal.default_int_handler)
        self.others: dict[int, Any] = {
            number: handler for number in _SIGNALS if (handler := signal.getsignal(number)) not in ours
        }
        self.number = 0
        self.received_at = 0.0
        self.has_unsaved = False
        self.has_processes = False
        # `number` for the processes that train, where there are several, and from them
        self._shared = torch.zeros((), dtype=torch.int64).share_memory_()  # type: ignore[no-untyped-call]

    def __getstate__(self) -> dict[str, Any]:
        # a function of this process means nothing in another one
        return self.__dict__ | {"others": dict.fromkeys(self.others, signal.SIG_IGN)}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        if multiprocessing.parent_process() is not None:
            self._install()  # as early as can be: torch takes a KeyboardInterrupt there for success

    @property
    def requested(self) -> int:
        """The number of the signal that has been received, or 0."""
        if self.number:
            self._shared.fill_(self.number)
        return int(self._shared)

    @contextlib.contextmanager
    def handled(self, trainer: pl.Trainer) -> Iterator[None]:
        """Handle the signals while `trainer` trains in the block, and restore their handlers after it.

        Raises:
            Interrupted: a signal has ended the block.
        """
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        self.has_processes = trainer.strategy.launcher is not None
        before = {number: signal.getsignal(number) for number in _SIGNALS}
        self._install()
        try:
            yield
            if self.requested:  # after the last batch
                raise Interrupted(self.requested)
        except (SystemExit, KeyboardInterrupt, ProcessExitedException, UserError) as error:
            if self.requested:
                raise Interrupted(self.requested) from error
            if isinstance(error.__context__, KeyboardInterrupt):  # which Lightning turns into an exit
                raise KeyboardInterrupt from error
            raise
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._install()  # in the place of Lightning's handlers

    def on_train_batch_end(self, *args: Any) -> None:
        self.has_unsaved = True

    def stop(self) -> None:
        """End the training. Where several processes train, this exit code is what the one that started them sees."""
        raise SystemExit(128 + (self.requested or signal.SIGTERM))

    def _install(self) -> None:
        if threading.current_thread() is threading.main_thread():
            for number in _SIGNALS:
                signal.signal(number, self.others.get(number, self._receive))

    def _receive(self, number: int, frame: FrameType | None) -> None:
        parent = multiprocessing.parent_process()
        if parent is not None and not parent.is_alive():
            os._exit(128 + number)  # the run is over, and another process may be resuming it
        again = self.number and time.monotonic() - self.received_at > _PATIENCE
        if not self.number:
            self.number, self.received_at = number, time.monotonic()
        if self.has_processes and parent is None:
            self._shared.fill_(number)
        if again or not (self.has_unsaved or self.has_processes):
            raise SystemExit(128 + number)
