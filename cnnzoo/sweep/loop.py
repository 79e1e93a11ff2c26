"""The loop of every sweep: skip finished runs, launch the rest, watch their folders, report from them."""

import logging
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from hydra.types import HydraContext
from omegaconf import DictConfig

from cnnzoo.config.command import command_line, command_of
from cnnzoo.results.provenance import changed_sources
from cnnzoo.results.run_folder import is_running, read_result
from cnnzoo.sweep.job import Job
from cnnzoo.sweep.launchers import check_launcher, launch, runs_in_this_process
from cnnzoo.sweep.progress import PlannedRun, SweepRecord, watched

log = logging.getLogger(__name__)


def run_jobs(jobs: Sequence[Job], config: DictConfig, context: HydraContext) -> None:
    """Do the runs that are not finished. How each one ended is in its folder.

    Raises:
        UserError: the launcher's settings cannot work.
        Exception: whatever the launcher raises, if no run has begun.
    """
    check_launcher(config)
    unique = list({job.folder: job for job in jobs}.values())
    todo = [job for job in unique if not job.is_finished]
    if len(todo) < len(unique):
        log.info("%d of %d runs are already finished (rerun=true trains again)", len(unique) - len(todo), len(unique))
        _warn_of_changed_code([job for job in unique if job.is_finished])
    if not todo:
        return
    record = SweepRecord(Path(config.hydra.sweep.dir).absolute())
    planned = [PlannedRun(job.overrides, str(job.folder)) for job in todo]
    with (
        record.running(),
        watched(record.add(command_line(), planned), record, elsewhere=not runs_in_this_process(config)),
    ):
        launch(todo, record, config, context)


def _warn_of_changed_code(finished: Sequence[Job]) -> None:
    """Name the modules whose files are not those that finished runs were made with; once for all runs."""
    changed: dict[str, int] = {}
    for job in finished:
        for module in changed_sources(job.config, read_result(job.folder) or {}):
            changed[module] = changed.get(module, 0) + 1
    for module, count in changed.items():
        log.warning("%s has changed since %d of these runs (rerun=true trains them again)", module, count)


def suggest_comparison(jobs: Sequence[Job]) -> None:
    """Name the command that shows these runs in one table."""
    folders = {str(job.folder.parent) for job in jobs if job.is_completed}
    if len(folders) and len(jobs) > 1:
        common = os.path.relpath(os.path.commonpath(folders))
        log.info("their table: %s", command_of("compare", common))


def report_failures(jobs: Sequence[Job]) -> bool:
    """Print to stderr which runs have no result, why, and how to repeat them; return whether there are any."""
    failed = False
    for job in dict.fromkeys(jobs):
        result = read_result(job.folder) or {}
        if result.get("status") in ("completed", "pruned"):
            continue
        failed = True
        if result.get("status") == "failed":
            reason = str(result.get("error")).removeprefix("UserError: ")
        elif is_running(job.folder):
            reason = f"Another process is already running this configuration: {job.folder}."
        else:
            reason = "Its process died before it had a result. The same command resumes it."
        print(f"error: {reason}", file=sys.stderr)
        if (job.folder / "run.log").is_file():
            print(f"  its log: {job.folder / 'run.log'}", file=sys.stderr)
        print(f"  again with: {job.command}", file=sys.stderr)
    return failed
