"""A search from its command line to its table: trials become jobs of whatever launcher is chosen."""

import logging
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import optuna
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig
from optuna.trial import FrozenTrial, TrialState

from cnnzoo.console import set_up_logging
from cnnzoo.errors import UserError
from cnnzoo.results import record, render
from cnnzoo.results.configurations import short_names
from cnnzoo.search.jobs import Jobs
from cnnzoo.search.space import Space, any_of, as_overrides, read_overrides
from cnnzoo.search.study import default_name, make_sampler, open_study, searched
from cnnzoo.search.trial import Trial, make_pruner

log = logging.getLogger(__name__)

_SHOWN = 5  # trials in the table at the end


def search(
    settings: Mapping[str, Any], overrides: Sequence[str], config: DictConfig, context: HydraContext, task: TaskFunction
) -> None:
    """Launches trials until the study has as many as it is to have, and prints the best.

    `settings` are `hydra.sweeper`, `overrides` what was typed beside it.

    Raises:
        UserError: there is nothing to search, or the settings do not make a search.
    """
    set_up_logging()
    optuna.logging.disable_default_handler()
    optuna.logging.enable_propagation()
    for key in ("n_trials", "n_jobs"):
        if not isinstance(settings[key], int) or isinstance(settings[key], bool) or settings[key] < 1:
            raise UserError(f"hydra.sweeper.{key}={settings[key]}: expected a whole number of at least 1.")
    make_pruner(settings["pruner"])
    make_sampler(settings["sampler"], 0)
    params = [f"{key}={value}" for key, value in (settings["params"] or {}).items()]
    fixed, space = read_overrides([*params, *overrides], context.config_loader)
    jobs = Jobs(fixed, config, context, task)
    example = jobs.compose(as_overrides(any_of(space)))
    jobs.check_search(as_overrides(any_of(space)))
    what = searched(space, example)
    name = str(settings["study_name"] or default_name(example, what))
    folder = Path(example["paths"]["outputs"]).absolute() / ".searches" / name
    storage = settings["storage"] or f"sqlite:///{folder / 'study.db'}"
    with record.locked(folder, busy="Another process is at this search"):
        study = open_study(name, storage, what)
        _do_trials(study, space, jobs, settings, storage)
        _report(study, space, jobs, storage)


def _do_trials(study: optuna.Study, space: Space, jobs: Jobs, settings: Mapping[str, Any], storage: str) -> None:
    waiting: list[optuna.Trial | FrozenTrial] = [*_left_behind(study, space)]
    while True:
        while len(waiting) < settings["n_jobs"] and (begun := _begun(study)) < settings["n_trials"]:
            study.sampler = make_sampler(settings["sampler"], begun)
            waiting.append(study.ask(space))
        if not waiting:
            return
        batch: dict[str, optuna.Trial | FrozenTrial] = {}
        for trial in waiting[: settings["n_jobs"]]:
            batch.setdefault(str(trial.params), trial)  # one run cannot be done twice at the same time
        waiting = [trial for trial in waiting if trial not in batch.values()]
        accuracies = jobs.launch(
            {
                trial.number: [
                    *as_overrides(trial.params),
                    Trial(storage, study.study_name, trial.number, settings["pruner"]).override(),
                ]
                for trial in batch.values()
            }
        )
        for number, accuracy in accuracies.items():
            failed = TrialState.FAIL if accuracy is None else None
            told = study.tell(number, accuracy, failed, skip_if_finished=True)  # a pruned run has told so itself
            log.info("trial %d of %d: %s", number + 1, settings["n_trials"], _describe(told))


def _begun(study: optuna.Study) -> int:
    return sum(trial.state != TrialState.WAITING for trial in study.get_trials(deepcopy=False))


def _left_behind(study: optuna.Study, space: Space) -> list[FrozenTrial]:
    """The trials that were running when a search died, as nobody else is at the study; their runs go on.

    One that died while its parameters were drawn has failed.
    """
    left = study.get_trials(states=(TrialState.RUNNING,))
    for trial in left:
        if trial.params.keys() != space.keys():
            study.tell(trial.number, state=TrialState.FAIL)
    return [trial for trial in left if trial.params.keys() == space.keys()]


def _describe(trial: FrozenTrial) -> str:
    outcome = "failed" if trial.value is None else _percent(trial.value)
    if trial.state == TrialState.PRUNED:
        outcome += f", pruned after epoch {trial.last_step}"
    return f"{outcome} ({', '.join(f'{key}={_short(value)}' for key, value in trial.params.items())})"


def _report(study: optuna.Study, space: Space, jobs: Jobs, storage: str) -> None:
    """The best trials, what does the best one again, and where the study is."""
    trials = study.get_trials(deepcopy=False)
    counts = Counter(trial.state for trial in trials)
    named = {TrialState.COMPLETE: "completed", TrialState.PRUNED: "pruned", TrialState.FAIL: "failed"}
    notes = [f"{len(trials)} trials: " + ", ".join(f"{counts[s]} {name}" for s, name in named.items() if counts[s])]
    completed = {t.number: t.values[0] for t in trials if t.state == TrialState.COMPLETE}
    best = [trials[number] for number in sorted(completed, key=lambda number: -completed[number])]
    names = short_names(space)
    grid = render.Grid(
        f"The best of {len(trials)} trials",
        ["trial", "validation", *names.values()],
        [
            [str(t.number + 1), _percent(completed[t.number]), *(_short(t.params[key]) for key in names)]
            for t in best[:_SHOWN]
        ],
        [False] * (2 + len(names)),
    )
    if sys.stdout.isatty():
        render.terminal([grid], notes)
    else:
        print(render.markdown([grid], notes), end="")
    if best:
        print(f"the best again: {jobs.command_line(as_overrides(best[0].params))}")
    print(f"the study: {study.study_name} in {storage}")


def _percent(accuracy: float) -> str:
    return f"{100 * accuracy:.2f} %"


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
