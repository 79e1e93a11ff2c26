"""A run's identity: the settings that change its result (marked in `schema`), their hash, and its folder."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import MISSING, Field, asdict, fields, is_dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from cnnzoo.config.schema import Config


def identity(config: Config | Mapping[str, Any]) -> dict[str, Any]:
    """The part of a configuration that changes the run's result, `seed` included, in plain containers.

    `cnnzoo.config.schema` says at each field whether it belongs to it. `config` may also be the contents of a
    `config.yaml`; keys that the schema no longer has are kept.
    """
    return _settings(Config, config) if isinstance(config, Mapping) else _settings(type(config), asdict(config))


def _settings(schema: Any, node: Mapping[str, Any]) -> dict[str, Any]:
    known = {field.name: field for field in fields(schema)}
    result: dict[str, Any] = {}
    for key, value in node.items():
        if field := known.get(key):
            belongs = field.metadata.get("identity", True)
            if not (belongs(SimpleNamespace(**node)) if callable(belongs) else belongs):
                continue
            if isinstance(value, Mapping) and is_dataclass(field.type):
                value = _settings(field.type, value)
            elif isinstance(value, Mapping):
                defaults, others = field.metadata.get("defaults", {}), field.metadata.get("not_identity", ())
                value = {
                    name: item
                    for name, item in value.items()
                    if name not in others and (name not in defaults or item != defaults[name])
                }
            if value == _default(field):
                continue
        result[key] = value
    return result


def _default(field: Field[Any]) -> Any:
    if field.default_factory is MISSING:
        return field.default
    default = field.default_factory()
    return {} if is_dataclass(default) else default  # a section of which only defaults were left out


def config_hash(config: Config) -> str:
    """16 hexadecimal digits that stand for a run's identity."""
    text = json.dumps(identity(config), sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def run_folder(config: Config) -> Path:
    """`<outputs>/<data set>/<name>/seed<seed>-<hash>`: one configuration, one folder."""
    leaf = f"seed{config.seed}-{config_hash(config)[:10]}"
    return Path(config.paths.outputs).absolute() / config.dataset.name / str(config.name) / leaf
