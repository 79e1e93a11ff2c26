"""What a command costs before it does anything: whole processes, from their start to their end."""

import logging
import os
import tempfile
import time
from collections.abc import Callable, Sequence
from typing import Any

import pytorch_lightning as pl

from cnnzoo.benchmark.measure import run_python, section, take_turns
from cnnzoo.errors import UserError

log = logging.getLogger(__name__)

FIRST_STEP = "first training step"


class ExitAfterFirstStep(pl.Callback):
    """Ends the process at once when the first training step is done."""

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        outputs["loss"].item()  # waits for the device
        os._exit(0)


def measure(overrides: Sequence[str], rounds: int) -> dict[str, Any]:
    """The section `startup`: seconds of `cnnzoo.run` with `overrides`, beside Python's and torch's own."""
    with tempfile.TemporaryDirectory(prefix="cnnzoo-bench-") as outputs:
        run = ["-m", "cnnzoo.run", *overrides]
        exit_early = f"+callbacks.exit._target_={__name__}.ExitAfterFirstStep"
        commands = {
            "python": ["-c", "pass"],
            "import torch": ["-c", "import torch"],
            "--cfg job": [*run, "--cfg", "job"],
            "--help": ["-m", "cnnzoo.run", "--help"],
            FIRST_STEP: [*run, exit_early, f"paths.outputs={outputs}"],
        }
        try:
            run_python(commands[FIRST_STEP])
        except UserError as error:
            log.warning("left out: %s: %s", FIRST_STEP, error)
            del commands[FIRST_STEP]
        turns = take_turns({name: _seconds_of(command) for name, command in commands.items()}, rounds)
    return section("s", {name: done[1:] for name, done in turns.items()}, "import torch")


def _seconds_of(command: list[str]) -> Callable[[], float]:
    def turn() -> float:
        begin = time.perf_counter()
        run_python(command)
        return time.perf_counter() - begin

    return turn
