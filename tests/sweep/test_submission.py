"""Runs in a fake queue: submitted once, each waited for by itself. end_to_end/test_slurm.py has a real one."""

import json
import logging
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from omegaconf import DictConfig, OmegaConf

from cnnzoo.config import Config
from cnnzoo.errors import UserError
from cnnzoo.results.run_folder import locked, write_result
from cnnzoo.sweep.job import Job

pytest.importorskip("submitit")
from cnnzoo.sweep import submission
from cnnzoo.sweep.submission import Task, launch

Runs = Callable[..., list[tuple[Path, DictConfig]]]


class Cluster:
    """SLURM's commands as scripts: `sbatch` counts jobs from 100 and keeps its scripts, `squeue` prints `queue`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.queue = folder / "queue"
        self.queue.touch()
        self.command("srun", "exit 1")
        self.command("squeue", f"cat {self.queue}")
        self.command("scontrol", "echo 'MaxArraySize = 1001'")
        self.command("sbatch", f'n=$((100 + $(ls {folder} | grep -c "sh$"))); cp "$1" {folder}/$n.sh; echo job $n')

    def command(self, name: str, script: str) -> None:
        file = self.folder / "bin" / name
        file.parent.mkdir(exist_ok=True)
        file.write_text(f"#!/bin/sh\n{script}\n")
        file.chmod(0o755)

    @property
    def arrays(self) -> list[str]:
        """The array of each submission; an empty text for a single job."""
        found = []
        for file in sorted(self.folder.glob("1??.sh")):
            lines = [line for line in file.read_text().splitlines() if "--array" in line]
            found.append(lines[0].partition("=")[2] if lines else "")
        return found

    def states(self, **states: str) -> None:
        """What squeue shows: `_100_0="RUNNING|None"`."""
        lines = [f"{identifier[1:]}|{state}" for identifier, state in states.items()]
        (self.folder / "new").write_text("\n".join(lines) + "\n")
        (self.folder / "new").replace(self.queue)


@pytest.fixture
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Cluster:
    folder = tmp_path / "cluster"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder / 'bin'}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setattr(submission.Slurm, "patience", 0.0)
    monkeypatch.setattr(submission.Slurm, "poll_seconds", 0.1)
    return Cluster(folder)


@pytest.fixture
def runs(config: Callable[..., Config], tmp_path: Path) -> Runs:
    """The runs of some seeds as a sweep writes them down: their folders, and what their jobs get."""
    composed = config("dataset=digits", "model=mlp")

    def make(*seeds: int, sweep: str = "now") -> list[tuple[Path, DictConfig]]:
        made = []
        for number, seed in enumerate(seeds):
            job = Job(replace(composed, seed=seed), (f"seed={seed}",), f"the command of {seed}")
            file = tmp_path / "outputs" / ".sweeps" / sweep / "jobs" / f"{number}.yaml"
            job.write(file)
            made.append((job.folder, OmegaConf.create({"job": str(file)})))
        return made

    return make


def settings(tmp_path: Path, **values: Any) -> dict[str, Any]:
    return {"submitit_folder": str(tmp_path / "submitit" / "%j"), "name": "x", "timeout_min": 5, **values}


def nothing(config: DictConfig) -> None:
    """What the fake cluster never runs."""


def finish(folder: Path, status: str = "completed") -> None:
    folder.mkdir(parents=True, exist_ok=True)
    write_result(folder, {"status": status})


@pytest.fixture
def later() -> Iterator[Callable[..., None]]:
    """Do something while the test's thread waits."""
    timers: list[threading.Timer] = []

    def start(seconds: float, action: Callable[[], Any]) -> None:
        timers.append(threading.Timer(seconds, action))
        timers[-1].start()

    yield start
    for timer in timers:
        timer.join()


