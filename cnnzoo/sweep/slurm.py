"""What SLURM's own commands say: which of the user's jobs are in the queue, and how large an array may be."""

import re
import subprocess
from dataclasses import dataclass

# The states in which a job stays ended (man squeue, "JOB STATE CODES").
_ENDED = {
    "BOOT_FAIL",
    "CANCELLED",
    "COMPLETED",
    "DEADLINE",
    "FAILED",
    "LAUNCH_FAILED",
    "NODE_FAIL",
    "OUT_OF_MEMORY",
    "PREEMPTED",
    "REVOKED",
    "TIMEOUT",
}
# Why a job waits that will start in time.
_ORDINARY_REASONS = {"None", "Priority", "Resources", "JobArrayTaskLimit", "BeginTime", "Cleaning", "Prolog"}


@dataclass(frozen=True)
class JobState:
    """State and reason in SLURM's words."""

    state: str
    reason: str = "None"

    @property
    def has_ended(self) -> bool:
        return self.state in _ENDED

    @property
    def may_wait_forever(self) -> bool:
        return self.state == "PENDING" and self.reason not in _ORDINARY_REASONS

    def __str__(self) -> str:
        return self.state if self.reason == "None" else f"{self.state} ({self.reason})"


def job_states() -> dict[str, JobState] | None:
    """The user's jobs, those included that ended lately, by identifier (`18_0` within an array).

    None: SLURM does not answer. This needs no accounting.
    """
    answer = _run("squeue", "--me", "--array", "--noheader", "--states=all", "--format=%i|%T|%r")
    if answer is None:
        return None
    fields = [line.strip().split("|", 2) for line in answer.splitlines() if line.count("|") >= 2]
    return {identifier: JobState(state, reason) for identifier, state, reason in fields}


def max_array_size() -> int:
    """The number of jobs that one array may have; 1 where the cluster allows no arrays."""
    found = re.search(r"^MaxArraySize\s*=\s*(\d+)", _run("scontrol", "show", "config") or "", re.MULTILINE)
    return max(1, int(found[1])) if found else 1001  # SLURM's default


def _run(*command: str) -> str | None:
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return None
