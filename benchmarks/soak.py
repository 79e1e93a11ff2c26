"""Kill runs and a sweep at random moments, resume them, and compare what they leave with undisturbed ones, bit for bit.

python benchmarks/soak.py --kills 200 --mtbf 10 --out benchmarks/results/soak-cpu.json

Of six kills, two come after an exponentially distributed time, of which `--mtbf` is the mean; two at a random moment in
the first seconds of a training, one while a file is written, and one between the last epoch and the result. The signal
is drawn from SIGKILL, SIGTERM and SIGINT, its target from the process and its whole group. The same command resumes
until the run has finished; then metrics (but times), predictions, weights and the table must be those of the
undisturbed run.
"""

import argparse
import csv
import json
import os
import platform
import random
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from cnnzoo.io import write_atomically
from cnnzoo.results.provenance import git_commit

BASE = (
    "dataset=digits",
    "trainer=cpu",
    "logger=none",
    "trainer.progress_bar=false",
    "callbacks.checkpoint.minutes=0.02",
)
TINY = ("model=mlp", "model.widths=[32]", "image_size=8")
SMALL = ("image_size=16", "model.blocks_per_group=[1,1]", "model.widths=[8,16]")

# Overrides by name, with the number of epochs.
SCENARIOS: dict[str, tuple[int, tuple[str, ...]]] = {
    "mixup": (
        12,
        (
            *TINY,
            "dataset.batch_size=8",
            "optimizer=sgd",
            "augmentation.mixup=0.5",
            "augmentation.cutmix=1.0",
            "scheduler=plateau",
        ),
    ),
    "dropout": (12, ("model=inception_a", "image_size=28", "augmentation=crop", "scheduler=onecycle")),
    "ema": (
        40,
        (
            "model=resnet",
            *SMALL,
            "augmentation=flip_crop",
            "callbacks=ema",
            "callbacks.ema.decay=0.9",
            "optimizer=adam",
        ),
    ),
    "lookahead": (
        30,
        (
            *("model=preact_resnet", *SMALL),
            "callbacks=lookahead",
            "optimizer=muon",
            "trainer.accumulate_grad_batches=2",
        ),
    ),
    "compiled": (80, (*TINY, "optimizer=adam", "trainer.compile=true", "dataset.batch_size=32")),
    "two processes": (
        30,
        (*TINY, "dataset.batch_size=16", "optimizer=sgd", "trainer.devices=2", "augmentation.mixup=0.2"),
    ),
    "sweep": (15, ("-m", "model=mlp,two_conv", "seed=1,2", "image_size=16", "optimizer=sgd", "augmentation=flip_pad")),
}
AIMS = ("training", "", "writing", "training", "testing", "")  # in turn; "" is any moment
TRAINING_SECONDS = 4.0
SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT)
EXIT_CODES = {number: {-number, 128 + number, 0} for number in SIGNALS}  # 0: it had just finished
# Parts of the names of what may differ.
TIMES = ("seconds", "images_per_second", "memory", "started", "finished", "folder", "command", "git_commit", "digests")


@dataclass
class Report:
    kills: Counter[tuple[str, str, str]] = field(default_factory=Counter)  # by signal, target and phase
    runs: Counter[str] = field(default_factory=Counter)  # that finished, by scenario
    mismatches: list[str] = field(default_factory=list)


def command(scenario: str, outputs: Path) -> list[str]:
    epochs, overrides = SCENARIOS[scenario]
    settings = (*BASE, f"trainer.max_epochs={epochs}", f"paths.outputs={outputs}")
    return [sys.executable, "-m", "cnnzoo.run", *overrides, *settings]


def start(scenario: str, outputs: Path, log: Path) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        command(scenario, outputs),
        stdout=subprocess.DEVNULL,
        stderr=log.open("ab"),
        env=os.environ | {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "passive"},
        start_new_session=True,
        # a child of a job in the background would ignore SIGINT
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )


def run_folders(outputs: Path) -> list[Path]:
    return sorted(file.parent for file in outputs.glob("*/*/*/config.yaml"))


