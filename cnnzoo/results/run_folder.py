"""A run's folder: its configuration, metrics, predictions and result, written and read. No torch."""

import dataclasses
import json
import os
import shutil
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, suppress
from datetime import UTC, datetime
from io import BytesIO
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from cnnzoo.config import Config, config_hash, identity
from cnnzoo.errors import UserError
from cnnzoo.io import exclusive_lock, is_locked, open_regular, read_small, write_atomically
from cnnzoo.results.provenance import git_commit, source_digests, versions

if TYPE_CHECKING:  # slow to import, and most commands need neither
    import numpy as np
    import pandas as pd

SCHEMA_VERSION = 1
LOCK = ".lock"
CORRUPTIONS = "corruptions.json"  # what evaluate has found for corrupted test images
_PREVIOUS = ".previous"  # what a run that is repeated had left
# Far more than any run has, and far less than what makes a reader of many runs slow.
_MOST_VALUES, _DEEPEST, _LONGEST = 10_000, 50, 10_000
_MOST_CLASSES, _MOST_BYTES = 2**17, 2**28


class RunFileError(Exception):
    """A file of a run cannot be used; the message gives the reason, without the folder."""


def locked(folder: Path) -> AbstractContextManager[None]:
    """Hold a run's folder for this process; raises UserError if another process holds it."""
    busy = f"Another process is already running this configuration: {folder}. Wait for it, or choose another seed."
    return exclusive_lock(folder / LOCK, busy)


def is_running(folder: str | Path) -> bool:
    """Whether a process is at this run."""
    return is_locked(Path(folder, LOCK))


def write_config(folder: Path, config: Config) -> None:
    """Write `config.yaml`: everything that is needed to repeat the run."""
    text = yaml.safe_dump(dataclasses.asdict(config), sort_keys=False, allow_unicode=True)
    write_atomically(folder / "config.yaml", text)


