"""A run's folder: where it is, who may write to it, and what is written there. No torch."""

import contextlib
import fcntl
import hashlib
import importlib.metadata
import json
import os
import platform
import subprocess
import time
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import yaml

from cnnzoo.errors import UserError

SCHEMA_VERSION = 1

# What a configuration holds besides that which changes a run's result.
_WITHOUT_EFFECT = ("name", "paths", "logger", "published", "rerun")
LOADING = ("resident", "workers")  # of the section `dataset`: how images get to where they are used


# Options younger than others' results, with the values under which a run is what it was before them.
_LATER = {
    "augmentation": {"flip_mode": "random", "padding_mode": "constant"},
    "trainer": {"compile_mode": "default"},
    "tta": "none",
}


def identity(config: Mapping[str, Any]) -> dict[str, Any]:
    """The part of a resolved configuration that changes the run's result, `seed` included."""
    result = {key: value for key, value in config.items() if key not in _WITHOUT_EFFECT}
    result["trainer"] = {
        key: value
        for key, value in config["trainer"].items()
        if key not in ("progress_bar", "checkpoint_every_n_epochs")
    }
    # Where a standard data set lies changes nothing; a folder of the user's own is the data set.
    dataset = {key: value for key, value in config["dataset"].items() if key not in LOADING}
    result["dataset"] = _without_value(dataset, config["paths"]["data"])
    return _without_defaults(result, _LATER)


def _without_defaults(node: Mapping[str, Any], defaults: Mapping[str, Any]) -> dict[str, Any]:
    return {
        key: _without_defaults(value, defaults[key]) if isinstance(defaults.get(key), Mapping) else value
        for key, value in node.items()
        if key not in defaults or value != defaults[key]
    }


def _without_value(node: Any, value: Any) -> Any:
    if isinstance(node, Mapping):
        return {k: _without_value(v, value) for k, v in node.items() if v != value}
    return node


def config_hash(config: Mapping[str, Any]) -> str:
    """16 hexadecimal digits that stand for a run's identity."""
    text = json.dumps(identity(config), sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def run_folder(config: Mapping[str, Any]) -> Path:
    """`<outputs>/<data set>/<name>/seed<seed>-<hash>`: one configuration, one folder."""
    leaf = f"seed{config['seed']}-{config_hash(config)[:10]}"
    return Path(config["paths"]["outputs"]).absolute() / config["dataset"]["name"] / config["name"] / leaf


def write_atomically(path: Path, content: str | bytes) -> None:
    """Writes beside `path` and renames, so that readers find the old file or the new one, never half of one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with beside.open("wb") as file:
            file.write(content.encode() if isinstance(content, str) else content)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)


def write_config(folder: Path, config: Mapping[str, Any]) -> None:
    write_atomically(folder / "config.yaml", yaml.safe_dump(dict(config), sort_keys=False, allow_unicode=True))


def read_config(folder: Path) -> dict[str, Any]:
    """The resolved configuration of a run.

    Raises:
        UserError: there is none, or it cannot be read.
    """
    try:
        config = yaml.safe_load((folder / "config.yaml").read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError) as error:
        raise UserError(f"{folder} is no run's folder: its config.yaml cannot be read ({error}).") from error
    if not isinstance(config, dict):
        raise UserError(f"{folder}/config.yaml does not hold a configuration.")
    return config


def read_result(folder: Path) -> dict[str, Any] | None:
    """`result.json`, or None where there is none or it is damaged: the run counts as unfinished then."""
    try:
        result = json.loads((folder / "result.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return result if isinstance(result, dict) else None


def write_result(folder: Path, result: Mapping[str, Any]) -> None:
    """Writes `result.json`, the last act of a run. NaN is no JSON and becomes null."""
    write_atomically(folder / "result.json", json.dumps(_without_nan(dict(result)), indent=2, allow_nan=False) + "\n")


def _without_nan(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {k: _without_nan(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_without_nan(v) for v in value]
    if isinstance(value, float) and (value != value or value in (float("inf"), float("-inf"))):
        return None
    return value


def describe(result: Mapping[str, Any]) -> str:
    """A completed or pruned run in a few words."""
    figures = {"test": "test_accuracy", "augmented test": "test_accuracy_tta", "validation": "val_accuracy"}
    words = [
        f"{name} accuracy {100 * result[key]:.2f} %" for name, key in figures.items() if result.get(key) is not None
    ]
    if result["status"] == "pruned":
        words.insert(0, f"pruned after epoch {result['epochs']}")
    words.append(f"{result['images_per_second']:.0f} images/s")
    return f"{result['model']} on {result['dataset']}, seed {result['seed']}: {', '.join(words)}"


def now() -> str:
    """This moment, ISO 8601, UTC."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def common_fields(config: Mapping[str, Any], command: str) -> dict[str, Any]:
    """What every `result.json` says, however the run ended."""
    return {
        "schema_version": SCHEMA_VERSION,
        "model": config["name"],
        "dataset": config["dataset"]["name"],
        "seed": config["seed"],
        "config_hash": config_hash(config),
        "command": command,
        "git_commit": git_commit(),
        "versions": versions(),
        "published": published_figures(config),
        "config": identity(config),
    }


def published_figures(config: Mapping[str, Any]) -> dict[str, Any] | None:
    """The figures from the literature beside a result, without what is needed only to download weights."""
    published = config.get("published")
    return (
        {key: published[key] for key in published if key not in ("weights", "model", "dataset")} if published else None
    )


def versions() -> dict[str, str]:
    """Versions of all that has a say in the result."""
    found = {"python": platform.python_version()}
    for package in ("cnnzoo", "torch", "torchvision", "pytorch-lightning", "hydra-core", "numpy"):
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[package] = importlib.metadata.version(package)
    return found


def git_commit() -> str | None:
    """Commit of the checkout that cnnzoo runs from, `-dirty` where files differ from it; None for a wheel."""
    root = Path(__file__).resolve().parents[2]
    if not (root / ".git").exists():
        return None
    try:
        answer = subprocess.run(
            ["git", "describe", "--always", "--abbrev=40", "--dirty", "--exclude=*"],
            cwd=root, capture_output=True, text=True, timeout=20, check=True,
        )  # fmt: skip
    except (OSError, subprocess.SubprocessError):
        return None
    return answer.stdout.strip() or None


@contextlib.contextmanager
def locked(folder: Path, busy: str = "Another process is at this very run") -> Iterator[None]:
    """Holds the folder for this process. The lock is the kernel's and dies with the process, however that ends.

    Raises:
        UserError: another process holds it; `busy` says what that is doing.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("a") as file:
        for attempt in range(10):
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if attempt == 9:
                    raise UserError(f"{busy}: {folder}. Wait for it, or choose another seed.") from None
                time.sleep(0.02)  # may be no more than an onlooker's glance whether the run is alive
        yield
