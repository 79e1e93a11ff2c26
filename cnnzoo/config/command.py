"""Make a function of one `Config` into a command line: Hydra's, with errors that help."""

import functools
import inspect
import os
import re
import shlex
import sys
import textwrap
import traceback
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import hydra
import yaml
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from cnnzoo.config.compose import CONF_DIR, to_config
from cnnzoo.config.hydra_errors import choices, explain
from cnnzoo.errors import UserError, exit_code, is_of_stream
from cnnzoo.text import clean_lines


class Reported(Exception):
    """A failure whose message is on stderr already; only the exit code is left to set."""


def command(
    config_name: str, interrupted: str = "interrupted"
) -> Callable[[Callable[[Any], object]], Callable[[], None]]:
    """Decorate the main function of a command, whose configuration is `conf/<config_name>.yaml`.

    A failure ends in one message on stderr and exit code 1. HYDRA_FULL_ERROR=1 shows the traceback. `interrupted` is
    what Ctrl-C is answered with.
    """

    def decorate(task: Callable[[Any], object]) -> Callable[[], None]:
        failures: list[Exception] = []

        @functools.wraps(task)
        def run_task(cfg: DictConfig) -> object:
            try:
                return task(to_config(cfg, HydraConfig.get()))
            except SystemExit as error:  # no way for a network or a data source to end a command, or a sweep
                failure: Exception = UserError(f"Some code of a network or data source called sys.exit({error.code}).")
                failure.__cause__ = error
            except Exception as error:
                failure = error
            failures.append(failure)
            if is_of_stream(failure):
                return None
            report(failure)
            if HydraConfig.get().mode == RunMode.MULTIRUN:  # this may be another process
                raise Reported from failure
            return None

        hydra_main = hydra.main(config_path=str(CONF_DIR), config_name=config_name, version_base="1.3")(run_task)

        @functools.wraps(task)
        def main() -> None:
            if code := exit_code(work, interrupted):
                sys.exit(code)

        def work() -> int:
            failures.clear()
            if {"--help", "-h"} & set(sys.argv[1:]):
                print(_help(task, config_name))
                return 0
            try:
                with _exceptions_from_hydra(), warnings.catch_warnings():
                    # conf/hydra/launcher/ has the names of the launchers' plugins, whose types it is meant to have
                    warnings.filterwarnings("ignore", r"\s*'hydra/launcher/\w+' is validated against ConfigStore")
                    hydra_main()
            except Reported:
                return 1
            except Exception as error:
                if is_of_stream(error):
                    raise
                report(error)
                return 1
            for failure in filter(is_of_stream, failures):
                raise failure
            return 1 if failures else 0

        return main

    return decorate


_KEYS = """\
  seed=1                      initial weights, order of the images, augmentation
  trainer.max_epochs=30       length of the training
  optimizer.lr=0.01           learning rate; also optimizer.weight_decay
  dataset.batch_size=64       images of a step
  dataset.val_size=0.1        held out for validation: a share, or a number
  image_size=64               pixels at which images enter the network
  model.KEY=VALUE             any argument of the network's constructor
  weights=FILE|RUN|published  weights to start from; also cnnzoo, pretrained
  trainer.precision=32-true   full precision; auto: what the device is best at
  name=NAME                   the row's name in tables
  rerun=true                  train again what is finished
  paths.outputs=FOLDER        where runs lie; also CNNZOO_OUTPUTS
"""
_WIDTH = 80