def read_config(folder: Path) -> dict[str, Any]:
    """Read `config.yaml` as the present version would have written it; raises UserError if it cannot be read."""
    try:
        text = read_small(folder / "config.yaml", most=2**18).decode()
        config = yaml.load(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
        check_size(config)
    except (OSError, ValueError, RecursionError, yaml.YAMLError, RunFileError) as error:
        raise UserError(f"{folder} is no run's folder: its config.yaml cannot be read ({error}).") from error
    if not isinstance(config, dict):
        raise UserError(f"{folder}/config.yaml does not hold a configuration.")
    with suppress(KeyError, TypeError, AttributeError):  # sections that are missing stay missing
        dataset, source = config["dataset"], config["dataset"]["source"]
        if source["_target_"].endswith(".image_folder") and "cache" in source:
            dataset["cache"] = source.pop("cache")
        elif source["_target_"].startswith("cnnzoo.data.sources.") and source.get("root") == dataset.get("root"):
            source.pop("root", None)  # it is offered to them now
        if isinstance(config["logger"]["tensorboard"], bool):
            config["logger"] = {}
    return config


def check_size(value: Any) -> None:
    """Raise RunFileError if a value is larger than any settings: aliases in YAML multiply what they name."""
    level = [value]
    for _ in range(_DEEPEST):
        if any(isinstance(node, str) and len(node) > _LONGEST for node in level):
            raise RunFileError(f"a text is longer than {_LONGEST:,} characters")
        level = list(islice((part for node in level for part in _parts(node)), _MOST_VALUES + 1))
        if len(level) > _MOST_VALUES:
            raise RunFileError(f"more than {_MOST_VALUES:,} values")
        if not level:
            return
    raise RunFileError(f"nested deeper than {_DEEPEST} levels")


def _parts(node: Any) -> Iterable[Any]:
    if isinstance(node, Mapping):
        return (*node.keys(), *node.values())
    return node if isinstance(node, list | tuple | set) else ()


def new_result(config: Config, command: str) -> dict[str, Any]:
    """The keys that every `result.json` has, however the run ends."""
    return {
        "schema_version": SCHEMA_VERSION,
        "model": config.name,
        "dataset": config.dataset.name,
        "seed": config.seed,
        "config_hash": config_hash(config),
        "command": command,
        "git_commit": git_commit(),
        "versions": versions(),
        "source_digests": source_digests(config),
        "published": published_metrics(config),
        "config": identity(config),
        "started": now(),
    }


def published_metrics(config: Config) -> dict[str, Any] | None:
    """Accuracies and parameters from the literature, without what only serves to find them."""
    if config.published is None:
        return None
    found = dataclasses.asdict(config.published)
    left_out = ["weights", "model", "dataset"]
    if config.dataset.test is not None:
        left_out.append("test_accuracy")  # which is that of the data set's own test images
    return {key: value for key, value in found.items() if key not in left_out}


def now() -> str:
    """The time, ISO 8601, UTC."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def write_result(folder: Path, result: Mapping[str, Any]) -> None:
    """Write `result.json`, the last file of a run."""
    write_atomically(folder / "result.json", to_json(result) + "\n")


def to_json(values: Mapping[str, Any]) -> str:
    """As JSON, which has no NaN and no infinity: null."""
    return json.dumps(json.loads(json.dumps(dict(values)), parse_constant=lambda name: None), indent=2)


def read_result(folder: Path) -> dict[str, Any] | None:
    """Read `result.json`; None if there is none or it is damaged, as the run counts as unfinished then."""
    try:
        result = json.loads(read_small(folder / "result.json"))
    except (OSError, ValueError, RecursionError):
        return None
    return result if isinstance(result, dict) else None


def describe(result: Mapping[str, Any]) -> str:
    """A completed or pruned run in one line."""
    accuracies = {"test": "test_accuracy", "augmented test": "test_accuracy_tta", "validation": "val_accuracy"}
    words = [
        f"{name} accuracy {100 * result[key]:.2f} %" for name, key in accuracies.items() if result.get(key) is not None
    ]
    if result["status"] == "pruned":
        words.insert(0, f"pruned after epoch {result['epochs']}")
    words.append(f"{result['images_per_second']:.0f} images/s")
    return f"{result['model']} on {result['dataset']}, seed {result['seed']}: {', '.join(words)}"


def set_aside(folder: Path) -> None:
    """Move what a run has left out of the way, so that it can be repeated."""
    previous = folder / _PREVIOUS
    if (previous / "result.json").is_file():  # of the last run that finished; the repetition after it did not
        _clear(folder)
        return
    shutil.rmtree(previous, ignore_errors=True)
    previous.mkdir()
    for entry in _entries(folder):
        entry.rename(previous / entry.name)


def bring_back(folder: Path) -> bool:
    """Undo `set_aside` after a repetition that failed; returns whether there was a result to bring back."""
    previous = folder / _PREVIOUS
    if not (previous / "result.json").is_file():
        return False
    _clear(folder)
    for entry in list(previous.iterdir()):
        entry.rename(folder / entry.name)
    previous.rmdir()
    return True


def drop_previous(folder: Path) -> None:
    """Delete what was kept until there is a result: what `set_aside` has moved, and all but two checkpoints."""
    shutil.rmtree(folder / _PREVIOUS, ignore_errors=True)
    for name in ("previous.ckpt", "damaged.ckpt"):
        (folder / "checkpoints" / name).unlink(missing_ok=True)


def _entries(folder: Path) -> list[Path]:
    return [entry for entry in folder.iterdir() if entry.name not in (LOCK, _PREVIOUS)]


def _clear(folder: Path) -> None:
    for entry in _entries(folder):
        shutil.rmtree(entry) if entry.is_dir() and not entry.is_symlink() else entry.unlink()


@contextmanager
def _reading(name: str) -> Iterator[None]:
    try:
        yield
    except RunFileError:
        raise
    except FileNotFoundError:
        raise RunFileError(f"no {name}") from None
    except OSError as error:
        raise RunFileError(f"{name} cannot be read: {error.strerror or error}") from error
    except Exception as error:  # a parser of a damaged file raises anything
        raise RunFileError(f"{name} is damaged") from error


def read_metrics(folder: str | os.PathLike[str]) -> "pd.DataFrame":
    """Read `metrics.csv`: one row an epoch, NaN for an empty cell; raises RunFileError if it holds no numbers.

    A line that is still being written does not count, so that a run can be read while it goes on.
    """
    import pandas as pd

    with _reading("metrics.csv"):
        content = read_small(Path(folder, "metrics.csv"), most=2**22)
        whole = BytesIO(content[: content.rfind(b"\n") + 1])
        return pd.read_csv(whole, dtype=float, engine="python")  # the other one rounds the last digit


def read_predictions(folder: str | os.PathLike[str], accuracy: float | None) -> "tuple[np.ndarray, np.ndarray]":
    """Read `predictions.npz`: test `logits` `[images, classes]` and `labels` `[images] int`.

    Raises RunFileError: there is no such file, it is damaged, or it contradicts `accuracy`, that of result.json.
    """
    import numpy as np

    with _reading("predictions.npz"), open_regular(Path(folder, "predictions.npz")) as file:
        size = sum(member.file_size for member in zipfile.ZipFile(file).infolist())
        if size > max(_MOST_BYTES, 4 * os.fstat(file.fileno()).st_size):
            raise RunFileError(f"predictions.npz would take {size / 2**20:,.0f} MiB of memory")
        with np.load(file, allow_pickle=False) as arrays:
            if not {"logits", "labels"} <= arrays.keys():
                raise RunFileError("predictions.npz lacks logits or labels")
            logits, labels = arrays["logits"], arrays["labels"]
        if logits.ndim != 2 or labels.shape != logits.shape[:1] or not logits.size or logits.shape[1] > _MOST_CLASSES:
            raise RunFileError(f"logits {list(logits.shape)} and labels {list(labels.shape)} do not fit together")
        if labels.dtype.kind not in "iu" or labels.min() < 0:
            raise RunFileError("the labels in predictions.npz are no class numbers")
        if logits.dtype.kind not in "fiu":
            raise RunFileError("the logits in predictions.npz are no numbers")
        share = float((logits.argmax(axis=1) == labels).mean())
    if accuracy is not None and abs(share - accuracy) > 0.005:  # bf16 logits may tie
        raise RunFileError(f"predictions.npz has {share:.2%} right, result.json {accuracy:.2%}")
    return logits, labels
