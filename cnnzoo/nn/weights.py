"""Load weights into a network: from a file, a run's folder, a publication, or torchvision's and timm's collections."""

import contextlib
import hashlib
import logging
import pickle
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor, nn
from torch.nn.modules.utils import consume_prefix_in_state_dict_if_present

from cnnzoo.config import Config, instantiate
from cnnzoo.config.schema import PublishedWeightsConfig
from cnnzoo.errors import UserError
from cnnzoo.io import check_archive, write_atomically

log = logging.getLogger(__name__)


# Trainings of the published networks by cnnzoo itself, kept with the repository: <model>/seed<N>, a run's folder each.
RECORDS = Path(__file__).resolve().parents[2] / "benchmarks" / "results" / "published"


def find_weights(config: Config) -> Path:
    """Return the file that `config.weights` stands for: a file, a run's, the published one, or that of our own record.

    Raises:
        UserError: there is no such file, or it cannot be downloaded, or its checksum is wrong.
    """
    weights = str(config.weights)
    if weights == "pretrained":
        raise UserError(
            "weights=pretrained: only a training starts from these; expected a file, a run's folder, 'published' or"
            " 'cnnzoo'."
        )
    if weights == "published":
        if config.published is None or config.published.weights is None:
            raise UserError(
                "weights=published: this configuration names no published weights."
                " Add the experiment that they belong to, such as experiment=uvadlc/resnet."
            )
        return published_file(config.published.weights, Path(config.paths.weights))
    path = recorded_run(config) if weights == "cnnzoo" else Path(weights)
    if path.is_dir():
        path = weights_of_run(path)
    if not path.is_file():
        raise UserError(
            f"weights={weights}: there is no file {path}. Expected a file, a run's folder, 'published' or 'cnnzoo'."
        )
    return path


def weights_of_run(folder: Path) -> Path:
    """Return the file of a run's best weights: its checkpoint, or what `export --format safetensors` made of it."""
    checkpoint, exported = folder / "checkpoints" / "best.ckpt", folder / "model.safetensors"
    return exported if exported.is_file() and not checkpoint.is_file() else checkpoint


def recorded_run(config: Config) -> Path:
    """Return the folder of our own training of a published network: the first seed's.

    Raises:
        UserError: the configuration is of no published network, or there is no record of it.
    """
    if config.published is None:
        raise UserError(
            "weights=cnnzoo: this configuration is of no published network."
            " Add the experiment that the weights belong to, such as experiment=uvadlc/resnet."
        )
    folders = sorted((RECORDS / config.published.model).glob("seed*"))
    if not folders:
        raise UserError(
            f"weights=cnnzoo: {RECORDS} holds no training of {config.published.model}. A clone of the repository has"
            " those that there are; an installed package has none."
        )
    return folders[0]


def published_file(entry: PublishedWeightsConfig, folder: Path) -> Path:
    """Return a published file below `folder`, with or without its collection's folder; download it if it is in neither.

    Raises:
        UserError: it cannot be downloaded, or its checksum is wrong.
    """
    relative = Path(entry.file)
    for candidate in (folder / relative, folder / relative.name):
        if candidate.is_file():
            _check_sha256(candidate.read_bytes(), entry.sha256, str(candidate))
            return candidate
    target = folder / relative
    log.info("downloading %s to %s", entry.url, target)
    try:
        with urllib.request.urlopen(entry.url, timeout=60) as response:
            content = response.read()
    except OSError as error:
        reason = f"HTTP {error.code} {error.reason}" if isinstance(error, urllib.error.HTTPError) else str(error)
        raise UserError(
            f"{entry.url} could not be downloaded ({reason}). Download it by other means to {target.absolute()},"
            " or point paths.weights (environment variable CNNZOO_WEIGHTS) at the folder that has it."
        ) from error
    _check_sha256(content, entry.sha256, entry.url)
    write_atomically(target, content)
    return target


def _check_sha256(content: bytes, expected: str, name: str) -> None:
    found = hashlib.sha256(content).hexdigest()
    if found != expected:
        raise UserError(
            f"{name} is not the published file: its sha256 is {found}, expected {expected}. Delete it and try again."
        )


