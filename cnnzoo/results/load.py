"""Folders of runs as a data frame: one row a run, whatever became of it. No torch."""

import hashlib
import json
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from cnnzoo.config import identity
from cnnzoo.errors import UserError, nearest
from cnnzoo.io import read_small
from cnnzoo.results.run_folder import CORRUPTIONS, SCHEMA_VERSION, RunFileError, check_size, is_running, read_config
from cnnzoo.results.settings import ABSENT, Filter, as_key, as_text, class_name, flatten, is_absent

SETTING = "config."  # what the columns of settings begin with
_MARKS = {"result.json", "config.yaml", ".lock"}
_INSIDE_A_RUN = {"checkpoints", "tensorboard", "figures"}
# The columns from result.json
_WHOLE = ["seed", "params", "macs", "epochs", "best_epoch", "peak_memory_bytes", "published_params", "published_epochs"]
MEASURED = ["val_accuracy", "test_accuracy", "test_accuracy_tta", "corruption_accuracy"]
_SHARES = [*MEASURED, "published_val_accuracy", "published_test_accuracy"]
_NUMBERS = [*_SHARES, "val_loss", "test_loss", "train_seconds", "images_per_second"]
_TEXTS = ["device", "precision", "git_commit", "published_source", "finished", "command"]
_DICTS = ["versions", "source_digests"]
_COLUMNS = ["folder", "status", "problem", "model", "dataset", "settings", *_WHOLE, *_NUMBERS, *_TEXTS, *_DICTS]
_RESULT_ONLY = ("device", "precision", "epochs", "git_commit")  # known of completed and pruned runs
_FILTERED = ("model", "dataset", "seed", "status", *_RESULT_ONLY)
_LISTED = 20  # values named in a message
_LONGEST = 10_000  # characters of a text
_LONGEST_NAME = 255  # as long as a folder's name can be


def load_results(
    folders: str | os.PathLike[str] | Iterable[str | os.PathLike[str]], filters: Iterable[str] = ()
) -> pd.DataFrame:
    """Load every run at or below `folders`, each once, in order of path. What is not known is missing (NaN, NA, None).

    Columns:
        folder, model, dataset, seed; command, which repeats the run; finished, UTC.
        status: `completed`; `running` (a process is at it); `failed`; `unfinished` (begun, and no process is at it);
            `pruned` (a search stopped it early); `damaged` (it cannot be read).
        problem: the error of a failed run, or why a damaged one cannot be read; else empty.
        settings: a hash of all settings but the seed; runs that share `dataset`, `model` and `settings` are one
            configuration. Empty if the settings are not known.
        val_accuracy, test_accuracy, test_accuracy_tta: 0..1; the last one with test-time augmentation.
        corruption_accuracy: 0..1, mean over corruptions and severities; known once evaluate has computed it.
        val_loss, test_loss, params, macs, epochs, best_epoch, train_seconds, images_per_second, peak_memory_bytes,
            device, precision, git_commit, versions (package → version), source_digests (module → digest of
            its file), two dicts: as in result.json.
        published_source, published_test_accuracy, published_val_accuracy, published_params, published_epochs.
        config.<key>: a setting, such as `config.optimizer.lr`: None is the setting `null`, NaN a key that this run's
            configuration does not have. Settings that a newer version added are missing while they have their defaults.

    Args:
        filters: `KEY=VALUE[,VALUE…]`, such as `model=resnet,dense*`, `status=completed` or `optimizer.lr=0.1`.

    Raises:
        UserError: a folder does not exist, or a filter names a key or a value that no run has.
    """
    paths = [os.fspath(path) for path in ([folders] if isinstance(folders, str | os.PathLike) else folders)]
    for path in paths:
        if not os.path.isdir(path):  # noqa: PTH112  (pathlib raises for a text that can be no path)
            raise UserError(
                f"{path}: there is no such folder. Runs lie under paths.outputs: CNNZOO_OUTPUTS if that is set,"
                " else outputs."
            )
    return select(_frame([_read(folder, names) for folder, names in _walk(paths).items()]), filters)


def find_runs(where: Sequence[str]) -> tuple[list[str], pd.DataFrame]:
    """The folders among the words of a command line, and the runs below them that pass the filters among them.

    Raises UserError: no folder, no such folder, no runs in it, or a filter that no run can pass.
    """
    # a folder may have "=" in its name
    filters = [text for text in where if Filter.FORM.fullmatch(text) and not os.path.exists(text)]  # noqa: PTH110
    folders = [text for text in where if text not in filters]
    if not folders:
        raise UserError("no folder given. Name the one that the runs lie under, such as outputs.")
    runs = load_results(folders)
    if runs.empty:
        raise UserError(f"{', '.join(folders)}: no runs there (folders with a config.yaml or result.json).")
    return folders, select(runs, filters)


