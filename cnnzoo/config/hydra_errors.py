"""One message for an error of Hydra or OmegaConf, with the nearest right word where a word was wrong."""

import json
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml
from hydra.errors import ConfigCompositionException, HydraException, MissingConfigException, OverrideParseException
from omegaconf import BooleanNode, DictConfig, FloatNode, IntegerNode, ListConfig, OmegaConf, StringNode
from omegaconf.errors import (
    ConfigAttributeError,
    ConfigKeyError,
    InterpolationResolutionError,
    MissingMandatoryValue,
    OmegaConfBaseException,
    ValidationError,
)

from cnnzoo.errors import UserError, nearest

# What a key takes, by the kind of node that OmegaConf keeps it in.
_EXPECTED: dict[type, str] = {
    IntegerNode: "a whole number",
    FloatNode: "a number",
    BooleanNode: "true or false",
    StringNode: "a text",
    ListConfig: "a list, such as [A,B]",
    DictConfig: "names and values, such as {NAME: VALUE}",
}


def explain(error: BaseException, conf_dir: Path) -> str:
    """The message of an exception; `conf_dir` holds the choices of each group."""
    if isinstance(error, UserError):
        return str(error)
    if isinstance(error, MissingConfigException) and error.missing_cfg_file:
        return _no_such_choice(error, conf_dir)
    if isinstance(error, OverrideParseException):
        return _no_override(error.override)
    cause = error
    # OmegaConf leaves what a resolver or another value raised in the context.
    while isinstance(cause, ConfigCompositionException | InterpolationResolutionError) and (
        inner := cause.__cause__ or cause.__context__
    ):
        cause = inner
    if isinstance(cause, UserError):
        return str(cause)
    if isinstance(cause, ConfigKeyError | ConfigAttributeError):
        return _no_such_key(cause, conf_dir)
    if isinstance(cause, yaml.MarkedYAMLError) and (mark := cause.problem_mark or cause.context_mark):
        return f"{mark.name}, line {mark.line + 1}: not YAML: {cause.problem or cause.context}."
    if isinstance(cause, MissingMandatoryValue):
        key = cause.full_key or str(cause.msg or cause).rpartition(" ")[2]
        return f"{key}=… is missing: it has no value of its own and needs one on the command line."
    if isinstance(cause, ValidationError) and cause.full_key:
        return _wrong_type(cause)
    if isinstance(cause, OmegaConfBaseException):
        message = str(cause.msg or cause).strip().split("\n")[0]
        return f"{cause.full_key}: {message}" if cause.full_key else message
    if isinstance(cause, HydraException):
        return str(cause).strip()
    if isinstance(error, OmegaConfBaseException):
        return str(error.msg or error).strip().split("\n")[0]
    if isinstance(error, ValueError) and str(error).startswith("Config group override"):
        return "A group takes the name of a choice, in files of conf/GROUP: GROUP=CHOICE. --help lists them."
    if isinstance(cause, UnicodeDecodeError):
        return f"A YAML file is not UTF-8 ({cause})."
    return f"{type(error).__name__}: {error}"


def _no_override(text: str) -> str:
    key, _, value = text.partition("=")
    if not value:
        return f"{text}: not of the form KEY=VALUE or GROUP=CHOICE."
    escaped = value.strip("'\"").replace("\\", "\\\\").replace('"', '\\"')
    quoted = shlex.quote(f'{key}="{escaped}"')
    return (
        f"{text}: {value} is not a value, such as 0.1, [1,2] or {{a: 1}}. A text with other characters than letters of"
        f" the English alphabet, digits and /-_.:+%@ needs quotes of its own: {quoted}"
    )


def choices(group: Path) -> list[str]:
    """The choices of a group, from its folder of YAML files; those in a folder as `folder/choice`."""
    return sorted(str(file.relative_to(group).with_suffix("")) for file in group.rglob("[!_]*.yaml"))


def _no_such_choice(error: MissingConfigException, conf_dir: Path) -> str:
    missing = str(error.missing_cfg_file)
    group, _, choice = missing.partition("/")
    # Hydra's own groups have folders in their names.
    folder = conf_dir / group
    options = [name for name in error.options or [] if not name.startswith("_")]  # those of --config-dir too
    known = sorted({*choices(folder), *options})
    if group == "hydra":
        group, _, choice = missing.rpartition("/")
        known = list(error.options or [])
    if not group or not folder.is_dir():
        return str(error).strip()
    listed = f" Choices: {', '.join(known)}; --config-dir FOLDER adds your own." if known else ""
    inner, _, inner_choice = choice.partition("/")
    if inner_choice and (conf_dir / inner).is_dir():  # of a defaults list
        listed = f" To choose from the group {inner}, a file's defaults list has `override /{inner}: {inner_choice}`."
        return f"{group}={choice}: no such choice.{listed}"
    return f"{group}={choice}: no such choice.{nearest(choice, known)}{listed}"


def _wrong_type(error: ValidationError) -> str:
    value = error.value if isinstance(error.value, str) else json.dumps(error.value, default=str)
    expected = _EXPECTED.get(type(error.child_node), "")
    if not expected and isinstance(error.parent_node, ListConfig):
        expected = "a list of numbers" if "float" in str(error.ref_type) else "a list of whole numbers"
    return f"{error.full_key}={value}: expected {expected or 'another type'}."


def _no_such_key(error: ConfigKeyError | ConfigAttributeError, conf_dir: Path) -> str:
    key = str(error.full_key or error.key)
    section, _, last = key.rpartition(".")
    node = error.parent_node
    siblings = [str(name) for name in node if name != "hydra"] if isinstance(node, DictConfig) else []
    if not section and key not in siblings and (conf_dir / key).is_dir():
        first_line = "and the first line of that file has to be `# @package _global_`"
        return f"{key}: no such key. {key}=CHOICE chooses a file of conf/{key}, {first_line}."
    suggestion = nearest(last, siblings)
    root: Any = node and node._get_root()
    if isinstance(root, DictConfig):  # `lr` for `optimizer.lr`
        meant = [name for name in _leaves(root) if name.rpartition(".")[2] in (last, f"max_{last}")]
        if meant:
            suggestion = f" Did you mean '{meant[0]}'?"
    listed = f" {section or 'The configuration'} has {', '.join(siblings)}." if siblings else ""
    is_open = section and node is not None and OmegaConf.get_type(node) is dict
    add = f" +{key}=VALUE adds an argument." if is_open else ""
    if is_open and any(word.startswith(f"{section}=") and "," in word for word in sys.argv):
        # Hydra has composed the default choice, none of those of the sweep.
        return (
            f"{key}: the default {section} has no such key; in a sweep over {section}, ++{key}=VALUE sets it in each,"
            " and all of them need it."
        )
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
