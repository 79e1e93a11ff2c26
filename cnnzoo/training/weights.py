"""Weights from a file, a run's folder or a publication into a network."""

import hashlib
import logging
import pickle
import urllib.error
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from cnnzoo.errors import UserError
from cnnzoo.results.record import write_atomically

log = logging.getLogger(__name__)


def find_weights(weights: str, config: Mapping[str, Any]) -> Path:
    """The file that `weights` means: a file, the best checkpoint of a run's folder, or the published one.

    Raises:
        UserError: there is no such file, or it cannot be downloaded, or its checksum is wrong.
    """
    if weights == "published":
        published = config.get("published") or {}
        if not published.get("weights"):
            raise UserError(
                "weights=published: this configuration names no published weights."
                " Add the experiment they belong to, such as experiment=uvadlc/resnet."
            )
        return published_file(published["weights"], Path(config["paths"]["weights"]))
    path = Path(weights)
    if path.is_dir():
        path = path / "checkpoints" / "best.ckpt"
    if not path.is_file():
        raise UserError(f"weights={weights}: there is no file {path}. Expected a file, a run's folder, or 'published'.")
    return path


def published_file(entry: Mapping[str, Any], folder: Path) -> Path:
    """A published file below `folder`, with or without its collection's folder; downloaded when it is in neither."""
    relative = Path(entry["file"])
    for candidate in (folder / relative, folder / relative.name):
        if candidate.is_file():
            _check_sha256(candidate.read_bytes(), entry["sha256"], str(candidate))
            return candidate
    target, url = folder / relative, entry["url"]
    log.info("downloading %s to %s", url, target)
    try:
        with urllib.request.urlopen(url, timeout=60) as answer:
            content = answer.read()
    except (urllib.error.URLError, OSError) as error:
        reason = f"HTTP {error.code} {error.reason}" if isinstance(error, urllib.error.HTTPError) else str(error)
        raise UserError(
            f"{url} could not be downloaded ({reason}). Download it by other means and put it to {target.absolute()},"
            " or point paths.weights (environment variable CNNZOO_WEIGHTS) at the folder that has it."
        ) from error
    _check_sha256(content, entry["sha256"], url)
    write_atomically(target, content)
    return target


def _check_sha256(content: bytes, expected: str, name: str) -> None:
    found = hashlib.sha256(content).hexdigest()
    if found != expected:
        raise UserError(
            f"{name} is not the published file: its sha256 is {found}, expected {expected}. Delete it and try again."
        )


def load_weights(model: nn.Module, path: Path) -> None:
    """Puts a file's weights into `model`: a Lightning checkpoint, a bare state dict, or safetensors.

    Nothing in the file is executed (`weights_only=True`).

    Raises:
        UserError: the file cannot be read, or its tensors are not the network's.
    """
    state = _read_state(path)
    own = model.state_dict()
    missing = sorted(own.keys() - state.keys())
    unexpected = sorted(state.keys() - own.keys())
    reshaped = [
        f"{key} {list(state[key].shape)} instead of {list(own[key].shape)}"
        for key in own.keys() & state.keys()
        if state[key].shape != own[key].shape
    ]
    problems = [
        f"{title}: {_some(names)}"
        for title, names in (
            ("of another shape", sorted(reshaped)),
            ("missing in the file", missing),
            ("unknown to the network", unexpected),
        )
        if names
    ]
    if problems:
        raise UserError(
            f"The weights in {path} do not fit {type(model).__name__}. {'; '.join(problems)}."
            " Choose the model= and its arguments (or the experiment=) that the weights were trained with."
        )
    model.load_state_dict(state)


def _some(names: list[str], most: int = 5) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def _read_state(path: Path) -> dict[str, Tensor]:
    try:
        if path.suffix == ".safetensors":
            content: Any = load_file(path)
        else:
            content = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, EOFError, ValueError, pickle.UnpicklingError, SafetensorError) as error:
        reason = str(error).strip().split("\n")[0]
        raise UserError(f"{path} cannot be read as weights: {type(error).__name__}: {reason}") from error
    if isinstance(content, Mapping) and isinstance(content.get("state_dict"), Mapping):
        content = content["state_dict"]
    if not isinstance(content, Mapping) or not all(isinstance(value, Tensor) for value in content.values()):
        raise UserError(f"{path} holds no state dict: expected a mapping of names to tensors.")
    # Lightning modules keep the network under `model.`, whoever wrote them.
    if content and all(key.startswith("model.") for key in content):
        return {key.removeprefix("model."): value for key, value in content.items()}
    return dict(content)
