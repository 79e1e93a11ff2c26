"""What SLURM's commands print, read."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from cnnzoo.sweep.slurm import JobState, job_states, max_array_size

Fake = Callable[[str, str], None]


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Fake:
    """Put a command on PATH that is a script of the shell."""
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}")

    def write(name: str, script: str) -> None:
        file = tmp_path / "bin" / name
        file.parent.mkdir(exist_ok=True)
        file.write_text(f"#!/bin/sh\n{script}\n")
        file.chmod(0o755)

    return write


def test_job_states(fake: Fake) -> None:
    fake(
        "squeue", "echo '18_0|RUNNING|None'; echo '18_1|PENDING|PartitionConfig'; echo '19|CANCELLED|a|b'; echo; echo x"
    )
    states = job_states()
    assert states == {
        "18_0": JobState("RUNNING"),
        "18_1": JobState("PENDING", "PartitionConfig"),
        "19": JobState("CANCELLED", "a|b"),
    }
    assert [state.has_ended for state in states.values()] == [False, False, True]
    assert [state.may_wait_forever for state in states.values()] == [False, True, False]
    assert not JobState("PENDING", "Resources").may_wait_forever


def test_no_answer_is_not_an_empty_queue(fake: Fake) -> None:
    fake("squeue", "echo 'slurm_load_jobs error: Unable to contact slurm controller' >&2; exit 1")
    assert job_states() is None
    fake("squeue", "exit 0")
    assert job_states() == {}


@pytest.mark.parametrize(("script", "size"), [("echo 'MaxArraySize            = 3'", 3), ("exit 1", 1001)])
def test_array_size(script: str, size: int, fake: Fake) -> None:
    fake("scontrol", script)
    assert max_array_size() == size


def test_cluster_without_arrays(fake: Fake) -> None:
    fake("scontrol", "echo 'MaxArraySize = 0'")
    assert max_array_size() == 1
