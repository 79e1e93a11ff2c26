"""Accuracy and seconds of a speed recipe: any number of runs in one process, after one for warming up.

python benchmarks/speedrun.py --runs 20 trainer.compile=true
python benchmarks/speedrun.py --runs 20 experiment=speedrun/cifar10_94_sgd trainer.compile=true

Every run is an ordinary one, `cnnzoo.run` with another seed, and replaces a finished one. As published, `seconds`
cover the initialisation from images, training, and the test, with test-time augmentation if the recipe has it; the
images are on the device by then. Compilation happens in the warm-up and is reported separately: `warm_up_seconds` are
those of that run, `wall_seconds` those of a whole run, reading and writing included.
"""

import argparse
import json
import logging
import shlex
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from cnnzoo.config import compose
from cnnzoo.console import set_up_logging
from cnnzoo.io import write_atomically
from cnnzoo.results.stats import t_interval
from cnnzoo.run import run

log = logging.getLogger("cnnzoo.speedrun")

METRICS = ("test_accuracy", "test_accuracy_tta", "seconds", "train_seconds", "test_seconds", "wall_seconds")
SHARED = ("model", "dataset", "params", "macs", "epochs", "device", "precision", "versions", "git_commit", "config")


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "overrides", nargs="*", help="as for cnnzoo.run; experiment=speedrun/cifar10_94 if none is named"
    )
    parser.add_argument(
        "--runs", type=int, default=10, help="seeds 1, 2, …, after seed 0 for the warm-up (%(default)s)"
    )
    parser.add_argument(
        "--out", type=Path, help="a file for the metrics of all runs, such as benchmarks/results/….json"
    )
    options = parser.parse_intermixed_args(arguments)
    if options.runs < 1:
        parser.error(f"--runs {options.runs}: expected at least 1")
    set_up_logging()
    report = measure(options.overrides, options.runs)
    report["command"] = "python benchmarks/speedrun.py " + shlex.join(sys.argv[1:] if arguments is None else arguments)
    if options.out is not None:
        write_atomically(options.out, json.dumps(report, indent=2) + "\n")
        log.info("written: %s", options.out)
    print(summary(report))


def measure(overrides: Sequence[str], runs: int) -> dict[str, Any]:
    """Return the metrics of `runs` runs, their mean, standard deviation and the mean's 95 % interval (Student's t)."""
    if not any(override.startswith("experiment=") for override in overrides):
        overrides = ["experiment=speedrun/cifar10_94", *overrides]
    results = [one(overrides, seed) for seed in range(runs + 1)]
    warm_up, results = results[0], results[1:]
    report = {key: results[0][key] for key in SHARED}
    report["config"] = {key: value for key, value in report["config"].items() if key != "seed"}
    for metric in METRICS:
        if metric in results[0]:
            values = [result[metric] for result in results]
            report[metric] = {
                "mean": fmean(values),
                "std": stdev(values) if runs > 1 else None,
                "interval95": t_interval(values),
            }
    report["warm_up_seconds"] = warm_up["seconds"]
    report["runs"] = [
        {key: result[key] for key in ("seed", *METRICS, "images_per_second", "peak_memory_bytes") if key in result}
        for result in results
    ]
    return report


def one(overrides: Sequence[str], seed: int) -> dict[str, Any]:
    started = time.perf_counter()
    words = [*overrides, f"seed={seed}"]
    config = compose([*words, "rerun=true", "trainer.progress_bar=false"])
    result = run(config, "python -m cnnzoo.run " + shlex.join(words))
    return {
        **result,
        "seconds": result["train_seconds"] + result["test_seconds"],
        "wall_seconds": time.perf_counter() - started,
    }


def summary(report: dict[str, Any]) -> str:
    lines = [f"{report['model']} on {report['dataset']}, {len(report['runs'])} runs, {report['device']}"]
    for metric in METRICS:
        if metric not in report:
            continue
        scale, unit = (100, "%") if "accuracy" in metric else (1, "s")
        mean, std, interval = (report[metric][key] for key in ("mean", "std", "interval95"))
        text = f"{metric:18}{scale * mean:8.3f}"
        if std is not None:
            text += f" ± {scale * std:.3f} {unit}, 95 % interval {scale * interval[0]:.3f} – {scale * interval[1]:.3f}"
        lines.append(f"{text} {unit}")
    lines.append(f"{'warm_up_seconds':18}{report['warm_up_seconds']:8.3f} s, compilation included")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
