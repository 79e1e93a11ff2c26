"""Many runs from one command line: what is finished is left alone, how far it is is said, the rest goes to a launcher.

Launchers are Hydra's: in this process one after another, or on other processes, devices and machines
(`hydra/launcher=joblib|submitit_slurm|ray`). A run is the same run whichever of them it comes through.
"""

import fcntl
import itertools
import logging
import math
import os
import shlex
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import IO, Any

from hydra.core.hydra_config import HydraConfig
from hydra.core.utils import JobReturn, JobStatus
from hydra.types import RunMode
from omegaconf import DictConfig
from rich.status import Status

from cnnzoo.config import JobError, command_line
from cnnzoo.config.cuda import cuda_devices
from cnnzoo.config.launching import Job, Launch
from cnnzoo.console import console, set_up_logging
from cnnzoo.errors import UserError
from cnnzoo.results import record
from cnnzoo.results.sweeps import Planned, Progress, SweepRecord

log = logging.getLogger(__name__)


def around(jobs: Sequence[Job], launch: Launch, hydra: DictConfig) -> Sequence[JobReturn]:
    """Skips the runs that are finished and launches the others, watched."""
    set_up_logging()
    _check_launcher(hydra)
    returns = {n: returned for n, job in enumerate(jobs) if (returned := _finished(job)) is not None}
    if returns:
        log.info("%d of %d runs are finished already (rerun=true starts over)", len(returns), len(jobs))
    todo = [number for number in range(len(jobs)) if number not in returns]
    if todo:
        own = SweepRecord(Path(hydra.sweep.dir))
        planned = own.add(command_line(), [_planned(job) for job in jobs])
        with own.running(), _watched(planned, own, elsewhere=not _in_this_process(hydra)):
            returns |= zip(todo, _launch([jobs[number] for number in todo], launch, hydra), strict=True)
        for number in todo:
            file = record.run_folder(jobs[number].config) / "run.log"
            if isinstance(error := returns[number]._return_value, Exception) and file.is_file():
                error.add_note(f"its log: {file}")
    return [returns[number] for number in range(len(jobs))]


def _check_launcher(hydra: DictConfig) -> None:
    """Raises UserError for settings that the launcher itself answers with a riddle, or not at all."""
    settings = hydra.launcher
    if _launcher(hydra) == "JoblibLauncher" and settings.n_jobs == 0:
        raise UserError("hydra.launcher.n_jobs=0: expected the number of runs at once, or -1 for one a core.")
    if _launcher(hydra) == "RayLauncher" and settings.ray.init.get("address") is None:
        wanted, there_are = settings.ray.remote.get("num_gpus") or 0, len(cuda_devices())
        if wanted > there_are:
            raise UserError(
                f"hydra.launcher.ray.remote.num_gpus={wanted}: this machine has {there_are} CUDA devices, so no run"
                " would ever start. Ask for fewer, or join a cluster with hydra.launcher.ray.init.address=auto."
            )


def _launch(jobs: Sequence[Job], launch: Launch, hydra: DictConfig) -> Sequence[JobReturn]:
    """A process that dies (killed, out of memory) takes its pool along; the runs that go down with it get another try.

    First those that had not begun, together; then, each alone, those among which the culprit is.
    """
    returns: dict[int, JobReturn] = {}
    batches = [list(range(len(jobs)))]
    while batches:
        batch = batches.pop(0)
        began = time.time() - 0.1  # file systems stamp a little coarsely
        try:
            returns |= zip(batch, launch([jobs[number] for number in batch]), strict=True)
        except Exception as error:
            begun = [number for number in batch if _begun(jobs[number], began)]
            if _in_this_process(hydra) or not begun:
                raise  # not a run's mishap: the launcher does not work here
            died = JobError(f"Its process died ({type(error).__name__}: {error}). The same command resumes it.")
            returns |= {n: ended for n in begun if (ended := _ended(jobs[n])) is not None}
            missing = [number for number in batch if number not in returns]
            if len(batch) == 1 or _launcher(hydra) != "JoblibLauncher":
                # elsewhere the others stay in their queue, and another try would only meet them there
                returns |= {number: _returned(jobs[number], died) for number in missing}
            else:
                batches += [[number] for number in missing if number in begun]
                if rest := [number for number in missing if number not in begun]:
                    batches.insert(0, rest)
    return [returns[number] for number in range(len(jobs))]