def phase(outputs: Path, epochs: int, since: float) -> str:
    """What the process that started at the time `since` is at, as its files tell."""
    if any(outputs.glob("*/*/*/.*.[0-9]*")) or any(outputs.glob("*/*/*/checkpoints/.*.[0-9]*")):
        return "writing"
    for folder in run_folders(outputs):
        file = folder / "metrics.csv"
        try:
            if (folder / "result.json").exists() or file.stat().st_mtime < since:
                continue
            return "testing" if file.read_text().count("\n") > epochs else "training"
        except OSError:
            continue
    return "starting"


def kill(
    process: subprocess.Popen[bytes], number: signal.Signals, whole_group: bool, report: Report, scenario: str
) -> None:
    """Send the signal, and wait until no process of the run is left."""
    (os.killpg if whole_group else os.kill)(process.pid, number)
    try:
        code = process.wait(120)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        code = process.wait()
    if code not in EXIT_CODES[number]:
        report.mismatches.append(f"{scenario}: exit code {code} after {number.name}")
    deadline = time.monotonic() + 60
    while _group_exists(process.pid):
        if time.monotonic() > deadline:
            report.mismatches.append(f"{scenario}: processes are left after {number.name}")
            os.killpg(process.pid, signal.SIGKILL)
        time.sleep(0.05)