def _help(task: Callable[[Any], object], config_name: str) -> str:
    """What a command does, its groups with their choices, and the keys that are set most, on one screen.

    Hydra's own help takes a second to list the choices.
    """
    defaults = [entry for entry in _read_yaml("base")["defaults"] if isinstance(entry, dict)]
    groups = []
    for group, default in (item for entry in defaults for item in entry.items()):
        names = sorted(choices(CONF_DIR / group), key=lambda name: name != default)  # the default first
        if names and names != [default]:
            text = " ".join([f"{names[0]}*" if names[0] == default else names[0], *names[1:]])
            groups += textwrap.wrap(f"{f'  {group}=':15}{text}", _WIDTH, subsequent_indent=" " * 15)
    own = _read_yaml(config_name).keys() - {"defaults", "hydra"}
    comments = re.findall(r"^(\w+: .*?) +# (.*)", (CONF_DIR / f"{config_name}.yaml").read_text(), re.MULTILINE)
    keys = [f"  {value.replace(': ', '='):26}  {text}" for value, text in comments if value.partition(":")[0] in own]
    return "\n".join(
        (
            inspect.cleandoc(sys.modules[task.__module__].__doc__ or ""),
            "\nGROUP=CHOICE (*: the default; cnnzoo list models|datasets|experiments has more)",
            *groups,
            "\nKEY=VALUE (--cfg job shows all of them and runs nothing)",
            *(line for key in keys for line in textwrap.wrap(key, _WIDTH, subsequent_indent=" " * 30)),
            _KEYS,
            "-m runs every combination of the values in KEY=VALUE,VALUE. --config-dir FOLDER",
            "adds YAML files of your own. --hydra-help has Hydra's own options.",
        )
    )


def _read_yaml(name: str) -> dict[str, Any]:
    return dict(yaml.safe_load((CONF_DIR / f"{name}.yaml").read_text()))


_FULL_ERROR = os.environ.get("HYDRA_FULL_ERROR") == "1"  # as the user set it, before the next function does


@contextmanager
def _exceptions_from_hydra() -> Iterator[None]:
    """Have `hydra.main` raise its exceptions instead of printing them, which this variable is the way to ask for."""
    before = os.environ.get("HYDRA_FULL_ERROR")
    os.environ["HYDRA_FULL_ERROR"] = "1"
    try:
        yield
    finally:
        os.environ.pop("HYDRA_FULL_ERROR")
        if before is not None:
            os.environ["HYDRA_FULL_ERROR"] = before


def report(error: BaseException) -> None:
    """Print an error to stderr in one message."""
    if _FULL_ERROR:
        traceback.print_exception(error)
    print("error:", clean_lines(explain(error, CONF_DIR)), file=sys.stderr)
    for note in getattr(error, "__notes__", ()):
        print(f"  {clean_lines(note)}", file=sys.stderr)
    if not _FULL_ERROR and not isinstance(error, UserError | HydraException | OmegaConfBaseException):
        print("HYDRA_FULL_ERROR=1 before the command shows the traceback.", file=sys.stderr)


def command_line(overrides: Sequence[str] | None = None) -> str:
    """This command as it was typed; or one run of it, with these overrides in the place of all others.

    Options such as `--config-dir` stay, or the overrides would not compose.
    """
    words = sys.argv[1:] if overrides is None else [*_options(sys.argv[1:]), *overrides]
    return f"{_program()} {shlex.join(words)}"


def command_of(verb: str, *words: str) -> str:
    """The command line of another verb, called as `run` was here."""
    program = _program()
    return f"{program.removesuffix('run') if program.endswith('run') else 'cnnzoo '}{verb} {shlex.join(words)}"


def _program() -> str:
    """`python -m cnnzoo.run`, `python -m cnnzoo run` or `cnnzoo run`: in the last two, `cnnzoo.cli` made it argv[0]."""
    spec = getattr(sys.modules["__main__"], "__spec__", None)
    if spec is None:
        return sys.argv[0]
    verb = sys.argv[0].removeprefix("cnnzoo") if sys.argv[0].startswith("cnnzoo ") else ""
    return f"python -m {spec.name.removesuffix('.__main__')}{verb}"


def _options(arguments: Sequence[str]) -> list[str]:
    """Hydra's options for where the configuration is, with their values."""
    kept: list[str] = []
    names = ("--config-dir", "-cd", "--config-path", "-cp", "--config-name", "-cn")
    for index, text in enumerate(arguments):
        if text in names:
            kept += arguments[index : index + 2]
        elif text.partition("=")[0] in names:
            kept.append(text)
    return kept
