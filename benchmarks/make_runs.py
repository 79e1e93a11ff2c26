"""Folders as runs leave them, with invented figures: for tests and for timing the comparison of very many.

python benchmarks/make_runs.py FOLDER 10000
python benchmarks/make_runs.py FOLDER 10000 --time       # and time cnnzoo.compare on them, with its peak memory

10,000 runs, 2 cores of an Intel Xeon, files in the page cache: 1.5 s and 74 MiB for the table (1,000 runs: 0.5 s,
57 MiB), 0.9 s for --status; with --seeds 1, that is 10,000 rows: 1.9 s and 124 MiB.
"""

import argparse
import json
import random
import resource
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

MODELS = {"googlenet": 260_650, "resnet": 272_378, "preact_resnet": 272_250, "densenet": 239_146}
PUBLISHED = {"googlenet": 0.8970, "resnet": 0.9106, "preact_resnet": 0.9107, "densenet": 0.9023}


def config(model: str = "resnet", dataset: str = "cifar10", seed: int = 1, lr: float = 0.1) -> dict[str, Any]:
    """The settings of a run, as result.json holds them under `config`."""
    return {
        "seed": seed,
        "image_size": 32,
        "model": {"_target_": f"cnnzoo.models.{model}", "num_classes": 10, "activation": "relu", "widths": [16, 32]},
        "dataset": {
            "name": dataset,
            "source": {"_target_": "cnnzoo.data.sources.torchvision_set", "name": dataset.upper()},
            **{"channels": 3, "num_classes": 10, "image_size": 32, "val_size": 5000, "split_seed": 42},
            **{"mean": None, "std": None, "batch_size": 128, "eval_batch_size": 500, "drop_last": True},
        },
        "augmentation": {"flip": 0.5, "scale": [0.8, 1.0], "ratio": [0.9, 1.1], "padding": 0},
        "optimizer": {"_target_": "torch.optim.SGD", "lr": lr, "momentum": 0.9, "weight_decay": 1e-4},
        "scheduler": {
            "_target_": "torch.optim.lr_scheduler.MultiStepLR",
            **{"interval": "epoch", "milestones": [100, 150], "gamma": 0.1},
        },
        "loss": {"label_smoothing": 0.0},
        "trainer": {
            **{"max_epochs": 180, "accelerator": "auto", "devices": "auto", "strategy": "auto", "precision": "auto"},
            **{"channels_last": True, "compile": False, "accumulate_grad_batches": 1, "gradient_clip_val": None},
        },
        "callbacks": {},
    }


def result(settings: dict[str, Any], **values: Any) -> dict[str, Any]:
    """A completed run's result.json for these settings; `values` replace or add keys."""
    model, seed = settings["model"]["_target_"].rpartition(".")[2], settings["seed"]
    draw = random.Random(f"{model} {seed} {settings['optimizer']['lr']}")
    test = round(PUBLISHED.get(model, 0.9) + draw.gauss(0, 0.002), 4)
    return {
        **{"schema_version": 1, "status": "completed", "model": model, "seed": seed},
        **{"dataset": settings["dataset"]["name"]},
        **{"params": MODELS.get(model, 100_000), "macs": 41_000_000, "epochs": 180, "best_epoch": 160},
        **{"val_accuracy": round(test + 0.006, 4), "val_loss": 0.3, "test_accuracy": test, "test_loss": 0.32},
        **{"train_seconds": 3000 + draw.random() * 60, "images_per_second": 2700.0, "peak_memory_bytes": 10**9},
        **{"device": "cpu", "precision": "32-true", "versions": {"torch": "2.14.1", "cnnzoo": "0.1.0"}},
        **{"git_commit": "0" * 40, "config_hash": f"{draw.getrandbits(64):016x}", "published": None},
        **{"config": settings, "command": f"python -m cnnzoo.run model={model} seed={seed}"},
        **{"started": "2026-01-01T00:00:00+00:00", "finished": "2026-01-01T01:00:00+00:00"},
        **values,
    }


def write_run(folder: Path, outcome: dict[str, Any]) -> Path:
    """A run's folder with what the comparison reads."""
    (folder / "checkpoints").mkdir(parents=True, exist_ok=True)
    (folder / "tensorboard").mkdir(exist_ok=True)
    whole = outcome.get("config", {}) | {"name": outcome["model"], "paths": {"data": "data"}, "rerun": False}
    (folder / "config.yaml").write_text(json.dumps(whole))  # JSON is YAML
    (folder / "result.json").write_text(json.dumps(outcome))
    return folder


def write_many(folder: Path, runs: int, seeds: int = 10) -> None:
    """`runs` runs: four networks, `seeds` seeds, and as many learning rates as that takes."""
    for i in range(runs):
        model = list(MODELS)[i // seeds % len(MODELS)]
        settings = config(model, seed=i % seeds, lr=round(0.001 * (1 + i // (seeds * len(MODELS))), 6))
        write_run(folder / f"{model}-{i:06d}", result(settings))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("runs", type=int, nargs="?", default=10_000)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--time", action="store_true", help="run cnnzoo.compare on them")
    arguments = parser.parse_args()
    write_many(arguments.folder, arguments.runs, arguments.seeds)
    for extra in (["--format=json"], ["--format=md"], ["--status"]) if arguments.time else ():
        begin = time.perf_counter()
        command = [sys.executable, "-m", "cnnzoo.compare", str(arguments.folder), *extra]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
        print(f"{arguments.runs} runs, {extra[0]}: {time.perf_counter() - begin:.2f} s, at most {peak:.0f} MiB so far")


if __name__ == "__main__":
    main()
