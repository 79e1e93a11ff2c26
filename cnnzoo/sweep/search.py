"""A search with Optuna: the trials of a study are runs, and their values validation accuracies."""

import copy
import importlib.util
import logging
import shlex
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.core.config_loader import ConfigLoader
from hydra.errors import HydraException
from hydra.types import HydraContext
from omegaconf import DictConfig, open_dict, read_write
from omegaconf.errors import OmegaConfBaseException

from cnnzoo.config import CONF_DIR, identity
from cnnzoo.config.compose import to_config
from cnnzoo.config.hydra_errors import explain
from cnnzoo.console import set_up_logging
from cnnzoo.errors import UserError
from cnnzoo.io import exclusive_lock
from cnnzoo.results import render
from cnnzoo.results.run_folder import read_result
from cnnzoo.results.settings import differences, flatten, short_names
from cnnzoo.sweep.job import Job, compose_job, configured_overrides
from cnnzoo.sweep.loop import run_jobs
from cnnzoo.sweep.trial import Trial, make_pruner

if TYPE_CHECKING:
    import optuna
    from optuna.trial import FrozenTrial

    from cnnzoo.sweep.space import Space

log = logging.getLogger(__name__)

_SHOWN = 5  # trials in the table at the end


def search(settings: Mapping[str, Any], arguments: Sequence[str], config: DictConfig, context: HydraContext) -> None:
    """Run trials until the study has as many as it should, and print the best.

    Args:
        settings: `hydra.sweeper`.
        arguments: what was typed.
        config: composed from what was typed, sweeps left out.

    Raises:
        UserError: there is nothing to search, or the settings do not make a search.
    """
    if importlib.util.find_spec("optuna") is None:
        raise UserError('hydra/sweeper=optuna needs Optuna: pip install "cnnzoo[optuna]"')
    import optuna

    from cnnzoo.sweep.space import example_parameters, read_overrides
    from cnnzoo.sweep.study import default_name, make_sampler, open_study, search_definition

    set_up_logging()
    optuna.logging.disable_default_handler()
    optuna.logging.enable_propagation()
    for key in ("n_trials", "n_jobs"):
        if not isinstance(settings[key], int) or isinstance(settings[key], bool) or settings[key] < 1:
            raise UserError(f"hydra.sweeper.{key}={settings[key]}: expected a whole number of at least 1.")
    make_pruner(settings["pruner"])
    make_sampler(settings["sampler"], 0)
    params = configured_overrides(settings["params"])
    fixed, space = read_overrides([*params, *arguments], context.config_loader)
    trials = _Trials(fixed, settings, config, context)
    example = trials.compose(example_parameters(space)).config
    trials.check_search_file(example_parameters(space))
    definition = search_definition(space, example)
    name = str(settings["study_name"] or default_name(example, definition))
    folder = Path(example.paths.outputs).absolute() / ".searches" / name
    storage = settings["storage"] or f"sqlite:///{folder / 'study.db'}"
    with exclusive_lock(folder / ".lock", busy=f"Another process is at this search: {folder}. Wait for it."):
        study = open_study(name, storage, definition)
        _run_trials(study, space, trials, settings, storage)
        _report(study, space, trials, storage)


class _Trials:
    """Makes ordinary runs of a study's parameters: the sweeper and the choice of `search` are not part of them.

    `fixed` are the overrides, by key, that all of them have in common.
    """

    def __init__(
        self, fixed: Mapping[str, str], settings: Mapping[str, Any], config: DictConfig, context: HydraContext
    ) -> None:
        self.fixed = [override for key, override in fixed.items() if key.lstrip("+") != "search"]
        self.fixed_and_search = list(fixed.values())
        self.settings, self.context, self.config_of_search = settings, context, config
        self.config = copy.deepcopy(config)
        of_search = ("hydra.sweeper", "hydra/sweeper", "hydra.mode")
        kept = [text for text in config.hydra.overrides.hydra if not text.lstrip("+~").startswith(of_search)]
        with read_write(self.config), open_dict(self.config):
            self.config.hydra.overrides.hydra = [*kept, "hydra.mode=MULTIRUN"]

    @property
    def loader(self) -> ConfigLoader:
        return self.context.config_loader

    def compose(self, parameters: Mapping[str, Any], trial: Trial | None = None) -> Job:
        """The run with these parameters.

        Raises:
            UserError, HydraException, OmegaConfBaseException: they do not make a run.
        """
        job = compose_job([*self.fixed, *_as_overrides(parameters)], self.config, self.loader)
        if job.config.dataset.val_size == 0:
            raise UserError("dataset.val_size=0: a search chooses by validation accuracy; hold some images out for it.")
        return replace(job, trial=trial)

    def check_search_file(self, parameters: Mapping[str, Any]) -> None:
        """Refuse a choice of `search` that sets more than Hydra's own part: a run would not have it."""
        if self.fixed == self.fixed_and_search:
            return
        overrides = [*self.fixed_and_search, *_as_overrides(parameters)]
        with_search = to_config(self.loader.load_sweep_config(self.config_of_search, overrides))
        one, other = (flatten(identity(each)) for each in (self.compose(parameters).config, with_search))
        if keys := differences(one, other):
            raise UserError(
                f"search={self.config_of_search.hydra.runtime.choices.search} sets {', '.join(keys)}:"
                " move that into its hydra.sweeper.params, so that a trial is a run like any other."
            )

    def command_line(self, parameters: Mapping[str, Any]) -> str:
        """The command that does one of the runs by itself."""
        return "python -m cnnzoo.run " + shlex.join([*self.fixed, *_as_overrides(parameters)])

    def run(self, jobs: Sequence[Job]) -> None:
        run_jobs(jobs, self.config, self.context)


