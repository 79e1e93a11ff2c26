"""Runs through submitit, as jobs of SLURM or as processes of this machine: submitted once, each watched until its end.

How a run ended is in its folder. Of its job only one thing matters: whether it is still in the queue.
"""

import json
import logging
import os
import shlex
import signal
import time
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

import submitit
from hydra.types import TaskFunction
from omegaconf import DictConfig

from cnnzoo.errors import UserError
from cnnzoo.io import write_atomically
from cnnzoo.results.run_folder import is_running
from cnnzoo.sweep.job import Job
from cnnzoo.sweep.slurm import JobState, job_states, max_array_size

log = logging.getLogger(__name__)

_RECORD = "slurm.json"  # in a sweep's folder: the jobs of its runs
_FORGOTTEN = JobState("COMPLETED", "no longer in the queue")
# Settings of `hydra.launcher` that submitit has for every cluster; the others are SLURM's.
_COMMON = ("name", "timeout_min", "mem_gb", "nodes", "cpus_per_task", "gpus_per_node", "tasks_per_node")
_ASKED_FOR = ("partition", "account", "qos", "constraint", "gpus_per_node", "cpus_per_task", "mem_gb", "timeout_min")


@dataclass(frozen=True)
class Submitted:
    """A run's job in the queue, and the file with what its process prints."""

    identifier: str
    log: str


@dataclass(frozen=True)
class Task:
    """What a job's process does; submitit pickles it."""

    function: TaskFunction
    config: DictConfig

    def __call__(self) -> None:
        """Do the run. Shortly before its time is over, stop it as Ctrl-C does and put the job back into the queue."""
        warning = getattr(signal, f"SIG{submitit.JobEnvironment.USR_SIG}")
        requeue = signal.getsignal(warning)
        warned = False

        def interrupt(*_: Any) -> None:
            nonlocal warned
            warned = True
            signal.signal(warning, signal.SIG_IGN)
            signal.raise_signal(signal.SIGINT)

        if os.environ.get("SLURM_RESTART_COUNT"):
            _wait_while_running(Job.read(Path(self.config.job)).folder)
        signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell may have set it to be ignored
        signal.signal(warning, interrupt)
        try:
            self.function(self.config)
        except KeyboardInterrupt:
            if not warned or not callable(requeue):
                raise
            try:
                requeue(warning, None)
            except submitit.core.utils.UncompletedJobError as error:
                raise UserError(
                    "The job's time limit was over too often (hydra.launcher.timeout_min, max_num_timeout)."
                    " The same command resumes the run from its checkpoint."
                ) from error

    def checkpoint(self) -> submitit.helpers.DelayedSubmission:
        """What submitit puts back into the queue: the same again, as a run resumes by itself."""
        return submitit.helpers.DelayedSubmission(self)


def _wait_while_running(folder: Path, seconds: float = 60.0) -> None:
    """Wait for the end of a process that is at this run: a preempted job may begin anew before its old one is gone."""
    until = time.monotonic() + seconds
    while is_running(folder) and time.monotonic() < until:
        time.sleep(0.2)


class Queue(Protocol):
    """Where jobs wait and run."""

    poll_seconds: float  # at most, between two looks
    patience: float  # seconds after which the result of a job that has ended must be there

    def submit(self, tasks: Sequence[Task]) -> list[Submitted]:
        """Submit as many tasks as go at once; an identifier for each of those."""

    def states(self) -> Mapping[str, JobState] | None:
        """The state of every job that is known; None if that is unknown."""