def _begun(job: Job, since: float) -> bool:
    config = record.run_folder(job.config) / "config.yaml"
    return config.is_file() and config.stat().st_mtime >= since


def _ended(job: Job) -> JobReturn | None:
    """What a run came to, by its result.json; None if it did not come to an end."""
    result = record.read_result(record.run_folder(job.config))
    if result is None:
        return None
    return _returned(job, JobError(result["error"]) if result["status"] == "failed" else result["val_accuracy"])


def _finished(job: Job) -> JobReturn | None:
    result = None if job.config["rerun"] else record.read_result(record.run_folder(job.config))
    return _returned(job, result["val_accuracy"]) if result and result.get("status") == "completed" else None


def _returned(job: Job, value: Any) -> JobReturn:
    status = JobStatus.FAILED if isinstance(value, Exception) else JobStatus.COMPLETED
    return JobReturn(overrides=list(job.overrides), status=status, _return_value=value)


def _planned(job: Job) -> Planned:
    return Planned(job.settings, str(record.run_folder(job.config)), math.ceil(job.config["trainer"]["max_epochs"]))


def _launcher(hydra: Any) -> str:
    return hydra.launcher._target_.rpartition(".")[2]


def _in_this_process(hydra: Any) -> bool:
    # joblib starts no process for one run at a time
    return _launcher(hydra) == "BasicLauncher" or (_launcher(hydra) == "JoblibLauncher" and hydra.launcher.n_jobs == 1)


@contextmanager
def _watched(jobs: Sequence[Planned], own: SweepRecord, elsewhere: bool) -> Iterator[None]:
    """Says how far the sweep is whenever a run ends and, while they run elsewhere, in a line of the terminal."""
    progress = Progress(jobs, since=own.began)
    state, _ = progress.look()  # what was finished before is no news
    if elsewhere:
        log.info("%s", state)
    over = threading.Event()
    line = console.status("") if elsewhere and console.is_terminal else nullcontext()

    def look() -> None:
        state, news = progress.look()
        if isinstance(line, Status):
            line.update(str(state))
        for number in news if elsewhere else ():  # a run in this process has said so itself
            log.info("%s", _outcome(jobs[number]))
        if news:
            log.info("%s", state)

    def watch() -> None:
        pause = 0.0
        while not over.wait(pause):
            began = time.monotonic()
            look()
            pause = max(1.0, 20 * (time.monotonic() - began))  # thousands of runs are looked at less often

    thread = threading.Thread(target=watch, name="sweep progress", daemon=True)
    with line:
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()
            look()


def _outcome(job: Planned) -> str:
    result = record.read_result(Path(job.folder)) or {}
    if result.get("status") == "failed":
        return f"failed: {shlex.join(job.overrides)}: {str(result.get('error')).splitlines()[0]}"
    return record.describe(result) + f": {job.folder}"


def set_up_job() -> bool:
    """Logging and, among processes on one machine, a device for the run that this process is about to do.

    Returns whether another process watches over it.
    """
    hydra = HydraConfig.get()
    elsewhere = hydra.mode == RunMode.MULTIRUN and not _in_this_process(hydra)
    set_up_logging(logging.WARNING if elsewhere else logging.INFO)  # there the lines of many runs would mingle
    if hydra.mode == RunMode.MULTIRUN and _launcher(hydra) in ("JoblibLauncher", "LocalLauncher"):
        # joblib keeps to n_jobs processes by itself; submitit starts them all
        claim_device(shared=_launcher(hydra) == "JoblibLauncher")
    return elsewhere


_claimed: list[IO[str]] = []


def claim_device(shared: bool) -> None:
    """Leaves to this process, until it ends, one CUDA device.

    To be called before torch starts CUDA. The claim is a file lock, so it dies with the process.

    Args:
        shared: it is the device with the fewest processes of this kind on it. Else one that has none, for which the
            process waits; where there is no CUDA device, for the processor.
    """
    devices = cuda_devices() or (() if shared else ("processor",))
    if not devices or _claimed:
        return
    folder = Path(tempfile.gettempdir(), f"cnnzoo-{os.getuid()}")
    folder.mkdir(exist_ok=True)
    for place in itertools.count() if shared else itertools.repeat(0):
        for device in devices:
            file = (folder / f"{device}-{place}.lock").open("a")
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                file.close()
                continue
            _claimed.append(file)
            if device != "processor":
                os.environ["CUDA_VISIBLE_DEVICES"] = device
            return
        if not shared:
            time.sleep(0.2)
