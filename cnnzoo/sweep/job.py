"""A job of a sweep: one run, written to a file, so that any process on any machine does exactly that run."""

import dataclasses
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from hydra.core.config_loader import ConfigLoader
from omegaconf import DictConfig

from cnnzoo.config import Config, run_folder
from cnnzoo.config.command import command_line
from cnnzoo.config.compose import from_dict, to_config
from cnnzoo.console import set_up_logging
from cnnzoo.errors import UserError
from cnnzoo.io import write_atomically
from cnnzoo.results.run_folder import read_result
from cnnzoo.sweep.device_claims import share_device, wait_for_device
from cnnzoo.sweep.trial import Trial

log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Job:
    """A run of a sweep.

    overrides: what its own command line would have.
    command: that command line, the launcher included.
    trial: the trial of a search that it evaluates.
    """

    config: Config
    overrides: tuple[str, ...]
    command: str
    trial: Trial | None = None

    @property
    def folder(self) -> Path:
        return run_folder(self.config)

    @property
    def is_finished(self) -> bool:
        """Whether there is nothing left to do."""
        return not self.config.rerun and self.is_completed

    @property
    def is_completed(self) -> bool:
        return (read_result(self.folder) or {}).get("status") == "completed"

    def has_begun(self, since: float) -> bool:
        """Whether a process has been at the run since then, in the file system's time."""
        return _changed_since(self.folder / "config.yaml", since)

    def has_ended(self, since: float) -> bool:
        """Whether the run has a result, of whatever kind, since then, or needs none."""
        return _changed_since(self.folder / "result.json", since) or self.is_finished

    def write(self, file: Path) -> None:
        write_atomically(file, yaml.safe_dump(dataclasses.asdict(self), sort_keys=False, allow_unicode=True))

    @classmethod
    def read(cls, file: Path) -> "Job":
        values = yaml.safe_load(file.read_text(encoding="utf-8"))
        trial = Trial(**values["trial"]) if values["trial"] else None
        return cls(from_dict(Config, values["config"]), tuple(values["overrides"]), values["command"], trial)


def _changed_since(file: Path, since: float) -> bool:
    try:
        return file.stat().st_mtime >= since
    except OSError:
        return False


def configured_overrides(params: Mapping[str, Any] | None) -> list[str]:
    """Return `hydra.sweeper.params` as overrides; a file may have set them, so they can name no code and trust none.

    Raises:
        UserError: they do.
    """
    for key, value in (params or {}).items():
        if "trusted_packages" in str(key) or "_target_" in f"{key}={value}":
            raise UserError(
                f"hydra.sweeper.params: {key} may come from a file, and a file is no reason to trust a package or to"
                f" run its code. Type it: {key}=VALUE on the command line itself."
            )
    return [f"{key}={value}" for key, value in (params or {}).items()]


def compose_job(overrides: Sequence[str], config: DictConfig, loader: ConfigLoader) -> Job:
    """Compose the run that `overrides` add to what was typed once for the whole sweep, `config`.

    Raises:
        UserError, OmegaConfBaseException, HydraException: they do not make a run.
    """
    launcher = [text for text in config.hydra.overrides.hydra if text.startswith(("hydra/launcher", "hydra.launcher"))]
    command = command_line([*(["-m", *launcher] if launcher else []), *overrides])
    return Job(to_config(loader.load_sweep_config(config, list(overrides))), tuple(overrides), command)


def run_job(cfg: DictConfig) -> None:
    """Do the job in the file `cfg.job`. Launchers call this, in whatever process.

    A failure is written to the run's folder and stops nothing else.
    """
    from cnnzoo.run import run

    job = Job.read(Path(cfg.job))
    config = job.config
    if cfg.elsewhere:
        set_up_logging(logging.WARNING)  # the lines of many runs would mingle
        config = dataclasses.replace(config, trainer=dataclasses.replace(config.trainer, progress_bar=False))
    if cfg.device == "share":
        share_device()
    elif cfg.device == "wait":
        wait_for_device()
    try:
        run(config, job.command, job.trial.pruning() if job.trial else None)
    except Exception as error:
        if read_result(job.folder) is None:  # nothing could be written down
            log.error("%s: %s", " ".join(job.overrides), error)


def job_overrides(file: Path, *, elsewhere: bool, device: str) -> list[str]:
    """The overrides with which a launcher composes the configuration of `run_job`."""
    return [f"+job={quoted(file)}", f"+elsewhere={elsewhere}", f"+device={device}"]


def quoted(value: object) -> str:
    """A value as an override of Hydra's takes it, whatever characters are in it."""
    return "'" + str(value).replace("\\", "\\\\").replace("'", "\\'") + "'"