def load_weights(model: nn.Module, path: Path, config_hash: str | None = None) -> None:
    """Load all of a file's weights into `model`: a Lightning checkpoint, a bare state dict, or safetensors.

    No code of the file is executed (`weights_only=True`).

    Args:
        config_hash: of the configuration that a checkpoint of cnnzoo's must be of; None: any.

    Raises:
        UserError: the file cannot be read, its tensors are not the network's, or it is of another configuration.
    """
    _load(model, _read_state(path, config_hash), str(path))


def load_initial_weights(model: nn.Module, config: Config) -> None:
    """Load `config.weights`, if there are any, as the start of a training (fine-tuning).

    In addition to what `find_weights` finds, `pretrained` takes those that torchvision or timm publishes for this
    network. Only the classifier may differ, in its number of classes: it keeps its initial weights.

    Raises:
        UserError: there are no such weights, or something other than the classifier does not fit.
    """
    if config.weights is None:
        return
    if config.weights == "pretrained":
        state, source = _pretrained_state(config), f"the pretrained weights of {config.name}"
    else:
        path = find_weights(config)
        state, source = _read_state(path), str(path)
    classifier = _classifier_of_other_size(model, state, config.dataset.num_classes)
    classes = {len(state.pop(key)) for key in classifier}
    _load(model, state, source, may_lack=classifier)
    log.info("starting from %s", source)
    if classifier:
        log.info(
            "initial weights kept in %s: %d classes there, %d here",
            ", ".join(dict.fromkeys(key.rpartition(".")[0] for key in classifier)),
            classes.pop(),
            config.dataset.num_classes,
        )


def _classifier_of_other_size(model: nn.Module, state: Mapping[str, Tensor], num_classes: int) -> list[str]:
    """Return the parameters with one output per class that `state` has for another number of classes.

    The last of them belongs to the classifier. If there are several (auxiliary classifiers), `state` has the same
    number of classes in all of them.
    """
    fitting = [
        key
        for key, parameter in model.named_parameters()
        if isinstance(model.get_submodule(key.rpartition(".")[0]), nn.Linear | nn.Conv2d)
        and len(parameter) == num_classes
        and key in state
        and state[key].ndim == parameter.ndim
        and state[key].shape[1:] == parameter.shape[1:]
    ]
    if not fitting or len(state[fitting[-1]]) == num_classes:
        return []
    return [key for key in fitting if len(state[key]) == len(state[fitting[-1]])]


def _pretrained_state(config: Config) -> dict[str, Tensor]:
    """Build the network again as torchvision or timm publishes it, with its own classes, and return its state dict."""
    target = str(config.model.get("_target_"))
    node = {key: value for key, value in config.model.items() if key != "num_classes"}
    if target.startswith("timm."):
        node["pretrained"] = True
    elif target.startswith("torchvision.models."):
        # the one function whose argument `weights` is a text for every network
        node |= {"_target_": "torchvision.models.get_model", "weights": "DEFAULT"}
        node.setdefault("name", target.rpartition(".")[2])
    else:
        raise UserError(
            f"weights=pretrained: model._target_={target} has none; expected a network of torchvision or timm"
            " (model=torchvision, model=timm). Others start from weights=FILE or weights=RUN_FOLDER."
        )
    try:
        with torch.random.fork_rng(devices=[]):  # the run's own random numbers stay the same
            net = instantiate(nn.Module, "model", node, trusted_packages=config.trusted_packages)
    except UserError as error:
        if not isinstance(error.__cause__, OSError):
            raise
        raise UserError(
            f"weights=pretrained: the weights of {config.name} could not be downloaded ({error.__cause__})."
            " Download their file by other means and set weights=FILE, or try again with a network connection."
        ) from error
    return net.state_dict()


