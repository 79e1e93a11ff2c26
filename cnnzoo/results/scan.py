"""Finding runs on disk and reading what each one left; every folder that looks like a run is accounted for."""

import fcntl
import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from cnnzoo.errors import UserError
from cnnzoo.results.configurations import Configurations
from cnnzoo.results.record import SCHEMA_VERSION, identity

_MARKS = frozenset({"result.json", "config.yaml", ".lock"})
_INSIDE_A_RUN = frozenset({"checkpoints", "tensorboard", "figures"})
_NUMBERS = (
    *("val_accuracy", "test_accuracy", "val_loss", "test_loss", "params", "macs", "epochs", "best_epoch"),
    *("train_seconds", "images_per_second", "peak_memory_bytes"),
)


class Published(NamedTuple):
    """Figures from the literature for a run's configuration; accuracies 0..1."""

    source: str | None
    test_accuracy: float | None
    val_accuracy: float | None
    params: int | None
    epochs: int | None


@dataclass(slots=True)
class Run:
    """What is known of one run's folder.

    `state` is `completed`, `pruned` (a search stopped it), `failed` (`problem` holds its error), `running` (its lock is
    held), `unfinished`, or `damaged` (`problem` says why it cannot be read). `config` is a number in `Configurations`.
    """

    folder: str
    state: str
    problem: str = ""
    model: str | None = None
    dataset: str | None = None
    seed: int | None = None
    config: int | None = None
    val_accuracy: float | None = None
    test_accuracy: float | None = None
    val_loss: float | None = None
    test_loss: float | None = None
    params: int | None = None
    macs: int | None = None
    epochs: int | None = None
    best_epoch: int | None = None
    train_seconds: float | None = None
    images_per_second: float | None = None
    peak_memory_bytes: int | None = None
    device: str | None = None
    precision: str | None = None
    git_commit: str | None = None
    versions: tuple[tuple[str, str], ...] = ()
    published: Published | None = None
    finished: str = ""
    command: str = ""


def scan(folders: Sequence[str | os.PathLike[str]], configurations: Configurations) -> Iterator[Run]:
    """Every run at or below `folders`, in order of path, each once; their settings go into `configurations`.

    Raises:
        UserError: one of the folders does not exist.
    """
    for folder in folders:
        if not Path(folder).is_dir():
            raise UserError(
                f"{folder}: there is no such folder. Runs lie under paths.outputs: CNNZOO_OUTPUTS if that is set,"
                " else outputs."
            )
    interned: dict[Any, Any] = {}  # thousands of runs share their versions, devices and published figures
    for path, names in _walk([os.fspath(folder) for folder in folders]):
        if names is None:
            yield Run(path, "damaged", "the folder cannot be read (permissions?)")
            continue
        run = _read(path, names, configurations)
        for field in ("model", "dataset", "device", "precision", "git_commit", "versions", "published"):
            value = getattr(run, field)
            setattr(run, field, interned.setdefault(value, value))
        yield run


def _walk(roots: list[str]) -> Iterator[tuple[str, set[str] | None]]:
    """Folders with the marks of a run, and their entries' names (None: unreadable)."""
    seen: set[tuple[int, int]] = set()  # a folder given twice, or linked to, counts once
    stack = roots[::-1]
    while stack:
        folder = stack.pop()
        try:
            status = os.stat(folder)  # noqa: PTH116  (Path objects are slow by the ten thousand)
            if (status.st_dev, status.st_ino) in seen:
                continue
            seen.add((status.st_dev, status.st_ino))
            with os.scandir(folder) as entries:
                listed = [(entry.name, entry.is_dir()) for entry in entries]
        except OSError:
            yield folder, None
            continue
        names = {name for name, _ in listed}
        is_run = not names.isdisjoint(_MARKS)
        if is_run:
            yield folder, names
        below = [n for n, is_dir in listed if is_dir and n[0] != "." and not (is_run and n in _INSIDE_A_RUN)]
        stack += [os.path.join(folder, name) for name in sorted(below, reverse=True)]  # noqa: PTH118


