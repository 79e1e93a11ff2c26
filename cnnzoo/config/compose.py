"""Compose a `Config` with Hydra."""

import dataclasses
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

import hydra
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException

from cnnzoo.config import resolvers, schema
from cnnzoo.config.hydra_errors import explain
from cnnzoo.config.instantiate import own_packages
from cnnzoo.config.schema import Config
from cnnzoo.errors import UserError, nearest

_PACKAGE = Path(__file__).resolve().parents[1]
# An installed wheel has the configuration inside the package, a checkout next to it.
CONF_DIR = _PACKAGE / "conf" if (_PACKAGE / "conf").is_dir() else _PACKAGE.parent / "conf"


def compose(overrides: Sequence[str] = (), config_name: str = "run") -> Config:
    """Return the configuration that these arguments of the command line would give.

    `config_name` is a command: `bench` gives its `BenchConfig`.

    Raises:
        UserError: the overrides do not compose, or a value is out of its range.
    """
    with hydra.initialize_config_dir(str(CONF_DIR), version_base="1.3"):
        try:
            return to_config(hydra.compose(config_name, list(overrides), return_hydra_config=True))
        except (HydraException, OmegaConfBaseException) as error:
            raise UserError(explain(error, CONF_DIR)) from error
        except (AssertionError, AttributeError, TypeError, ValueError) as error:  # of Hydra, where a value has no place
            raise UserError(explain(error, CONF_DIR)) from error


def to_config(cfg: DictConfig, hydra_config: Any = None) -> Config:
    """Complete what Hydra has composed, and return it as checked objects, every interpolation resolved.

    What is typed is trusted: packages in `trusted_packages`, and the user's own modules in a `_target_`. A file may
    come from anybody, and trusts nothing.

    Args:
        cfg: the composed configuration.
        hydra_config: its Hydra node, where that is not in `cfg`.

    Raises:
        UserError: an unknown key, or a value out of its range.
        OmegaConfBaseException: a value is missing or cannot be resolved.
    """
    hydra_config = cfg.hydra if hydra_config is None else hydra_config
    choices = hydra_config.runtime.choices
    keys = [match[1] for text in hydra_config.overrides.task if (match := re.match(r"[+~]*([\w.]+)=", text))]
    for group, example in (("model", "resnet"), ("dataset", "cifar10")):
        if group not in choices:
            raise UserError(f"{group}: expected one choice, such as {group}={example}; -m runs several, one by one.")
    cfg = cfg.copy()
    if any(re.match(r"[+~]*hydra\.callbacks\b", text) for text in hydra_config.overrides.hydra):
        raise UserError(
            "hydra.callbacks: Hydra calls whatever these name, so cnnzoo leaves them out (conf/hydra_targets.yaml)."
            " Those of a training are callbacks.NAME._target_=…, those of Lightning."
        )
    if cfg.trusted_packages and "trusted_packages" not in keys:
        raise UserError(
            f"trusted_packages={cfg.trusted_packages} comes from a file, and a file is no reason to trust a package."
            f" If you do: 'trusted_packages=[{','.join(map(str, cfg.trusted_packages))}]' on the command line."
        )
    typed = re.findall(r"_target_['\"]?\s*[=:]\s*['\"]?(\w+)", " ".join(hydra_config.overrides.task))
    with open_dict(cfg):
        cfg.pop("hydra", None)
        cfg.trusted_packages = [*dict.fromkeys([*cfg.trusted_packages, *own_packages(typed)])]
        for section in ("model", "loss"):
            if f"{section}._target_" in keys:
                # The arguments of what is replaced are not this one's. `num_classes` stays, as torchvision's and timm's
                # functions take it without naming it.
                for key in [key for key in cfg[section] if f"{section}.{key}" not in keys and key != "num_classes"]:
                    del cfg[section][key]
        if cfg.name is None:
            cfg.name = str(cfg.model._target_).rpartition(".")[2] if "model._target_" in keys else choices.model
        if cfg.published and (cfg.published.model, cfg.published.dataset) != (choices.model, choices.dataset):
            cfg.published = None  # these figures are of another network or data set
    _refuse_missing_values(cfg)
    _refuse_unknown_keys(OmegaConf.get_type(cfg), cfg)
    config = OmegaConf.to_object(cfg)
    assert isinstance(config, Config)
    return config


def _refuse_unknown_keys(kind: Any, node: Any, section: str = "") -> None:
    """Refuse what nothing would read: Hydra's `+KEY=VALUE` adds any key, to a typed section too."""
    if not (dataclasses.is_dataclass(kind) and isinstance(node, DictConfig)):
        return
    known = {field.name: field.type for field in dataclasses.fields(kind)}
    for key in map(str, node):
        if key not in known:
            raise UserError(
                f"{section}{key}: nothing reads this key.{nearest(key, known)}"
                f" {section.rstrip('.') or 'The configuration'} has {', '.join(known)}."
                + (" Other flags of Lightning's Trainer: +trainer.extra.KEY=VALUE." if section == "trainer." else "")
            )
        if not OmegaConf.is_missing(node, key):
            types = [known[key], *get_args(known[key])]  # of an optional section
            for each in types:
                _refuse_unknown_keys(each, node[key], f"{section}{key}.")


def _refuse_missing_values(cfg: DictConfig) -> None:
    """Name all values that are missing, together; OmegaConf names the first that something asks for."""
    missing = list(_missing_values(cfg))
    if not missing:
        return
    message = f"{'=…, '.join(missing)}=… {'are' if missing[1:] else 'is'} missing: no file has a value."
    if sum(key.startswith("dataset.") for key in missing) > 1:
        message += (
            " The file of a data set starts with `defaults: [_base]`, which has most of them, and sets name, source,"
            " channels, num_classes and image_size."
        )
    raise UserError(f"{message} On the command line: {missing[0]}=VALUE.")


def _missing_values(node: DictConfig, prefix: str = "") -> Iterator[str]:
    for key in map(str, node):
        if OmegaConf.is_missing(node, key):
            yield f"{prefix}{key}"
        elif not OmegaConf.is_interpolation(node, key) and isinstance(node[key], DictConfig):
            yield from _missing_values(node[key], f"{prefix}{key}.")


def from_dict(kind: type[Any], values: Mapping[str, Any]) -> Any:
    """Return the configuration object `kind` with these values, checked like typed ones.

    The values are final: a `${…}` in them is text.

    Raises:
        UserError: an unknown key, a wrong type, or a value out of its range.
    """
    try:
        return OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(kind), _escaped(values)))
    except OmegaConfBaseException as error:
        raise UserError(explain(error, CONF_DIR)) from error


def _escaped(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _escaped(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_escaped(item) for item in value]
    return value.replace("${", "\\${") if isinstance(value, str) else value


schema.register()
resolvers.register()
