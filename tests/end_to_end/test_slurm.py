"""Sweeps on a real SLURM: make test-slurm.

One node of two processors is enough, with or without accounting. Preemption needs a partition `low`, the default one,
whose jobs a partition `high` requeues.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytestmark = pytest.mark.slurm

SWEEP = (
    "-m",
    "hydra/launcher=submitit_slurm",
    "hydra.launcher.cpus_per_task=1",
    "hydra.launcher.gpus_per_node=null",
    "hydra.launcher.mem_gb=null",
    "hydra.launcher.timeout_min=5",  # so short that every warning counts as the end of the time
    "model=mlp",
    "model.widths=[16]",
    "dataset=digits",
    "image_size=8",
    "augmentation=flip_crop",
    "trainer.accelerator=cpu",
    "logger=none",
)
TRAINING = "trainer.max_epochs=150"  # long enough to be met while it goes on
Command = Callable[..., "subprocess.CompletedProcess[str]"]


def slurm(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout


def jobs() -> list[str]:
    """Identifiers of this user's jobs that have not ended."""
    return slurm("squeue", "--me", "--array", "--noheader", "--format=%i").split()


@pytest.fixture(autouse=True)
def idle_cluster() -> Iterator[None]:
    if shutil.which("sbatch") is None or subprocess.run(["sinfo"], capture_output=True, timeout=60).returncode:
        pytest.skip("no SLURM answers here")
    if jobs():
        pytest.skip("jobs of yours are in the queue, and this would cancel them")
    yield
    if left := jobs():
        slurm("scancel", "--signal=KILL", *left)
        slurm("scancel", *left)
        wait_for(lambda: not jobs())


def wait_for(condition: Callable[[], Any], seconds: float = 300) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, slurm("squeue")
        time.sleep(0.2)


@pytest.fixture
def front(tmp_path: Path) -> Iterator[Callable[..., "subprocess.Popen[str]"]]:
    """Start a sweep, and do not wait for it."""
    started = []

    def start(*overrides: str) -> "subprocess.Popen[str]":
        process = subprocess.Popen(
            [sys.executable, "-m", "cnnzoo.run", *SWEEP, *overrides],
            cwd=tmp_path,
            stderr=subprocess.PIPE,
            text=True,
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
        )
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


def end_of(process: "subprocess.Popen[str]", seconds: float = 600) -> tuple[int, str]:
    _, stderr = process.communicate(timeout=seconds)
    return process.returncode, stderr


def epochs(outputs: Path) -> dict[int, int]:
    """Epochs that each run has done, by seed."""
    done = {}
    for file in outputs.rglob("metrics.csv"):
        done[int(file.parent.name.removeprefix("seed").partition("-")[0])] = file.read_text().count("\n") - 1
    return done


def task_of(outputs: Path, seed: int) -> str:
    (file,) = outputs.glob(".sweeps/*/slurm.json")
    (entry,) = (job for folder, job in json.loads(file.read_text()).items() if f"/seed{seed}-" in folder)
    return str(entry["identifier"])


def results(outputs: Path) -> dict[int, dict[str, Any]]:
    found = [json.loads(path.read_text()) for path in outputs.rglob("result.json")]
    return {result["seed"]: result for result in found}


def errors(stderr: str) -> list[str]:
    return [line for line in stderr.splitlines() if line.startswith("error: ")]


def assert_as_undisturbed(cnnzoo: Command, outputs: Path, *overrides: str) -> None:
    """The runs in `outputs` are, to the last bit, those of this process."""
    alone = outputs.with_name("alone")
    environment = os.environ | {"CNNZOO_OUTPUTS": str(alone), "OMP_NUM_THREADS": "1"}
    typed = [word for word in SWEEP if "launcher" not in word]
    assert cnnzoo("run", *typed, *overrides, env=environment).returncode == 0
    one, other = results(outputs), results(alone)
    assert one.keys() == other.keys()
    for seed in one:
        keys = ("status", "val_accuracy", "val_loss", "test_accuracy", "test_loss", "best_epoch", "epochs")
        assert [one[seed][key] for key in keys] == [other[seed][key] for key in keys]
        first, second = (next(root.rglob(f"seed{seed}-*/predictions.npz")) for root in (outputs, alone))
        assert np.array_equal(np.load(first)["logits"], np.load(second)["logits"])


def test_same_results_as_in_this_process(cnnzoo: Command, tmp_path: Path) -> None:
    answer = cnnzoo("run", *SWEEP, "seed=1,2", "trainer.max_epochs=3")
    assert answer.returncode == 0, answer.stderr
    assert "2 submitted to SLURM: `squeue --me` lists what waits and runs, `scancel" in answer.stderr
    assert_as_undisturbed(cnnzoo, tmp_path / "outputs", "seed=1,2", "trainer.max_epochs=3")


def test_failed_run_is_reported_with_its_launcher(cnnzoo: Command, tmp_path: Path) -> None:
    answer = cnnzoo("run", *SWEEP, "seed=1", "trainer.max_epochs=1", "optimizer.lr=0.01,1e30")
    assert answer.returncode == 1
    assert len(errors(answer.stderr)) == 1
    assert "again with: python -m cnnzoo.run -m hydra/launcher=submitit_slurm hydra.launcher.cpus" in answer.stderr