def setting(runs: pd.DataFrame, key: str) -> list[Any]:
    """The setting `key` of each run, or a column such as `model` or `device`; ABSENT where a run has none.

    A section such as `optimizer` stands for its class, `SGD`.
    """
    if key in _FILTERED:
        pairs = zip(runs[key].tolist(), runs["status"], strict=True)
        return [None if is_absent(value) and status == "completed" else value for value, status in pairs]
    found: list[Any] = [ABSENT] * len(runs)
    for column in runs.columns.intersection([f"{SETTING}{key}._target_", f"{SETTING}{key}"]):
        for i, value in enumerate(runs[column].tolist()):
            if not is_absent(value):
                found[i] = class_name(column, value)
    return found


def settings_of(runs: pd.DataFrame) -> pd.DataFrame:
    """The settings without the seed, one column a dotted key."""
    return runs.filter(regex=f"^{SETTING}").rename(columns=lambda column: column.removeprefix(SETTING))


def select(runs: pd.DataFrame, filters: Iterable[str]) -> pd.DataFrame:
    """The runs that pass all filters, and those that never finished and whose value is not known.

    Raises UserError: a filter names a key that no run has, or a value that no run has.
    """
    for chosen in map(Filter, filters if len(runs) else ()):
        values = pd.Series(setting(runs, chosen.key), index=runs.index, dtype=object)
        known = ~values.map(is_absent)
        present = sorted({as_text(value) for value in values[known]})
        if not present:
            known_keys = [*_FILTERED, *settings_of(runs)]
            raise UserError(f"{chosen.text}: no run has the key '{chosen.key}'.{nearest(chosen.key, known_keys)}")
        accepted = known & values.map(chosen.accepts)
        if not accepted.any():
            raise UserError(
                f"{chosen.text}: no run has that.{nearest(chosen.choices[0], present)}"
                f" There is {chosen.key}={','.join(present[:_LISTED])}{', …' if len(present) > _LISTED else ''}."
            )
        unfinished = runs["status"] != "completed" if chosen.key in _RESULT_ONLY else runs["settings"] == ""
        runs = runs[accepted | (unfinished & ~known)]
    return runs


def _walk(roots: Iterable[str]) -> dict[str, set[str] | None]:
    """Each run's folder and the names in it; None for a folder that cannot be listed."""
    found: dict[str, set[str] | None] = {}
    seen: set[str] = set()
    errors: list[OSError] = []
    for root in roots:
        for folder, below, files in os.walk(root, onerror=errors.append, followlinks=True):
            names, real = {*below, *files}, os.path.realpath(folder)
            is_run = not names.isdisjoint(_MARKS)
            below[:] = sorted(
                name
                for name in below
                if name[0] != "." and not (is_run and name in _INSIDE_A_RUN) and not _leads_up(Path(folder, name), real)
            )
            if real in seen:  # given twice, or linked to
                below.clear()
            elif is_run:
                found[folder] = names
            seen.add(real)
    return found | {str(error.filename): None for error in errors}


def _leads_up(path: Path, parent: str) -> bool:
    """Whether `path` is a link to a folder that contains its `parent`: to the whole disk, at worst."""
    return path.is_symlink() and Path(parent).is_relative_to(os.path.realpath(path))


def _read(folder: str, names: set[str] | None) -> dict[str, Any]:
    """One row of the frame, without what is not known."""
    row = {"folder": folder, "problem": "", "settings": ""}
    try:
        if names is None:
            raise RunFileError("the folder cannot be read (permissions?)")
        if "result.json" in names:
            return row | _read_result(folder)
        running, found = is_running(folder), _read_config(folder)
        if "config.yaml" in names and not found and not running:
            raise RunFileError("config.yaml is not one of cnnzoo's, or cut off")
        return row | found | {"status": "running" if running else "unfinished"}
    except RunFileError as error:
        return row | {"status": "damaged", "problem": str(error)}
    except RecursionError:
        return row | {"status": "damaged", "problem": "result.json is nested too deeply"}
    except Exception as error:  # whatever others wrote, one folder hides no other
        return row | {"status": "damaged", "problem": f"cannot be read ({type(error).__name__}: {error})"}


