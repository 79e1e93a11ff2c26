"""How every configured command starts: compose with Hydra, check, run, and say plainly what is wrong."""

import functools
import os
import re
import shlex
import sys
import traceback
from collections.abc import Callable, Sequence
from typing import Any

import hydra
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra.core.hydra_config import HydraConfig
from hydra.errors import ConfigCompositionException, HydraException, MissingConfigException, OverrideParseException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from cnnzoo.config.composition import CONF_DIR, compose_unchecked
from cnnzoo.config.launching import Around, accounted, do_all
from cnnzoo.errors import UserError, nearest


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


class JobError(Exception):
    """Why a job of a sweep failed, in words that travel from any process; `trace` is the traceback's text."""

    def __init__(self, message: str, trace: str = "") -> None:
        super().__init__(message, trace)
        self.message, self.trace = message, trace

    def __str__(self) -> str:
        return self.message


def command(config_name: str, around: Around = do_all) -> Callable[[Callable[[DictConfig], Any]], Callable[[], None]]:
    """Makes a function of one configuration into a command line: Hydra's, with errors that help.

    Whatever fails ends in one message a failure on stderr and exit code 1; of a sweep, every other job is done first.
    The traceback is shown on request: HYDRA_FULL_ERROR=1. `around` surrounds the launch of a sweep's jobs.
    """

    def decorate(task: Callable[[DictConfig], Any]) -> Callable[[], None]:
        failures: list[tuple[Sequence[str], Exception]] = []

        @functools.wraps(task)
        def guarded(cfg: DictConfig) -> Any:
            try:
                return task(cfg)
            except Exception as error:
                if HydraConfig.get().mode == RunMode.MULTIRUN:
                    raise JobError(_explain(error), "".join(traceback.format_exception(error))) from None
                failures.append(([], error))  # Hydra would print its own account of it
                return None

        main = hydra.main(config_path=str(CONF_DIR), config_name=config_name, version_base="1.3")(guarded)

        @functools.wraps(task)
        def wrapper() -> None:
            failures.clear()
            asked_for = os.environ.get("HYDRA_FULL_ERROR")
            os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra hands its exceptions on instead of printing them
            with accounted(around) as account:
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
            failures[:0] = account.failures
            if not failures and account.jobs == 0:
                failures.append(([], UserError("The sweep has no jobs: glob(...) matches no choice of its group.")))
            for overrides, failure in failures:
                _report(failure, overrides, with_traceback=asked_for == "1")
            if failures:
                sys.exit(1)

        return wrapper

    return decorate


def _report(error: Exception, overrides: Sequence[str], with_traceback: bool) -> None:
    if with_traceback:
        print(error.trace, end="", file=sys.stderr) if isinstance(error, JobError) else traceback.print_exception(error)
    print(f"error: {_explain(error)}", file=sys.stderr)
    for note in getattr(error, "__notes__", ()):
        print(f"  {note}", file=sys.stderr)
    if overrides:
        print(f"  again with: {command_line(overrides)}", file=sys.stderr)
    if not with_traceback and not isinstance(error, UserError | JobError | HydraException | OmegaConfBaseException):
        print("HYDRA_FULL_ERROR=1 before the command shows where it came from.", file=sys.stderr)


def command_line(arguments: Sequence[str] | None = None) -> str:
    """This command as it was typed, or with other arguments."""
    spec = getattr(sys.modules["__main__"], "__spec__", None)
    program = f"python -m {spec.name}" if spec else sys.argv[0]
    return f"{program} {shlex.join(sys.argv[1:] if arguments is None else arguments)}"


def _explain(error: BaseException) -> str:
    """The message of an exception, with the nearest right word where a word was wrong."""
    if isinstance(error, UserError | JobError):
        return str(error)
    if isinstance(error, MissingConfigException) and error.missing_cfg_file:
        group, _, choice = str(error.missing_cfg_file).partition("/")
        options = _choices(group)
        if group == "hydra":  # its groups have folders in their names
            group, _, choice = str(error.missing_cfg_file).rpartition("/")
            options = list(error.options or [])
        if group and choice:
            listed = f" Choices: {', '.join(sorted(options))}." if options else ""
            return f"{group}={choice}: no such choice.{nearest(choice, options)}{listed}"
    if isinstance(error, OverrideParseException):
        return f"{error.override}: not of the form KEY=VALUE or GROUP=CHOICE. {error}"
    if ambiguous := re.match(r"Ambiguous value for argument '([^=]+)=(.*)'", str(error)):
        key, values = ambiguous.groups()
        return f"{key}={values}: several values. -m makes a sweep of them, {key}=[{values}] a list."
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
        cfg = compose_unchecked(loader, "run", groups, RunMode.RUN)
        section = OmegaConf.select(cfg, parent) if parent else cfg
    except Exception:
        section = None  # another mistake on the same command line: do without the suggestion
    choices = [str(k) for k in section if k != "hydra"] if isinstance(section, DictConfig) else []
    where = f"'{parent}'" if parent else "the configuration"
    listed = f" {where} has {', '.join(choices)}." if choices else ""
    return f"{key}: no such key.{nearest(last, choices)}{listed} A key of your own goes in as +{key}=VALUE."
