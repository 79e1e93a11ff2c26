"""Folders as runs leave them, with invented metrics."""

import json
import random
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

PARAMS = {"googlenet": 260_650, "resnet": 272_378, "preact_resnet": 272_250, "densenet": 239_146}
ACCURACY = {"googlenet": 0.8970, "resnet": 0.9106, "preact_resnet": 0.9107, "densenet": 0.9023}
PUBLISHED = {"source": "a tutorial", "test_accuracy": 0.9106, "val_accuracy": 0.9184, "params": 272378, "url": "x"}


def config(model: str = "resnet", dataset: str = "cifar10", seed: int = 1, lr: float = 0.1) -> dict[str, Any]:
    """The settings of a run, as result.json has them under `config`."""
    return {
        "seed": seed,
        "image_size": 32,
        "model": {"_target_": f"cnnzoo.models.{model}", "num_classes": 10, "activation": "relu", "widths": [16, 32]},
        "dataset": {
            "name": dataset,
            "source": {"_target_": "cnnzoo.data.sources.torchvision_set", "name": dataset.upper()},
            "channels": 3,
            "num_classes": 10,
            "image_size": 32,
            "val_size": 5000,
            "split_seed": 42,
            "mean": None,
            "std": None,
            "batch_size": 128,
            "eval_batch_size": 500,
            "drop_last": True,
        },
        "augmentation": {"flip": 0.5, "scale": [0.8, 1.0], "ratio": [0.9, 1.1], "padding": 0},
        "optimizer": {"_target_": "torch.optim.SGD", "lr": lr, "momentum": 0.9, "weight_decay": 1e-4},
        "scheduler": {
            "_target_": "torch.optim.lr_scheduler.MultiStepLR",
            "interval": "epoch",
            "milestones": [100, 150],
            "gamma": 0.1,
        },
        "loss": {"label_smoothing": 0.0},
        "trainer": {
            "max_epochs": 180,
            "accelerator": "auto",
            "devices": "auto",
            "strategy": "auto",
            "precision": "auto",
            "channels_last": True,
            "compile": False,
            "accumulate_grad_batches": 1,
            "gradient_clip_val": None,
        },
        "callbacks": {},
    }


def result(settings: dict[str, Any], **values: Any) -> dict[str, Any]:
    """A completed run's result.json for these settings; `values` replace or add keys."""
    model, seed = settings["model"]["_target_"].rpartition(".")[2], settings["seed"]
    draw = random.Random(f"{model} {seed} {settings['optimizer']['lr']}")
    test = round(ACCURACY.get(model, 0.9) + draw.gauss(0, 0.002), 4)
    return {
        "schema_version": 1,
        "status": "completed",
        "model": model,
        "seed": seed,
        "dataset": settings["dataset"]["name"],
        "params": PARAMS.get(model, 100_000),
        "macs": 41_000_000,
        "epochs": 180,
        "best_epoch": 160,
        "val_accuracy": round(test + 0.006, 4),
        "val_loss": 0.3,
        "test_accuracy": test,
        "test_loss": 0.32,
        "train_seconds": 3000 + draw.random() * 60,
        "images_per_second": 2700.0,
        "peak_memory_bytes": 10**9,
        "device": "cpu",
        "precision": "32-true",
        "versions": {"torch": "2.14.1", "cnnzoo": "0.1.0"},
        "git_commit": "0" * 40,
        "config_hash": f"{draw.getrandbits(64):016x}",
        "published": None,
        "config": settings,
        "command": f"python -m cnnzoo.run model={model} seed={seed}",
        "started": "2026-01-01T00:00:00+00:00",
        "finished": "2026-01-01T01:00:00+00:00",
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


def write_completed(root: Path, model: str, seed: int, test: float, lr: float = 0.1, **values: Any) -> Path:
    """The folder `<model>-<lr>/seed<seed>` of a completed run with these accuracies."""
    settings = values.pop("config", config(model, seed=seed, lr=lr))
    outcome = result(settings, test_accuracy=test, val_accuracy=min(1.0, round(test + 0.01, 4)), **values)
    return write_run(root / f"{model}-{lr}" / f"seed{seed}", outcome)


def write_unfinished(folder: Path, settings: dict[str, Any]) -> Path:
    """The folder of a run that began with these settings and left no result."""
    (write_run(folder, result(settings)) / "result.json").unlink()
    return folder


def write_predictions(folder: Path, correct: NDArray[Any], labels: NDArray[Any]) -> None:
    """A `predictions.npz` with the right class where `correct`."""
    logits = np.zeros((len(labels), 10), np.float32)
    logits[np.arange(len(labels)), np.where(correct, labels, (labels + 1) % 10)] = 1
    np.savez_compressed(folder / "predictions.npz", logits=logits, labels=labels)


def write_two_networks(root: Path) -> Path:
    """Three seeds of a ResNet, which has published metrics, and of a DenseNet; test means 91.0 % and 90.2 %."""
    for seed, test in {1: 0.91, 2: 0.912, 3: 0.908}.items():
        write_completed(root, "resnet", seed, test, published=PUBLISHED)
    for seed, test in {1: 0.90, 2: 0.905, 3: 0.901}.items():
        write_completed(root, "densenet", seed, test)
    return root


def write_many(folder: Path, runs: int, seeds: int = 10) -> None:
    """`runs` runs: four networks, `seeds` seeds, and as many learning rates as that takes."""
    for i in range(runs):
        model = list(PARAMS)[i // seeds % len(PARAMS)]
        settings = config(model, seed=i % seeds, lr=round(0.001 * (1 + i // (seeds * len(PARAMS))), 6))
        write_run(folder / f"{model}-{i:06d}", result(settings))