def _as_overrides(parameters: Mapping[str, Any]) -> list[str]:
    """Parameters as they would be typed, numbers to their last digit."""
    return [f"{key}={value}" for key, value in parameters.items()]


def _run_trials(
    study: "optuna.Study", space: "Space", trials: _Trials, settings: Mapping[str, Any], storage: str
) -> None:
    from cnnzoo.sweep.study import make_sampler

    waiting: list[optuna.Trial | FrozenTrial] = [*_orphaned_trials(study, space)]
    while True:
        while len(waiting) < settings["n_jobs"] and (begun := _count_begun(study)) < settings["n_trials"]:
            study.sampler = make_sampler(settings["sampler"], begun)
            waiting.append(study.ask(dict(space)))
        if not waiting:
            return
        batch: dict[str, optuna.Trial | FrozenTrial] = {}
        for trial in waiting[: settings["n_jobs"]]:
            batch.setdefault(str(trial.params), trial)  # the same run cannot be done twice at the same time
        waiting = [trial for trial in waiting if trial not in batch.values()]
        jobs: dict[int, Job] = {}
        for trial in batch.values():
            try:
                entry = Trial(storage, study.study_name, trial.number, settings["pruner"])
                jobs[trial.number] = trials.compose(trial.params, entry)
            except (UserError, HydraException, OmegaConfBaseException) as error:
                log.warning("trial %d: %s", trial.number + 1, explain(error, CONF_DIR))
        if jobs:
            trials.run(list(jobs.values()))
        for trial in batch.values():
            told = _tell(study, trial.number, jobs.get(trial.number))
            log.info("trial %d of %d: %s", trial.number + 1, settings["n_trials"], _describe(told))


def _tell(study: "optuna.Study", number: int, job: Job | None) -> "FrozenTrial":
    """Hand a run's outcome to the study."""
    from optuna.trial import TrialState

    result = (read_result(job.folder) if job else None) or {}
    accuracy = result.get("val_accuracy")
    if result.get("status") == "pruned":
        return study.tell(number, state=TrialState.PRUNED)  # its value is the last accuracy that was reported
    if result.get("status") != "completed" or accuracy is None:
        return study.tell(number, state=TrialState.FAIL)
    return study.tell(number, accuracy)


def _count_begun(study: "optuna.Study") -> int:
    from optuna.trial import TrialState

    return sum(trial.state != TrialState.WAITING for trial in study.get_trials(deepcopy=False))


def _orphaned_trials(study: "optuna.Study", space: "Space") -> list["FrozenTrial"]:
    """The trials that were running when an earlier search died; their runs are resumed.

    A trial whose process died while its parameters were drawn has failed.
    """
    from optuna.trial import TrialState

    running = study.get_trials(states=(TrialState.RUNNING,))
    for trial in running:
        if trial.params.keys() != space.keys():
            study.tell(trial.number, state=TrialState.FAIL)
    return [trial for trial in running if trial.params.keys() == space.keys()]


def _describe(trial: "FrozenTrial") -> str:
    outcome = "failed" if trial.value is None else f"{render.percent(trial.value)} %"
    if trial.state.name == "PRUNED":
        outcome += f", pruned after epoch {trial.last_step}"
    return f"{outcome} ({', '.join(f'{key}={_short(value)}' for key, value in trial.params.items())})"


def _report(study: "optuna.Study", space: "Space", trials: _Trials, storage: str) -> None:
    """Print the best trials, the command of the best one, and where the study is."""
    from optuna.trial import TrialState

    all_trials = study.get_trials(deepcopy=False)
    counts = Counter(trial.state for trial in all_trials)
    named = {TrialState.COMPLETE: "completed", TrialState.PRUNED: "pruned", TrialState.FAIL: "failed"}
    parts = [f"{counts[state]} {name}" for state, name in named.items() if counts[state]]
    notes = [f"{len(all_trials)} trials: {', '.join(parts)}"]
    completed = {trial.number: trial.values[0] for trial in all_trials if trial.state == TrialState.COMPLETE}
    best = [all_trials[number] for number in sorted(completed, key=lambda number: -completed[number])]
    names = short_names(space)
    body = [
        [
            str(trial.number + 1),
            f"{render.percent(completed[trial.number])} %",
            *(_short(trial.params[key]) for key in names),
        ]
        for trial in best[:_SHOWN]
    ]
    header = ["trial", "validation", *names.values()]
    grid = render.Grid(f"The best of {len(all_trials)} trials", header, body, [False] * len(header))
    if sys.stdout.isatty():
        render.terminal([grid], notes)
    else:
        print(render.markdown([grid], notes), end="")
    if best:
        print(f"the best again: {trials.command_line(best[0].params)}")
    print(f"the study: {study.study_name} in {storage}")


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