def _load(model: nn.Module, state: dict[str, Tensor], source: str, may_lack: Sequence[str] = ()) -> None:
    """Load `state` into `model`, by torch's own rules for older state dicts; all must fit."""
    own = model.state_dict()
    reshaped = sorted(key for key in own.keys() & state.keys() if state[key].shape != own[key].shape)
    shapes = [f"{key} {list(state.pop(key).shape)} instead of {list(own[key].shape)}" for key in reshaped]
    keys = model.load_state_dict(state, strict=False)
    problems = {
        "of another shape": shapes,
        "missing in the file": sorted(set(keys.missing_keys) - {*reshaped, *may_lack}),
        "unknown to the network": sorted(keys.unexpected_keys),
    }
    if any(problems.values()):
        described = "; ".join(f"{title}: {_truncate_list(names)}" for title, names in problems.items() if names)
        raise UserError(
            f"The weights in {source} do not fit {type(model).__name__}. {described}."
            " Choose the model= and its arguments (or the experiment=) that the weights were trained with."
        )


def _truncate_list(names: list[str], most: int = 5) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def _read_state(path: Path, config_hash: str | None = None) -> dict[str, Tensor]:
    """Read a file's state dict, with the versions that torch has noted in it."""
    try:
        if path.suffix == ".safetensors":
            with safe_open(path, "pt") as file:
                made_by = (file.metadata() or {}).get("config_hash")
                content: Any = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 - it is no mapping
        else:
            check_archive(path)
            content = torch.load(path, map_location="cpu", weights_only=True)
            settings = content.get("hyper_parameters") if isinstance(content, dict) else None
            made_by = settings.get("config_hash") if isinstance(settings, dict) else None
    except Exception as error:  # torch's reader of old files fails on other files in every way there is
        raise UserError(f"{path} cannot be read as weights: {_reason(path, error)}. {_EXPECTED}") from error
    state = content["state_dict"] if isinstance(content, dict) and "state_dict" in content else content
    if not isinstance(state, dict):
        raise UserError(f"{path} holds no state dict, but a {type(state).__name__}. {_EXPECTED}")
    if odd := [key for key, value in state.items() if not (isinstance(key, str) and _is_plain(value))]:
        raise UserError(
            f"{path} holds no state dict: {odd[0]!r:.80} is {_describe(state[odd[0]])}, not a dense tensor of numbers."
            f" {_EXPECTED}"
        )
    if None not in (config_hash, made_by) and made_by != config_hash:
        raise UserError(
            f"{path} was made by another configuration ({made_by}) than the config.yaml of its folder ({config_hash})."
            " One of them was changed after the run: get the folder again."
        )
    # Lightning modules commonly keep the network under `model.`, and a loss with class weights next to it.
    others = [key for key in state if not key.startswith("model.")]
    if len(others) < len(state) and (not others or "pytorch-lightning_version" in content):
        for key in others:
            del state[key]
        consume_prefix_in_state_dict_if_present(state, "model.")
    return state


_EXPECTED = "Expected names and tensors: a Lightning checkpoint, torch.save(net.state_dict(), FILE), or .safetensors."


def _reason(path: Path, error: Exception) -> str:
    if isinstance(error, OSError):
        return error.strerror or str(error)
    if isinstance(error, pickle.UnpicklingError):
        with contextlib.suppress(Exception):  # not of files in torch's old format
            objects = torch.serialization.get_unsafe_globals_in_checkpoint(path)
            return f"it holds {', '.join(sorted(objects)[:3])}, and loading such objects could run their code"
        return "it holds objects that could run code, or is no file of weights"
    return "it is damaged, or no file of weights"


def _describe(value: Any) -> str:
    if not isinstance(value, Tensor):
        return f"a {type(value).__name__}"
    return f"a {type(value).__name__} of {value.dtype} ({value.layout}, on {value.device})"


def _is_plain(value: Any) -> bool:
    """Whether a value is a tensor of numbers; compressed sparse ones, for one, can point outside of their memory."""
    return (
        type(value) in (Tensor, nn.Parameter)
        and value.layout is torch.strided
        and not (value.is_quantized or value.is_complex() or value.is_meta or value.is_nested)
    )