def test_cancelled_job_ends_the_wait_for_no_other(
    cluster: Cluster, runs: Runs, later: Callable[..., None], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    made = runs(1, 2)
    cluster.states(_100_0="CANCELLED|None", _100_1="RUNNING|None")
    ended = time.monotonic() + 4
    later(4, lambda: finish(made[1][0]))
    launch("slurm", settings(tmp_path), nothing, [config for _, config in made])
    assert time.monotonic() >= ended
    said = [record.message for record in caplog.records if "has ended without a result" in record.message]
    assert len(said) == 1
    assert said[0].startswith("job 100_0 has ended without a result, CANCELLED: seed=1")


def test_job_that_the_queue_has_forgotten_is_not_waited_for(
    cluster: Cluster, runs: Runs, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    launch("slurm", settings(tmp_path), nothing, [config for _, config in runs(1)])
    assert "no longer in the queue" in caplog.text


def test_silence_of_slurm_is_not_the_end_of_its_jobs(
    cluster: Cluster, runs: Runs, later: Callable[..., None], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (folder, config) = runs(1)[0]
    cluster.command("squeue", "exit 1")
    later(2, lambda: finish(folder))
    launch("slurm", settings(tmp_path), nothing, [config])
    assert "has ended without a result" not in caplog.text
    assert caplog.text.count("squeue gets no answer") == 1


def test_result_from_before_the_job_does_not_count(
    cluster: Cluster, runs: Runs, later: Callable[..., None], tmp_path: Path
) -> None:
    """A run that has failed is tried again, and waited for."""
    folder = runs(1)[0][0]
    finish(folder, "failed")
    os.utime(folder / "result.json", (1_700_000_000, 1_700_000_000))
    cluster.states(_100="RUNNING|None")
    ended = time.monotonic() + 2
    later(2, lambda: finish(folder, "failed"))
    launch("slurm", settings(tmp_path), nothing, [config for _, config in runs(1)])
    assert time.monotonic() >= ended


def test_runs_in_the_queue_are_not_submitted_again(
    cluster: Cluster, runs: Runs, later: Callable[..., None], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Ctrl-C leaves two jobs behind; the same command, and one more run, waits for them."""
    caplog.set_level(logging.INFO)
    first = runs(1, 2, sweep="first")
    cluster.states(_100_0="RUNNING|None", _100_1="PENDING|Resources")
    later(1.5, lambda: signal.raise_signal(signal.SIGINT))
    with pytest.raises(KeyboardInterrupt):
        launch("slurm", settings(tmp_path), nothing, [config for _, config in first])
    assert "The jobs go on in SLURM until `scancel 100` ends them; the same command waits" in caplog.text
    cluster.states(_100_0="RUNNING|None", _100_1="PENDING|Resources", _101="PENDING|Priority")
    second = runs(1, 2, 3, sweep="second")
    for folder, _ in second:
        later(2, lambda folder=folder: finish(folder))
    launch("slurm", settings(tmp_path), nothing, [config for _, config in second])
    assert cluster.arrays == ["0-1%2", ""]
    assert "2 of 3 runs are in the queue already: 100" in caplog.text
    assert "has ended without a result" not in caplog.text


@pytest.mark.parametrize("content", ["{", "[]", '{"x": 3}', '{"x": {"identifier": "1"}}'])
def test_damaged_record_counts_as_none(content: str, cluster: Cluster, runs: Runs, tmp_path: Path) -> None:
    made = runs(1)
    record = tmp_path / "outputs" / ".sweeps" / "earlier" / "slurm.json"
    record.parent.mkdir()
    record.write_text(content)
    finish(made[0][0])
    launch("slurm", settings(tmp_path), nothing, [made[0][1]])
    assert cluster.arrays == [""]


def test_large_sweeps_are_several_arrays(cluster: Cluster, runs: Runs, tmp_path: Path) -> None:
    cluster.command("scontrol", "echo 'MaxArraySize            = 3'")
    made = runs(*range(7))
    for folder, _ in made:
        finish(folder)
    launch("slurm", settings(tmp_path), nothing, [config for _, config in made])
    assert cluster.arrays == ["0-2%3", "0-2%3", ""]
    record = json.loads((tmp_path / "outputs" / ".sweeps" / "now" / "slurm.json").read_text())
    identifiers = [record[str(folder)]["identifier"] for folder, _ in made]
    assert identifiers == ["100_0", "100_1", "100_2", "101_0", "101_1", "101_2", "102"]


def test_refusal_names_what_was_asked_for(cluster: Cluster, runs: Runs, tmp_path: Path) -> None:
    cluster.command("sbatch", "echo 'sbatch: error: Invalid partition name specified' >&2; exit 1")
    asked = settings(tmp_path, partition="gpu", gpus_per_node=1, qos=None)
    with pytest.raises(UserError) as refusal:
        launch("slurm", asked, nothing, [config for _, config in runs(1)])
    assert "Invalid partition name specified" in str(refusal.value)
    assert "hydra.launcher.partition=gpu hydra.launcher.gpus_per_node=1 hydra.launcher.timeout_min=5" in str(
        refusal.value
    )
    assert "qos" not in str(refusal.value)


def test_job_that_may_never_start_is_said_once(
    cluster: Cluster, runs: Runs, later: Callable[..., None], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    made = runs(1, 2)
    cluster.states(_100_0="PENDING|PartitionConfig", _100_1="PENDING|Resources")
    for folder, _ in made:
        later(3, lambda folder=folder: finish(folder))
    launch("slurm", settings(tmp_path, cpus_per_task=64), nothing, [config for _, config in made])
    said = [record.message for record in caplog.records if "may never start" in record.message]
    assert len(said) == 1
    assert said[0].startswith("SLURM may never start 1 of the jobs: its reason is PartitionConfig (man squeue).")
    assert "hydra.launcher.cpus_per_task=64" in said[0]


@pytest.fixture
def handlers() -> Iterator[None]:
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGUSR2)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def test_warning_before_the_time_limit_ends_a_run_as_ctrl_c_does(handlers: None) -> None:
    """The job goes back into the queue after the run has stopped, and so has its checkpoint."""
    steps: list[str] = []
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # as shells do for what they start in the background
    signal.signal(signal.SIGUSR2, lambda *_: steps.append("requeued"))  # submitit's handler

    def run(config: DictConfig) -> None:
        try:
            signal.raise_signal(signal.SIGUSR2)
            steps.append("went on")
        finally:
            signal.raise_signal(signal.SIGUSR2)  # a second warning disturbs nothing
            steps.append("checkpoint")

    Task(run, OmegaConf.create())()
    assert steps == ["checkpoint", "requeued"]


def test_ctrl_c_does_not_requeue(handlers: None) -> None:
    steps: list[str] = []
    signal.signal(signal.SIGUSR2, lambda *_: steps.append("requeued"))

    def run(config: DictConfig) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Task(run, OmegaConf.create())()
    assert steps == []


def test_last_time_limit_says_how_to_go_on(handlers: None) -> None:
    from submitit.core.utils import UncompletedJobError

    def refuse(*_: Any) -> None:
        raise UncompletedJobError("Job not requeued because: timed-out too many times.")

    signal.signal(signal.SIGUSR2, refuse)
    with pytest.raises(UserError, match=r"hydra\.launcher\.timeout_min.*The same command resumes"):
        Task(lambda config: signal.raise_signal(signal.SIGUSR2), OmegaConf.create())()


def test_killed_process_of_this_machine_ends_no_other(
    runs: Runs, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """submitit's own wait gives up all of them."""
    made = runs(1, 2)
    folders = [str(folder) for folder, _ in made]

    def work(config: DictConfig) -> None:
        import os
        import signal
        import time
        from pathlib import Path

        if config.job.endswith("0.yaml"):
            os.kill(os.getpid(), signal.SIGKILL)
        time.sleep(4)
        Path(folders[1]).mkdir(parents=True, exist_ok=True)
        Path(folders[1], "result.json").write_text('{"status": "completed"}')

    launch("local", settings(tmp_path), work, [config for _, config in made])
    assert Path(folders[1], "result.json").is_file()
    assert caplog.text.count("has ended without a result") == 1


def test_a_job_that_begins_anew_waits_for_its_old_process(
    runs: Runs, handlers: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SLURM may start a preempted job again before its first process, which still holds the run, is gone."""
    ((folder, config),) = runs(1)
    order: list[str] = []
    held, ended = threading.Event(), threading.Event()

    def old_process() -> None:
        with locked(folder):
            held.set()
            time.sleep(0.7)
            order.append("the old one ends")
        ended.set()

    threading.Thread(target=old_process).start()
    held.wait()
    monkeypatch.setenv("SLURM_RESTART_COUNT", "1")
    Task(lambda _: order.append("the new one begins"), config)()
    assert order == ["the old one ends", "the new one begins"]
    assert ended.wait(5)