def _group_exists(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


def disturb(
    scenario: str, outputs: Path, log: Path, draw: random.Random, mtbf: float, report: Report, kills: int
) -> None:
    """Run a scenario to its end, with at most `kills` kills on the way."""
    epochs = SCENARIOS[scenario][0]
    while True:
        since = time.time() - 0.01  # file systems round times
        aim = AIMS[report.kills.total() % len(AIMS)]
        due = None if aim else time.monotonic() + draw.expovariate(1 / mtbf)
        number, whole_group = draw.choice(SIGNALS), draw.random() < 0.5
        process = start(scenario, outputs, log)
        while process.poll() is None:
            if due is None and phase(outputs, epochs, since) == aim:
                due = time.monotonic() + (draw.uniform(0, TRAINING_SECONDS) if aim == "training" else 0)
            if kills > 0 and due is not None and time.monotonic() >= due:
                break
            time.sleep(0.001 if aim else 0.02)
        if process.poll() is None:
            report.kills[(number.name, "group" if whole_group else "process", phase(outputs, epochs, since))] += 1
            kills -= 1
            kill(process, number, whole_group, report, scenario)
        elif process.returncode:
            report.mismatches.append(f"{scenario}: exit code {process.returncode} without a signal, see {log}")
            return
        else:
            report.runs[scenario] += 1
            return


def differences(alone: Path, disturbed: Path) -> Iterator[str]:
    """What differs between the folders of two runs, and what a finished run should not have left."""
    for folder in (alone, disturbed):
        for file in folder.rglob("*.ckpt*"):
            if file.name not in ("best.ckpt", "last.ckpt"):
                yield f"{file} is left"
    first, second = (json.loads((folder / "result.json").read_text()) for folder in (alone, disturbed))
    for key in first.keys() | second.keys():
        if not any(word in key for word in TIMES) and first.get(key) != second.get(key):
            yield f"result.json: {key}: {first.get(key)} and {second.get(key)}"
    if _metrics(alone) != _metrics(disturbed):
        yield "metrics.csv"
    arrays = [np.load(folder / "predictions.npz") for folder in (alone, disturbed)]
    if not all(np.array_equal(arrays[0][name], arrays[1][name]) for name in ("logits", "labels")):
        yield "predictions.npz"
    for name in ("best.ckpt", "last.ckpt"):
        states = [torch.load(f / "checkpoints" / name, weights_only=True)["state_dict"] for f in (alone, disturbed)]
        if not all(torch.equal(value, states[1][key]) for key, value in states[0].items()):
            yield name


def _metrics(folder: Path) -> list[dict[str, str]]:
    with (folder / "metrics.csv").open(newline="") as file:
        return [
            {key: cell for key, cell in row.items() if not any(word in key for word in TIMES)}
            for row in csv.DictReader(file)
        ]


def table(outputs: Path) -> list[dict[str, Any]]:
    """The rows of `cnnzoo.compare` without times."""
    words = [sys.executable, "-m", "cnnzoo.compare", str(outputs), "--format", "json"]
    rows = json.loads(subprocess.run(words, capture_output=True, text=True, check=True).stdout)
    return [{k: v for k, v in row.items() if not any(word in k for word in TIMES)} for row in rows]


def compare(scenario: str, alone: Path, disturbed: Path) -> Iterator[str]:
    pairs = [[folder.relative_to(root) for folder in run_folders(root)] for root in (alone, disturbed)]
    if pairs[0] != pairs[1]:
        yield f"{scenario}: runs {pairs[0]} and {pairs[1]}"
        return
    for relative in pairs[0]:
        yield from (f"{scenario}: {text}" for text in differences(alone / relative, disturbed / relative))
    if table(alone) != table(disturbed):
        yield f"{scenario}: the tables differ"


def soak(names: Sequence[str], kills: int, mtbf: float, seed: int, folder: Path) -> Report:
    """Disturb the scenarios in turn, as often as it takes, until there were so many kills."""
    draw, report = random.Random(seed), Report()
    for name in names:
        alone = folder / "alone" / name
        alone.mkdir(parents=True)
        if start(name, alone, alone / "stderr.log").wait():
            raise SystemExit(f"{name} fails without being disturbed: see {alone}/stderr.log")
    turn = 0
    while report.kills.total() < kills and not report.mismatches:
        name = names[turn % len(names)]
        disturbed = folder / f"turn {turn}" / name
        disturbed.mkdir(parents=True)
        log = disturbed / "stderr.log"
        # a few a run, so that every scenario has its turns
        disturb(name, disturbed, log, draw, mtbf, report, min(6, kills - report.kills.total()))
        report.mismatches += compare(name, folder / "alone" / name, disturbed)
        print(f"{report.kills.total()} of {kills} kills, {len(report.mismatches)} mismatches", file=sys.stderr)
        turn += 1
    return report


def show(report: Report) -> None:
    phases = ("starting", "training", "writing", "testing")
    shown = Table("signal", "to", *phases, title=f"{report.kills.total()} kills, {len(report.mismatches)} mismatches")
    for name, target in sorted({key[:2] for key in report.kills}):
        shown.add_row(name, target, *(str(report.kills[(name, target, each)]) for each in phases))
    Console().print(shown)
    for text in report.mismatches:
        print(text)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--mtbf", type=float, default=10.0, help="mean time between failures, in seconds")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--scenarios", default=",".join(SCENARIOS), help="names, separated by commas")
    parser.add_argument("--out", type=Path, help="a JSON file")
    options = parser.parse_args(arguments)
    began = time.monotonic()
    folder = Path(tempfile.mkdtemp(prefix="cnnzoo-soak-"))
    report = soak(options.scenarios.split(","), options.kills, options.mtbf, options.seed, folder)
    if report.mismatches:
        print(f"the runs are kept in {folder}", file=sys.stderr)
    else:
        shutil.rmtree(folder)
    show(report)
    if options.out:
        content = {
            "command": shlex.join(["python", "benchmarks/soak.py", *(arguments or sys.argv[1:])]),
            "kills": report.kills.total(),
            "mean_seconds_between_failures": options.mtbf,
            "mismatches": report.mismatches,
            "kills_by_signal_target_phase": {" ".join(key): count for key, count in sorted(report.kills.items())},
            "finished_runs": dict(report.runs),
            "seconds": round(time.monotonic() - began),
            "machine": f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores",
            "git_commit": git_commit(),
            "torch": torch.__version__,
            "python": platform.python_version(),
        }
        write_atomically(options.out, json.dumps(content, indent=2) + "\n")
    return 1 if report.mismatches else 0


if __name__ == "__main__":
    sys.exit(main())
