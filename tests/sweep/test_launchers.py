"""Launchers that are not installed, and those that give up all runs when one process dies."""

import importlib.util
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf

from cnnzoo.config import Config
from cnnzoo.errors import UserError
from cnnzoo.results.run_folder import locked, write_config, write_result
from cnnzoo.sweep import launchers
from cnnzoo.sweep.job import Job
from cnnzoo.sweep.progress import PlannedRun, SweepRecord


@pytest.mark.parametrize(
    ("target", "install"),
    [
        ("hydra_plugins.hydra_joblib_launcher.joblib_launcher.JoblibLauncher", "cnnzoo[joblib]"),
        ("hydra_plugins.hydra_ray_launcher.ray_launcher.RayLauncher", "cnnzoo[ray]"),
        ("hydra_plugins.cnnzoo_submitit_launcher.SlurmLauncher", "cnnzoo[submitit]"),
        ("hydra_plugins.cnnzoo_submitit_launcher.LocalLauncher", "cnnzoo[submitit]"),
    ],
)
def test_launcher_that_is_not_installed(target: str, install: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    config = OmegaConf.create({"hydra": {"launcher": {"_target_": target}}})
    with pytest.raises(UserError, match=r'pip install "' + install.replace("[", r"\[").replace("]", r"\]")):
        launchers.check_launcher(config)


def test_runs_that_survive_a_dead_process_are_waited_for(
    config: Callable[..., Config], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """As Ray does: the first run dies, the others go on one after another, and the launcher raises at once."""
    composed = config("dataset=digits", "model=mlp")
    jobs = [Job(replace(composed, seed=seed), (f"seed={seed}",), "a command") for seed in (1, 2, 3)]
    launched = []

    class Ray:
        def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> None:
            launched.append(len(job_overrides))
            write_config(jobs[0].folder, composed)
            threading.Thread(target=self.go_on).start()
            raise RuntimeError("a worker has died")

        def go_on(self) -> None:
            for job in jobs[1:]:
                with locked(job.folder):
                    write_config(job.folder, composed)
                    time.sleep(1)
                    write_result(job.folder, {"status": "completed"})
                time.sleep(1)

    def instantiate(*_: Any) -> Ray:
        return Ray()

    monkeypatch.setattr(launchers, "_instantiate_launcher", instantiate)
    monkeypatch.setitem(launchers._GAP, "RayLauncher", 3.0)
    record = SweepRecord(tmp_path / "sweep")
    record.add("a command", [PlannedRun(job.overrides, str(job.folder)) for job in jobs])
    ray: Any = OmegaConf.create({"hydra": {"launcher": {"_target_": "x.RayLauncher"}}})
    with record.running():
        launchers.launch(jobs, record, ray, None)  # type: ignore[arg-type]
    assert [job.is_finished for job in jobs] == [False, True, True]
    assert launched == [3]
