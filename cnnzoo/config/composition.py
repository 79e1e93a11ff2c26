"""Hydra's composition, with what this project adds: every configuration that it yields is completed and checked.

Hydra 1.3 has no public hook at these points, so four of its methods are wrapped, each for the reason beside it.
"""

import copy
import hashlib
import os
import re
import shutil
import warnings
from pathlib import Path
from typing import Any

from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.config_repository import CachingConfigRepository, ConfigRepository, IConfigRepository
from hydra.core.object_type import ObjectType
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf, open_dict

from cnnzoo.config import cuda, folders, schema
from cnnzoo.config.check import check

_PACKAGE = Path(__file__).resolve().parents[1]
# An installed wheel carries the configuration inside the package, a checkout beside it.
CONF_DIR = _PACKAGE / "conf" if (_PACKAGE / "conf").is_dir() else _PACKAGE.parent / "conf"


def to_plain(cfg: DictConfig) -> dict[str, Any]:
    """The configuration in plain dicts and lists, every interpolation resolved."""
    return {
        str(key): OmegaConf.to_container(node, resolve=True, throw_on_missing=True)
        if OmegaConf.is_config(node)
        else node
        for key, node in cfg.items()
        if key != "hydra"  # Hydra's own part has values that are filled in later only
    }


compose_unchecked = ConfigLoaderImpl.load_configuration


def _compose_checked(
    loader: ConfigLoaderImpl, config_name: str | None, overrides: list[str], run_mode: RunMode, **kwargs: Any
) -> DictConfig:
    """Hydra's loader with a last step: what it composes is completed and checked before anybody sees it.

    So `--cfg job`, runs and every job of a sweep refuse the same mistakes.
    """
    cfg = compose_unchecked(loader, config_name, overrides, run_mode, **kwargs)
    if run_mode == RunMode.RUN and "model" in cfg:
        with open_dict(cfg):
            _keep_own_arguments(cfg)
            if cfg.name is None:
                cfg.name = _model_name(cfg)
            choices = cfg.hydra.runtime.choices
            if cfg.published and (cfg.published.model, cfg.published.dataset) != (choices.model, choices.dataset):
                cfg.published = None  # experiment=... with another network or data set: no figures for that
        check(to_plain(cfg))
    return cfg


ConfigLoaderImpl.load_configuration = _compose_checked  # type: ignore[method-assign, assignment]

_options = ConfigLoaderImpl.get_group_options


def _options_with_folders(
    loader: ConfigLoaderImpl, group_name: str, results_filter: ObjectType | None = ObjectType.CONFIG, **kwargs: Any
) -> list[str]:
    """A group's choices, those in folders as `folder/choice`: `experiment=glob(uvadlc/*)` finds them so.

    Hydra 1.3 lists the files of one folder only, and a glob that matches none of them is a sweep of no jobs.
    """
    choices = _options(loader, group_name, results_filter, **kwargs)
    if results_filter == ObjectType.CONFIG and group_name in _GROUPS_WITH_FOLDERS:
        for folder in _options(loader, group_name, ObjectType.GROUP, **kwargs):
            inner = _options_with_folders(loader, f"{group_name}/{folder}", results_filter, **kwargs)
            choices += [f"{folder}/{choice}" for choice in inner if f"{folder}/{choice}" not in choices]
    return choices


_GROUPS_WITH_FOLDERS = ("experiment",)
ConfigLoaderImpl.get_group_options = _options_with_folders  # type: ignore[method-assign, assignment]


def _share_sources(self: CachingConfigRepository, delegate: IConfigRepository) -> None:
    """Hydra copies all sources with all they hold (10 ms) each time it composes or lists a group's choices.

    It does so because `initialize_sources` may replace them afterwards; a shallow copy is safe from that, too.
    """
    self.delegate = copy.copy(delegate)
    self.cache = {}


CachingConfigRepository.__init__ = _share_sources  # type: ignore[method-assign]


def freeze(loader: ConfigLoaderImpl, folder: Path) -> None:
    """Lets `loader` read copies of its YAML files from now on, so that edits do not reach what it composes later.

    The copies lie in `folder`, one set for each state of the files, and stay as a record of it.
    """
    for entry in loader.config_search_path.get_path():
        scheme, _, path = (entry.path or "").rpartition("://")
        if scheme not in ("", "file") or not Path(path).is_dir():
            continue
        files = {file.relative_to(path): file.read_bytes() for file in sorted(Path(path).rglob("*.yaml"))}
        digest = hashlib.sha256(repr(files).encode()).hexdigest()[:12]
        frozen = folder.absolute() / f"conf-{digest}"
        if not frozen.is_dir():
            beside = frozen.with_name(f".{frozen.name}.{os.getpid()}")
            for name, content in files.items():
                (beside / name).parent.mkdir(parents=True, exist_ok=True)
                (beside / name).write_bytes(content)
            try:
                beside.rename(frozen)
            except OSError:  # another sweep has just made the same
                shutil.rmtree(beside)
        entry.path = f"file://{frozen}"
    loader.repository = ConfigRepository(loader.config_search_path)


def _overridden(cfg: DictConfig, section: str) -> set[str]:
    """Keys of `section` that the command line sets."""
    return {
        match[1]
        for override in cfg.hydra.overrides.task
        if (match := re.match(rf"[+~]*{section}\.(\w+)", override)) is not None
    }


def _keep_own_arguments(cfg: DictConfig) -> None:
    """`model._target_=elsewhere.Net` leaves the replaced network's arguments behind, bar those typed beside it.

    `num_classes` stays, for it is what torchvision and timm call it too.
    """
    typed = _overridden(cfg, "model")
    if "_target_" in typed:
        for key in [str(key) for key in cfg.model]:
            if key not in typed | {"num_classes"}:
                del cfg.model[key]


def _model_name(cfg: DictConfig) -> str:
    if "_target_" in _overridden(cfg, "model"):
        return str(cfg.model._target_).rpartition(".")[2]
    return str(cfg.hydra.runtime.choices.model)


# conf/hydra/launcher/*.yaml have their plugins' names, and with them the types of the plugins' settings: just as meant.
warnings.filterwarnings("ignore", r"\s*'hydra/launcher/\w+' is validated against ConfigStore schema")

schema.register()
folders.register()
cuda.register()