class Slurm:
    """SLURM's queue. Its administrators would rather not be asked every second."""

    poll_seconds = 30.0
    patience = 15.0  # until another machine's file reaches this one

    def __init__(self, settings: Mapping[str, Any]) -> None:
        self.settings = settings
        try:
            self.executor = _executor("slurm", settings)
        except RuntimeError as error:  # no srun
            raise UserError(f"hydra/launcher=submitit_slurm: {error}") from error
        self.array_size = max_array_size()

    def submit(self, tasks: Sequence[Task]) -> list[Submitted]:
        try:
            jobs = self.executor.submit_array(list(tasks[: self.array_size]))
        except RuntimeError as error:
            raise UserError(
                f"SLURM refuses the jobs: {str(error).strip()}\n"
                f"Asked for: {_asked_for(self.settings)}. What there is: sinfo -o '%P %c %m %G %l'."
            ) from error
        return [_submitted(job, self.settings) for job in jobs]

    def states(self) -> Mapping[str, JobState] | None:
        return job_states()


class Local:
    """Processes of this machine."""

    poll_seconds = 1.0
    patience = 0.5

    def __init__(self, settings: Mapping[str, Any]) -> None:
        self.settings = settings
        self.executor = _executor("local", settings)
        self.jobs: list[submitit.Job[None]] = []

    def submit(self, tasks: Sequence[Task]) -> list[Submitted]:
        jobs = self.executor.submit_array(list(tasks))
        self.jobs += jobs
        return [_submitted(job, self.settings) for job in jobs]

    def states(self) -> Mapping[str, JobState]:
        return {job.job_id: JobState("COMPLETED" if job.done() else "RUNNING") for job in self.jobs}


def launch(cluster: str, settings: Mapping[str, Any], function: TaskFunction, configs: Sequence[DictConfig]) -> None:
    """Submit runs, but for those whose jobs are in the queue already, and return when all of them have ended.

    Args:
        settings: `hydra.launcher`.
        configs: what `function` gets, one a run; `job` is the run's file in the sweep's folder.

    Raises:
        UserError: the jobs are refused.
    """
    queue: Queue = Slurm(settings) if cluster == "slurm" else Local(settings)
    jobs = {config.job: Job.read(Path(config.job)) for config in configs}
    sweep = Path(configs[0].job).parents[1]
    known = _in_queue(sweep.parent, queue.states() or {}) if cluster == "slurm" else {}
    watched = {known[str(job.folder)]: file for file, job in jobs.items() if str(job.folder) in known}
    if watched:
        log.info("%d of %d runs are in the queue already: %s", len(watched), len(jobs), _identifiers(watched))
    waiting = [config for config in configs if str(jobs[config.job].folder) not in known]
    try:
        while waiting:
            submitted = queue.submit([Task(function, config) for config in waiting])
            new = dict(zip(submitted, (config.job for config in waiting), strict=False))
            watched |= new
            waiting = waiting[len(new) :]
            if cluster == "slurm":
                _record(sweep / _RECORD, {str(jobs[file].folder): job for job, file in new.items()})
                log.info(
                    "%d submitted to SLURM: `squeue --me` lists what waits and runs, `scancel %s` ends it",
                    len(new),
                    _identifiers(new),
                )
        _watch(queue, settings, {job: (jobs[file], Path(file).stat().st_mtime) for job, file in watched.items()})
    except UserError as error:
        if watched:
            error.add_note(f"Submitted before that, and waited for by the same command: {_identifiers(watched)}.")
        raise
    except KeyboardInterrupt:
        if cluster == "slurm" and watched:
            log.warning(
                "The jobs go on in SLURM until `scancel %s` ends them; the same command waits for them again.",
                _identifiers(watched),
            )
        raise


def _watch(queue: Queue, settings: Mapping[str, Any], runs: Mapping[Submitted, tuple[Job, float]]) -> None:
    """Wait until each run has a result that is newer than its time stamp, or its job has left the queue without one."""
    left = dict(runs)
    gone: dict[Submitted, float] = {}  # when it was first seen that the job is over
    reasons: set[str] = set()  # that were said
    pause, next_look, answered = 1.0, 0.0, True
    while True:
        began = time.monotonic()
        left = {job: (run, since) for job, (run, since) in left.items() if not run.has_ended(since)}
        if not left:
            return
        seconds = time.monotonic() - began
        if began >= next_look:
            states = queue.states()
            if states is None and answered:
                log.warning("squeue gets no answer from SLURM; waiting for the runs' results")
            elif states is not None:
                for job, (run, _) in list(left.items()):
                    state = states.get(job.identifier, _FORGOTTEN)
                    if not state.has_ended or is_running(run.folder):
                        gone.pop(job, None)
                    elif began - gone.setdefault(job, began) >= queue.patience:
                        log.warning("%s", _death(job, run, state))
                        del left[job]
                _explain_waiting(left, states, settings, reasons)
            answered = states is not None
            pause = min(queue.poll_seconds, 1.2 * pause)
            next_look = time.monotonic() + pause
        time.sleep(max(0.5, 20 * seconds))  # thousands of runs are looked at less often


