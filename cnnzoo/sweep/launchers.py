"""Hydra's launchers: start jobs through whichever is chosen, and again where a process has died."""

import copy
import importlib.util
import logging
import time
from collections.abc import Sequence
from pathlib import Path

from hydra.core.plugins import Plugins
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext
from omegaconf import DictConfig, open_dict, read_write

from cnnzoo.config.resolvers import cuda_devices
from cnnzoo.errors import UserError
from cnnzoo.results.run_folder import is_running
from cnnzoo.sweep.job import Job, job_overrides, quoted, run_job
from cnnzoo.sweep.progress import SweepRecord

log = logging.getLogger(__name__)

# Launcher to extra of the installation, and the package in it.
_PACKAGES = {
    "JoblibLauncher": ("joblib", "hydra_plugins.hydra_joblib_launcher"),
    "RayLauncher": ("ray", "hydra_plugins.hydra_ray_launcher"),
    "SlurmLauncher": ("submitit", "submitit"),
    "LocalLauncher": ("submitit", "submitit"),
}
# Launchers that raise when a process dies: seconds between the end of a surviving run and the start of the next.
_GAP = {"JoblibLauncher": 0.5, "RayLauncher": 20.0}


def launch(jobs: Sequence[Job], record: SweepRecord, config: DictConfig, context: HydraContext) -> None:
    """Launch jobs until each has a result, or has died.

    submitit's jobs are waited for one by one. Joblib and Ray raise when one of their processes dies. joblib takes the
    others along, which are launched again: together, and when that gets none of them further, each alone. Ray goes on
    with the others, and has tried a dead one several times.
    """
    launcher = _instantiate_launcher(record.folder, config, context)
    name = _launcher_name(config)
    files = {
        job: record.folder / "jobs" / f"{number}.yaml" for number, job in enumerate(jobs, record.count - len(jobs))
    }
    for job, file in files.items():
        job.write(file)
    device = {"JoblibLauncher": "share", "LocalLauncher": "wait"}.get(name, "all")
    elsewhere = not runs_in_this_process(config)

    def crashed(some: Sequence[Job]) -> bool:
        since = time.time() - 0.1  # file systems round times
        try:
            overrides = [job_overrides(files[job], elsewhere=elsewhere, device=device) for job in some]
            launcher.launch(overrides, initial_job_idx=int(files[some[0]].stem))
        except Exception as error:
            if name not in _GAP or not any(job.has_begun(since) for job in some):
                raise
            log.warning("a process of the launcher died (%s)", str(error).split("\n")[0] or type(error).__name__)
            _wait_until_quiet(some, seconds=_GAP[name])
            return True
        return False

    missing = list(jobs)
    while missing and crashed(missing):
        left = [job for job in missing if not job.has_ended(record.began)]
        if name == "RayLauncher":
            left = [job for job in left if not job.has_begun(record.began)]
        elif len(left) == len(missing):
            for job in left:
                crashed([job])
            return
        missing = left


def _wait_until_quiet(jobs: Sequence[Job], seconds: float) -> None:
    """Wait until no process has been at any of the runs for so long."""
    last = time.monotonic()
    while time.monotonic() - last < seconds:
        if any(is_running(job.folder) for job in jobs):
            last = time.monotonic()
        time.sleep(0.5)


def _instantiate_launcher(folder: Path, config: DictConfig, context: HydraContext) -> Launcher:
    """The chosen launcher. Of this command line, its jobs need only the folder of the sweep."""
    config = copy.deepcopy(config)
    with read_write(config), open_dict(config):
        config.hydra.overrides.hydra = [f"hydra.sweep.dir={quoted(folder)}"]
    return Plugins.instance().instantiate_launcher(hydra_context=context, task_function=run_job, config=config)


def check_launcher(config: DictConfig) -> None:
    """Refuse settings with which the launcher would hang, or fail with an unhelpful message."""
    settings = config.hydra.launcher
    extra, package = _PACKAGES.get(_launcher_name(config), ("", "hydra"))
    if importlib.util.find_spec(package) is None:
        raise UserError(f'hydra/launcher: {package} is not installed. pip install "cnnzoo[{extra}]"')
    if _launcher_name(config) == "JoblibLauncher" and settings.n_jobs == 0:
        raise UserError("hydra.launcher.n_jobs=0: expected the number of runs at once, or -1 for one a core.")
    if _launcher_name(config) == "RayLauncher" and settings.ray.init.get("address") is None:
        wanted, there_are = settings.ray.remote.get("num_gpus") or 0, len(cuda_devices())
        if wanted > there_are:
            raise UserError(
                f"hydra.launcher.ray.remote.num_gpus={wanted}: this machine has {there_are} CUDA devices, so no run"
                " would ever start. Ask for fewer, or join a cluster with hydra.launcher.ray.init.address=auto."
            )


def _launcher_name(config: DictConfig) -> str:
    return str(config.hydra.launcher._target_).rpartition(".")[2]


def runs_in_this_process(config: DictConfig) -> bool:
    # joblib starts no process for one run at a time
    name = _launcher_name(config)
    return name == "BasicLauncher" or (name == "JoblibLauncher" and config.hydra.launcher.n_jobs == 1)
