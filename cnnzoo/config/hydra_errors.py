"""One message for an error of Hydra or OmegaConf, with the nearest right word where a word was wrong."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from hydra.errors import ConfigCompositionException, HydraException, MissingConfigException, OverrideParseException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import (
    ConfigAttributeError,
    ConfigKeyError,
    InterpolationResolutionError,
    MissingMandatoryValue,
    OmegaConfBaseException,
)

from cnnzoo.errors import UserError, nearest


def explain(error: BaseException, conf_dir: Path) -> str:
    """The message of an exception; `conf_dir` holds the choices of each group."""
    if isinstance(error, UserError):
        return str(error)
    if isinstance(error, MissingConfigException) and error.missing_cfg_file:
        return _no_such_choice(error, conf_dir)
    if isinstance(error, OverrideParseException):
        return f"{error.override}: not of the form KEY=VALUE or GROUP=CHOICE. {error}"
    cause = error
    # OmegaConf leaves what a resolver or another value raised in the context.
    while isinstance(cause, ConfigCompositionException | InterpolationResolutionError) and (
        inner := cause.__cause__ or cause.__context__
    ):
        cause = inner
    if isinstance(cause, UserError):
        return str(cause)
    if isinstance(cause, ConfigKeyError | ConfigAttributeError):
        return _no_such_key(cause)
    if isinstance(cause, MissingMandatoryValue):
        key = cause.full_key or str(cause.msg or cause).rpartition(" ")[2]
        return f"{key}=… is missing: it has no value of its own and needs one on the command line."
    if isinstance(cause, OmegaConfBaseException):
        message = str(cause.msg or cause).strip().split("\n")[0]
        return f"{cause.full_key}: {message}" if cause.full_key else message
    if isinstance(cause, HydraException):
        return str(cause).strip()
    return f"{type(error).__name__}: {error}"


def _no_such_choice(error: MissingConfigException, conf_dir: Path) -> str:
    missing = str(error.missing_cfg_file)
    group, _, choice = missing.partition("/")
    # Choices in folders are written `folder/choice`; Hydra's own groups have folders in their names instead.
    folder = conf_dir / group
    choices = sorted(str(file.relative_to(folder).with_suffix("")) for file in folder.rglob("[!_]*.yaml"))
    if group == "hydra":
        group, _, choice = missing.rpartition("/")
        choices = list(error.options or [])
    if not group or not choice:
        return str(error).strip()
    listed = f" Choices: {', '.join(choices)}." if choices else ""
    return f"{group}={choice}: no such choice.{nearest(choice, choices)}{listed}"


def _no_such_key(error: ConfigKeyError | ConfigAttributeError) -> str:
    key = str(error.full_key or error.key)
    section, _, last = key.rpartition(".")
    node = error.parent_node
    siblings = [str(name) for name in node if name != "hydra"] if isinstance(node, DictConfig) else []
    suggestion = nearest(last, siblings)
    if not section and isinstance(node, DictConfig):  # `lr` for `optimizer.lr`
        meant = [name for name in _leaves(node) if name.rpartition(".")[2] in (last, f"max_{last}")]
        if meant:
            suggestion = f" Did you mean '{meant[0]}'?"
    listed = f" {section or 'The configuration'} has {', '.join(siblings)}." if siblings else ""
    is_open = section and node is not None and OmegaConf.get_type(node) is dict
    add = f" +{key}=VALUE adds an argument." if is_open else ""
    return f"{key}: no such key.{suggestion}{listed}{add}"


def _leaves(node: DictConfig, prefix: str = "") -> Iterator[str]:
    for key in map(str, node):
        if key == "hydra" or OmegaConf.is_missing(node, key) or OmegaConf.is_interpolation(node, key):
            continue
        value: Any = node[key]
        if isinstance(value, DictConfig):
            yield from _leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}"