def _read(folder: str, names: set[str], configurations: Configurations) -> Run:
    if "result.json" not in names:
        return _without_result(folder)
    try:
        result = json.loads(Path(folder, "result.json").read_bytes())
    except OSError as error:
        return Run(folder, "damaged", f"result.json cannot be read: {error.strerror}")
    except (ValueError, RecursionError):
        return Run(folder, "damaged", "result.json is cut off or not JSON")
    if problem := _problem(result):
        return Run(folder, "damaged", problem)
    run = Run(folder, result["status"], model=result.get("model"), dataset=result.get("dataset"))
    run.seed, run.finished = result.get("seed"), str(result.get("finished") or "")
    config = result.get("config")
    if config is None and run.state == "completed":
        config = settings_on_disk(folder)
    if isinstance(config, dict):
        run.config = configurations.add(config)
    if run.state == "failed":
        run.problem = str(result.get("error") or "no error recorded").strip()
        run.command = str(result.get("command") or "")
        if is_running(folder):  # being tried again
            run.state = "running"
        return run
    for field in _NUMBERS:
        setattr(run, field, result.get(field))
    run.device, run.precision = _text(result.get("device")), _text(result.get("precision"))
    run.git_commit = _text(result.get("git_commit"))
    if isinstance(versions := result.get("versions"), dict):
        run.versions = tuple(sorted((str(k), str(v)) for k, v in versions.items()))
    if isinstance(published := result.get("published"), dict):
        run.published = Published(*(published.get(field) for field in Published._fields))
    return run


def _text(value: Any) -> str | None:
    return None if value is None else str(value)


def _problem(result: Any) -> str:
    """Why a parsed result.json is not one that this version can read; empty if it is."""
    if not isinstance(result, dict) or not {"status", "schema_version", "config_hash"} & result.keys():
        return "result.json is not one of cnnzoo's"
    version = result.get("schema_version")
    if version != SCHEMA_VERSION:
        newer = isinstance(version, int) and version > SCHEMA_VERSION
        todo = "upgrade cnnzoo" if newer else "run it again with rerun=true"
        return f"result.json has schema_version {version}, this cnnzoo reads {SCHEMA_VERSION}: {todo}"
    if result.get("status") not in ("completed", "pruned", "failed"):
        return f"result.json has status {result.get('status')!r}, expected 'completed', 'pruned' or 'failed'"
    for field, kind in (("model", str), ("dataset", str), ("seed", int | None)):
        if not isinstance(result.get(field), kind):
            return f"result.json has {field}={result.get(field)!r}, expected a {'text' if kind is str else 'number'}"
    if result["status"] == "failed":
        return ""
    for field in _NUMBERS:
        value = result.get(field)
        if value is not None and (isinstance(value, bool) or not isinstance(value, int | float)):
            return f"result.json has {field}={value!r}, expected a number"
        if field.endswith("accuracy") and value is not None and not 0 <= value <= 1:
            return f"result.json has {field}={value}, expected a share between 0 and 1"
    if result.get("val_accuracy") is None and result.get("test_accuracy") is None:
        return "result.json has neither val_accuracy nor test_accuracy"
    return ""


def _without_result(folder: str) -> Run:
    if is_running(folder):
        return Run(folder, "running")
    try:
        text = Path(folder, "config.yaml").read_text(encoding="utf-8", errors="replace")
    except OSError:
        text = ""  # it stopped before it wrote its configuration
    if text and not all(word in text for word in ("model", "seed", "_target_")):
        return Run(folder, "damaged", "config.yaml is not one of cnnzoo's, or cut off")
    return Run(folder, "unfinished")


def is_running(folder: str) -> bool:
    """Whether some process holds the run's lock (`flock` on `.lock`); it goes with its process."""
    try:
        handle = os.open(Path(folder, ".lock"), os.O_RDONLY)
    except OSError:
        return False
    try:
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)  # shared: two onlookers do not take each other for a run
        return False
    except OSError:
        return True
    finally:
        os.close(handle)


def read_config(folder: str) -> dict[str, Any] | None:
    """A run's config.yaml in plain containers; None where there is none that can be read."""
    try:
        with Path(folder, "config.yaml").open(encoding="utf-8") as file:
            config = yaml.load(file, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    except (OSError, ValueError, yaml.YAMLError):
        return None
    return config if isinstance(config, dict) else None


def settings_on_disk(folder: str) -> dict[str, Any] | None:
    """What `result.json` calls `config`, from config.yaml (milliseconds a file): the settings that change a result."""
    try:
        return identity(read_config(folder) or {})
    except (KeyError, TypeError, AttributeError):  # not a configuration of ours
        return None