def _read_result(folder: str) -> dict[str, Any]:
    try:
        content = read_small(Path(folder, "result.json"))
        result = json.loads(content)
    except OSError as error:
        raise RunFileError(f"result.json cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise RunFileError("result.json is cut off or not JSON") from error
    if rb"\ud" in content.lower():  # half a surrogate pair cannot be written anywhere
        result = json.loads(json.dumps(result, ensure_ascii=False).encode("utf-8", "replace"))
    values = _checked(result)
    row = {key: values[key] for key in ("status", "model", "dataset", *_WHOLE, *_NUMBERS) if key in values}
    row |= {key: str(values[key])[:_LONGEST] for key in _TEXTS if key in values}
    row |= {key: {name: str(text) for name, text in values.get(key, {}).items()} for key in _DICTS}
    row |= _settings(values["config"]) if "config" in values else _read_config(folder)
    if row["status"] == "completed":
        row |= _read_corruptions(folder, values.get("config_hash"))
    if row["status"] == "failed" and is_running(folder):
        row["status"] = "running"  # another attempt
    elif row["status"] == "failed":
        row["problem"] = str(values.get("error", "no error recorded")).strip()[:_LONGEST]
    return row


def _read_corruptions(folder: str, config_hash: Any) -> dict[str, Any]:
    """The mean accuracy on corrupted test images, if that file is there and of this run."""
    try:
        found = json.loads(read_small(Path(folder, CORRUPTIONS)))
        share = found["corruption_accuracy"]
        if found["config_hash"] == config_hash and isinstance(share, float) and 0 <= share <= 1:
            return {"corruption_accuracy": share}
    except (OSError, ValueError, TypeError, KeyError, RecursionError):  # a file beside the result hides no run
        pass
    return {}


def _checked(result: Any) -> dict[str, Any]:
    """The values of a `result.json` that are known; those of `published` are `published_<key>`."""
    if not isinstance(result, dict) or not {"status", "schema_version", "config_hash"} & result.keys():
        raise RunFileError("result.json is not one of cnnzoo's")
    version, status = result.get("schema_version"), result.get("status")
    if version != SCHEMA_VERSION:
        newer = isinstance(version, int) and version > SCHEMA_VERSION
        todo = "upgrade cnnzoo" if newer else "run it again with rerun=true"
        raise RunFileError(f"result.json has schema_version {version}, this cnnzoo reads {SCHEMA_VERSION}: {todo}")
    if status not in ("completed", "pruned", "failed"):
        raise RunFileError(f"result.json has status {status!r}, expected 'completed', 'pruned' or 'failed'")
    published = result.get("published")
    if isinstance(published, dict):
        result |= {f"published_{key}": value for key, value in published.items()}
    for key in ("model", "dataset", "config", "published", *_DICTS, *_WHOLE, *_NUMBERS):
        if expected := _expected(key, value := result.get(key)):
            raise RunFileError(f"result.json has {key}={value!r:.80}, expected {expected}")
    try:
        check_size([result.get(key) for key in ("config", "published", *_DICTS)])
    except RunFileError as error:
        raise RunFileError(f"result.json cannot be used: {error}") from error
    known = {key: value for key, value in result.items() if value is not None}
    if status != "failed" and known.keys().isdisjoint({"val_accuracy", "test_accuracy"}):
        raise RunFileError("result.json has neither val_accuracy nor test_accuracy")
    return known


def _expected(key: str, value: Any) -> str | None:
    """What a wrong value should be."""
    if key in ("model", "dataset"):
        fits = isinstance(value, str) and len(value) <= _LONGEST_NAME
        return None if fits else f"a text of at most {_LONGEST_NAME} characters"
    if value is None:
        return None
    if key in ("config", "published", *_DICTS):
        return None if isinstance(value, dict) else "a mapping"
    if not isinstance(value, int | float) or isinstance(value, bool) or abs(value) >= 2**63:
        return "a number"
    if key in _WHOLE and value % 1 != 0:
        return "a whole number"
    return "a share between 0 and 1" if key in _SHARES and not 0 <= value <= 1 else None


def _read_config(folder: str) -> dict[str, Any]:
    """What config.yaml has of a row; nothing if it is not one of cnnzoo's."""
    try:
        config = read_config(Path(folder))
        names = {"model": str(config["name"]), "dataset": str(config["dataset"]["name"]), "seed": int(config["seed"])}
        plain = json.loads(json.dumps(identity(config), default=str))  # YAML has dates and sets, too
        return {} if any(_expected(key, value) for key, value in names.items()) else names | _settings(plain)
    except Exception:  # of a file that others wrote
        return {}


def _settings(config: dict[str, Any]) -> dict[str, Any]:
    flat = {key: value for key, value in flatten(config).items() if key != "seed"}
    text = repr([(key, as_key(flat[key])) for key in sorted(flat)])
    digest = hashlib.blake2b(text.encode(), digest_size=8).hexdigest()
    return {f"{SETTING}{key}": value for key, value in flat.items()} | {"settings": digest}


def _frame(records: list[dict[str, Any]]) -> pd.DataFrame:
    columns = list(dict.fromkeys([*_COLUMNS, *(key for record in records for key in record)]))
    frame = pd.DataFrame(records, columns=columns, dtype=object)  # no type is guessed: None stays None
    types = dict.fromkeys(_WHOLE, "Int64") | dict.fromkeys(_NUMBERS, "float")
    types |= {key: _number_type(frame[key]) for key in columns if key.startswith(SETTING)}
    frame["finished"] = pd.to_datetime(frame["finished"], errors="coerce", utc=True, format="ISO8601")
    return frame.astype(types)


def _number_type(values: "pd.Series[Any]") -> str:
    """The type of a column that holds nothing but numbers, else `object`."""
    known = [value for value in values.tolist() if not is_absent(value)]
    kinds = set(map(type, known))
    if not kinds or not kinds <= {int, float} or max(map(abs, known)) >= 2**63:
        return "object"
    return "Int64" if kinds == {int} else "float"
