"""How every configured command starts: compose with Hydra, check, run, and say plainly what is wrong."""

import functools
import logging
import os
import re
import shlex
import sys
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import hydra
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra.core.hydra_config import HydraConfig
from hydra.core.object_type import ObjectType
from hydra.errors import ConfigCompositionException, HydraException, MissingConfigException, OverrideParseException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException

from cnnzoo.config import folders, schema
from cnnzoo.config.check import check
from cnnzoo.errors import UserError, nearest

log = logging.getLogger(__name__)

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


_compose_unchecked = ConfigLoaderImpl.load_configuration


def _compose_checked(
    loader: ConfigLoaderImpl, config_name: str | None, overrides: list[str], run_mode: RunMode, **kwargs: Any
) -> DictConfig:
    """Hydra's loader with a last step: what it composes is completed and checked before anybody sees it.

    Hydra 1.3 has no public hook at this point, and one is needed: `--cfg job`, runs and every job of a sweep must
    refuse the same mistakes.
    """
    cfg = _compose_unchecked(loader, config_name, overrides, run_mode, **kwargs)
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


def compose(overrides: Sequence[str] = (), config_name: str = "run") -> DictConfig:
    """Composes a configuration as the command line would, from Python.

    Raises:
        UserError: the overrides do not compose, or do not pass the checks.
    """
    with hydra.initialize_config_dir(str(CONF_DIR), version_base="1.3"):
        try:
            return hydra.compose(config_name, list(overrides))
        except (HydraException, OmegaConfBaseException) as error:
            raise UserError(_explain(error)) from error


def command(config_name: str) -> Callable[[Callable[[DictConfig], Any]], Callable[[], None]]:
    """Makes a function of one configuration into a command line: Hydra's, with errors that help.

    Whatever fails ends in one message a failure on stderr and exit code 1; of a sweep, every other job is done first.
    The traceback is shown on request: HYDRA_FULL_ERROR=1.
    """

    def decorate(task: Callable[[DictConfig], Any]) -> Callable[[], None]:
        failures: list[tuple[list[str], Exception]] = []
        jobs = 0

        @functools.wraps(task)
        def guarded(cfg: DictConfig) -> Any:
            nonlocal jobs
            jobs += 1
            try:
                return task(cfg)
            except Exception as error:
                if not HydraConfig.get().launcher._target_.endswith(".BasicLauncher"):
                    raise  # in another process, where nobody would read what is kept here
                # Kept for the end: Hydra would print its own account of it, and of a sweep the first failure only.
                failures.append((list(HydraConfig.get().overrides.task), error))
                return None

        main = hydra.main(config_path=str(CONF_DIR), config_name=config_name, version_base="1.3")(guarded)

        @functools.wraps(task)
        def wrapper() -> None:
            nonlocal jobs
            failures.clear()
            jobs = 0
            asked_for = os.environ.get("HYDRA_FULL_ERROR")
            os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra hands its exceptions on instead of printing them
            try:
                main()
            except KeyboardInterrupt:
                print("interrupted; the same command goes on from the last checkpoint", file=sys.stderr)
                sys.exit(130)
            except Exception as error:
                failures.append(([], error))
            finally:
                os.environ.pop("HYDRA_FULL_ERROR")
                if asked_for is not None:
                    os.environ["HYDRA_FULL_ERROR"] = asked_for
            if not failures and _is_local_sweep(sys.argv) and jobs == 0:
                failures.append(([], UserError("The sweep has no jobs: glob(...) matches no choice of its group.")))
            for overrides, failure in failures:
                _report(failure, overrides, with_traceback=asked_for == "1")
            if failures:
                sys.exit(1)

        return wrapper

    return decorate


def _is_local_sweep(arguments: Sequence[str]) -> bool:
    """Whether the jobs of a sweep ran in this process, where they can be counted."""
    return bool({"-m", "--multirun"} & {*arguments}) and not any(a.startswith("hydra/launcher") for a in arguments)


def _report(error: Exception, overrides: list[str], with_traceback: bool) -> None:
    if with_traceback:
        traceback.print_exception(error)
    print(f"error: {_explain(error)}", file=sys.stderr)
    if overrides:
        print(f"  in: {shlex.join(overrides)}", file=sys.stderr)
    if not with_traceback and not isinstance(error, UserError | HydraException | OmegaConfBaseException):
        print("HYDRA_FULL_ERROR=1 before the command shows where it came from.", file=sys.stderr)


def _explain(error: BaseException) -> str:
    """The message of an exception, with the nearest right word where a word was wrong."""
    if isinstance(error, UserError):
        return str(error)
    if isinstance(error, MissingConfigException) and error.missing_cfg_file:
        group, _, choice = str(error.missing_cfg_file).partition("/")
        options = _choices(group)
        if not options:  # Hydra's own groups have folders in their names
            group, _, choice = str(error.missing_cfg_file).rpartition("/")
            options = list(error.options or [])
        if group and choice:
            listed = f" Choices: {', '.join(sorted(options))}." if options else ""
            return f"{group}={choice}: no such choice.{nearest(choice, options)}{listed}"
    if isinstance(error, OverrideParseException):
        return f"{error.override}: not of the form KEY=VALUE or GROUP=CHOICE. {error}"
    cause: BaseException = error
    while isinstance(cause, ConfigCompositionException) and cause.__cause__ is not None:
        cause = cause.__cause__
    text = str(error)
    if match := re.search(r"Could not override '([^'@]+)'", text):
        return _unknown_key(match[1])
    if match := re.search(r"Error merging override (\S+)", text):
        return f"{match[1]}: {_first_line(cause)}"
    if isinstance(error, HydraException | OmegaConfBaseException):
        return _first_line(cause)
    return f"{type(error).__name__}: {error}"


def _choices(group: str) -> list[str]:
    """All choices of a group, those in folders as `folder/name`."""
    folder = CONF_DIR / group
    return sorted(str(file.relative_to(folder).with_suffix("")) for file in folder.rglob("*.yaml"))


def _first_line(error: BaseException) -> str:
    """Without OmegaConf's words about the interpolation that a value or an error of our own came through."""
    text = re.sub(r"^\w+ (raised )?while resolving interpolation: ", "", str(error).strip().split("\n")[0])
    if match := re.fullmatch(r"Missing mandatory value: (\S+)", text):
        return f"{match[1]}=… is missing: it has no value of its own and needs one on the command line."
    return text


def _unknown_key(key: str) -> str:
    """`key` is not in the configuration; the nearest one among its siblings is."""
    parent, _, last = key.rpartition(".")
    try:
        groups = [
            a for a in sys.argv[1:] if re.fullmatch(r"[\w/]+=[\w/]+", a) and (CONF_DIR / a.split("=")[0]).is_dir()
        ]
        loader = ConfigLoaderImpl(hydra._internal.utils.create_config_search_path(str(CONF_DIR)))
        cfg = _compose_unchecked(loader, "run", groups, RunMode.RUN)
        section = OmegaConf.select(cfg, parent) if parent else cfg
    except Exception:
        section = None  # another mistake on the same command line: do without the suggestion
    choices = [str(k) for k in section if k != "hydra"] if isinstance(section, DictConfig) else []
    where = f"'{parent}'" if parent else "the configuration"
    listed = f" {where} has {', '.join(choices)}." if choices else ""
    return f"{key}: no such key.{nearest(last, choices)}{listed} A key of your own goes in as +{key}=VALUE."


schema.register()
folders.register()
