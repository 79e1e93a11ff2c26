"""What a command costs before it does anything: whole processes, from their start to their end."""

import logging
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import fields, replace
from functools import partial
from pathlib import Path
from typing import Any

import pytorch_lightning as pl

from cnnzoo.bench.context import Context
from cnnzoo.bench.interleave import run_interleaved, section
from cnnzoo.config import compose, run_folder
from cnnzoo.config.schema import BenchConfig, Config
from cnnzoo.errors import UserError
from cnnzoo.results.run_folder import write_result

log = logging.getLogger(__name__)

ROOT = Path(__file__).resolve().parents[1]
FIRST_STEP = "first training step"


class ExitAfterFirstStep(pl.Callback):
    """End the process at once after the first training step."""

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        outputs["loss"].item()  # waits for the device
        os._exit(0)


def measure_startup(context: Context, overrides: Sequence[str]) -> dict[str, Any]:
    """Compare seconds of `cnnzoo.run` with the same overrides, of Python alone and of `import torch`."""
    with tempfile.TemporaryDirectory(prefix="cnnzoo-bench-") as outputs:
        run = ["-m", "cnnzoo.run", *overrides]
        exit_early = "+callbacks.exit._target_=benchmarks.startup.ExitAfterFirstStep"
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
        candidates = {name: partial(seconds_of, arguments) for name, arguments in commands.items()}
        return section("s", run_interleaved(candidates, context.config.rounds), "import torch")


def measure_sweep_sizes(context: Context, overrides: Sequence[str], sizes: Sequence[int]) -> dict[str, Any]:
    """Measure the seconds in which a sweep skips so many finished runs, start-up included; `sizes` ascend."""
    with tempfile.TemporaryDirectory(prefix="cnnzoo-bench-") as outputs:
        overrides = [*overrides, f"paths.outputs={outputs}"]
        pretend_finished(overrides, sizes[-1])
        sweep = ["-m", "cnnzoo.run", "-m", *overrides]
        seconds = {size: seconds_of([*sweep, f"seed=range(0,{size})"]) for size in sizes}
        if list(Path(outputs).rglob("metrics.csv")):
            raise UserError("The sweep trained a run that should count as finished, so its time is not of skipping.")
    result = section("s", {str(size): [value] for size, value in seconds.items()})
    if len(sizes) > 1:
        extra = seconds[sizes[-1]] - seconds[sizes[0]]
        result["seconds_per_skipped_run"] = extra / (sizes[-1] - sizes[0])
    return result


def pretend_finished(overrides: Sequence[str], count: int) -> None:
    """Write what makes the runs with seeds 0 to `count - 1` count as finished."""
    config = compose(overrides)
    for seed in range(count):
        write_result(run_folder(replace(config, seed=seed)), {"status": "completed", "val_accuracy": 0.0})


def run_overrides(overrides: Sequence[str]) -> list[str]:
    """Return those of the overrides of `cnnzoo.bench` that `cnnzoo.run` has as well."""
    own = {field.name for field in fields(BenchConfig)} - {field.name for field in fields(Config)}
    return [text for text in overrides if re.split(r"[.=@]", text.lstrip("+~"), maxsplit=1)[0] not in own]


def seconds_of(arguments: Sequence[str]) -> float:
    begin = time.perf_counter()
    run_python(arguments)
    return time.perf_counter() - begin


def run_python(arguments: Sequence[str]) -> None:
    """Run this Python with `arguments`.

    Raises:
        UserError: its exit code is not 0.
    """
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    done = subprocess.run([sys.executable, *arguments], env=os.environ | {"PYTHONPATH": path}, capture_output=True)
    if done.returncode != 0:
        error = done.stderr.decode(errors="replace").strip()[-2000:]
        raise UserError(f"python {' '.join(arguments)} failed with exit code {done.returncode}: {error}")