def test_cancelled_job_ends_no_other(front: Callable[..., Any], tmp_path: Path) -> None:
    outputs = tmp_path / "outputs"
    process = front("seed=1,2", TRAINING)
    wait_for(lambda: epochs(outputs).get(1, 0) > 2)
    cancelled = task_of(outputs, 1)
    slurm("scancel", cancelled)
    code, stderr = end_of(process)
    assert code == 1
    assert len(errors(stderr)) == 1, stderr
    assert f"job {cancelled} has ended without a result" in stderr
    assert "CANCELLED" in stderr
    assert {seed: result["status"] for seed, result in results(outputs).items()} == {2: "completed"}


def test_time_limit_is_no_failure(cnnzoo: Command, front: Callable[..., Any], tmp_path: Path) -> None:
    """Seed 1 may go on; without the right to go on it stays unfinished, and the same command resumes it."""
    outputs = tmp_path / "outputs"
    process = front("seed=1", TRAINING)
    wait_for(lambda: epochs(outputs).get(1, 0) > 2)
    slurm("scancel", "--signal=USR2", task_of(outputs, 1))
    code, stderr = end_of(process)
    assert code == 0, stderr
    assert "resuming from" in next(outputs.rglob("run.log")).read_text()
    assert_as_undisturbed(cnnzoo, outputs, "seed=1", TRAINING)


def test_time_limit_without_another_attempt(cnnzoo: Command, front: Callable[..., Any], tmp_path: Path) -> None:
    outputs = tmp_path / "outputs"
    process = front("seed=1", TRAINING, "hydra.launcher.max_num_timeout=0")
    wait_for(lambda: epochs(outputs).get(1, 0) > 2)
    slurm("scancel", "--signal=USR2", task_of(outputs, 1))
    code, stderr = end_of(process)
    assert code == 1
    assert "time limit was over too often (hydra.launcher.timeout_min" in stderr
    assert not results(outputs)
    assert cnnzoo("run", *SWEEP, "seed=1", TRAINING).returncode == 0
    assert "resuming from" in next(outputs.rglob("run.log")).read_text()
    assert_as_undisturbed(cnnzoo, outputs, "seed=1", TRAINING)


def test_preempted_runs_go_on(cnnzoo: Command, front: Callable[..., Any], tmp_path: Path) -> None:
    """With a grace time SLURM sends SIGTERM first, and requeues only who is still there at its end."""
    if "high" not in slurm("sinfo", "--noheader", "--format=%R").split():
        pytest.skip("no partition `high` that preempts the default one")
    outputs = tmp_path / "outputs"
    training = "trainer.max_epochs=400"
    process = front("seed=1,2", training)
    wait_for(lambda: all(epochs(outputs).get(seed, 0) > 2 for seed in (1, 2)))
    slurm("srun", "--partition=high", "--exclusive", "--time=1", "sleep", "1")
    code, stderr = end_of(process)
    assert code == 0, stderr
    assert all("resuming from" in log.read_text() for log in outputs.rglob("run.log"))
    assert_as_undisturbed(cnnzoo, outputs, "seed=1,2", training)


def test_several_processes_of_one_run(cnnzoo: Command, tmp_path: Path) -> None:
    answer = cnnzoo("run", *SWEEP, "hydra.launcher.cpus_per_task=2", "trainer.devices=2", "trainer.max_epochs=2")
    assert answer.returncode == 0, answer.stderr
    assert [result["status"] for result in results(tmp_path / "outputs").values()] == ["completed"]


def test_jobs_outlive_ctrl_c_and_are_not_submitted_twice(
    cnnzoo: Command, front: Callable[..., Any], tmp_path: Path
) -> None:
    outputs = tmp_path / "outputs"
    first = front("seed=1,2", TRAINING, "hydra.launcher.array_parallelism=1")  # one runs, one is queued
    wait_for(lambda: epochs(outputs).get(1, 0) > 2)
    submitted = jobs()
    first.send_signal(signal.SIGINT)
    code, stderr = end_of(first)
    assert code == 130
    array = submitted[0].partition("_")[0]
    assert f"The jobs go on in SLURM until `scancel {array}` ends them; the same command waits for them" in stderr
    assert jobs() == submitted
    code, stderr = end_of(front("seed=1,2", TRAINING, "hydra.launcher.array_parallelism=1"))
    assert code == 0, stderr
    assert f"2 of 2 runs are in the queue already: {array}" in stderr
    assert "submitted to SLURM" not in stderr
    assert_as_undisturbed(cnnzoo, outputs, "seed=1,2", TRAINING)


def test_job_that_can_never_start_is_said(front: Callable[..., Any]) -> None:
    """SLURM takes more processors than there are, and lets the job wait for ever."""
    process = front("seed=1", "trainer.max_epochs=1", "hydra.launcher.cpus_per_task=1000")
    said = next(line for line in process.stderr if "may never start" in line)
    assert "its reason is PartitionConfig" in said
    assert "hydra.launcher.cpus_per_task=1000" in said


def test_refusal_names_what_was_asked_for(cnnzoo: Command) -> None:
    answer = cnnzoo("run", *SWEEP, "seed=1", "hydra.launcher.partition=nowhere", "hydra.launcher.cpus_per_task=1")
    assert answer.returncode == 1
    assert [line.partition(" the jobs")[0] for line in errors(answer.stderr)] == ["error: SLURM refuses"]
    assert "hydra.launcher.partition=nowhere" in answer.stderr
    assert "HYDRA_FULL_ERROR" not in answer.stderr


def test_run_in_this_process_gets_no_advice_to_use_srun(cnnzoo: Command) -> None:
    typed = [word for word in SWEEP if "launcher" not in word]
    answer = cnnzoo("run", *typed, "seed=1", "trainer.max_epochs=1")
    assert answer.returncode == 0
    assert "srun" not in answer.stderr