def _explain_waiting(
    jobs: Iterable[Submitted], states: Mapping[str, JobState], settings: Mapping[str, Any], reasons: set[str]
) -> None:
    """Say once for each reason that jobs wait for what may never come."""
    by_reason: dict[str, list[Submitted]] = defaultdict(list)
    for job in jobs:
        state = states.get(job.identifier)
        if state and state.may_wait_forever and state.reason not in reasons:
            by_reason[state.reason].append(job)
    for reason, waiting in by_reason.items():
        reasons.add(reason)
        log.warning(
            "SLURM may never start %s: its reason is %s (man squeue). Asked for: %s. `scancel %s` ends what waits.",
            f"{len(waiting)} of the jobs",
            reason,
            _asked_for(settings),
            _identifiers(waiting),
        )


def _death(job: Submitted, run: Job, state: JobState) -> str:
    text = f"job {job.identifier} has ended without a result, {state}: {shlex.join(run.overrides)}"
    with suppress(OSError):
        lines = Path(job.log).read_text(encoding="utf-8", errors="replace").splitlines()
        said = [line.strip() for line in lines if line.strip() and "Exited with exit code" not in line]
        text += f"\n  its output: {job.log}: {said[-1] if said else 'empty'}"
    return text


def _executor(cluster: str, settings: Mapping[str, Any]) -> submitit.AutoExecutor:
    rest = {key: value for key, value in settings.items() if key not in ("submitit_folder", "max_num_timeout")}
    times = {"slurm_max_num_timeout": settings["max_num_timeout"]} if "max_num_timeout" in settings else {}
    executor = submitit.AutoExecutor(folder=settings["submitit_folder"], cluster=cluster, **times)
    common = (*_COMMON, "stderr_to_stdout")
    executor.update_parameters(
        **{key if key in common else f"{cluster}_{key}": value for key, value in rest.items() if value is not None}
    )
    return executor


def _submitted(job: "submitit.Job[None]", settings: Mapping[str, Any]) -> Submitted:
    return Submitted(job.job_id, str(job.paths.stdout if settings.get("stderr_to_stdout") else job.paths.stderr))


def _record(file: Path, jobs: Mapping[str, Submitted]) -> None:
    known = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    content = known | {folder: asdict(job) for folder, job in jobs.items()}
    write_atomically(file, json.dumps(content, indent=1))


def _in_queue(sweeps: Path, states: Mapping[str, JobState]) -> dict[str, Submitted]:
    """The jobs of earlier sweeps that have not ended, by their runs' folders."""
    found = {}
    for file in sorted(sweeps.glob(f"*/{_RECORD}")):
        with suppress(OSError, ValueError, TypeError, AttributeError):  # a damaged record counts as none
            for folder, entry in json.loads(file.read_text(encoding="utf-8")).items():
                job = Submitted(**entry)
                if job.identifier in states and not states[job.identifier].has_ended:
                    found[folder] = job
    return found


def _identifiers(jobs: Iterable[Submitted]) -> str:
    """What `scancel` takes: arrays as a whole."""
    return " ".join(dict.fromkeys(job.identifier.partition("_")[0] for job in jobs))


def _asked_for(settings: Mapping[str, Any]) -> str:
    asked = {key: settings[key] for key in _ASKED_FOR if settings.get(key) is not None}
    return " ".join(f"hydra.launcher.{key}={value}" for key, value in asked.items())
