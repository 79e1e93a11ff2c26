"""A search's study: one for each thing that is searched, and never two searches in one unnoticed."""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

import optuna
from optuna.distributions import distribution_to_json

from cnnzoo.config.targets import call_target
from cnnzoo.errors import UserError
from cnnzoo.results.configurations import differences, flatten
from cnnzoo.results.record import identity
from cnnzoo.search.space import Space

_ATTRIBUTE = "cnnzoo"  # of the study: what it searches


def searched(space: Space, config: Mapping[str, Any]) -> dict[str, Any]:
    """All that makes a search this one: the values to try, and every other setting that changes a run's result."""
    settings = {key: value for key, value in flatten(identity(config)) if key not in space}
    return settings | {key: json.loads(distribution_to_json(space[key])) for key in space}


def default_name(config: Mapping[str, Any], what: Mapping[str, Any]) -> str:
    """`<data set>-<network>-<hash>`, the hash of all that makes the search this one."""
    digest = hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()[:10]
    return f"{config['dataset']['name']}-{config['name']}-{digest}"


def open_study(name: str, storage: str, what: Mapping[str, Any]) -> optuna.Study:
    """The study of that name, a new one where there is none.

    Raises:
        UserError: it searches something else, or the storage cannot be reached.
    """
    try:
        study = optuna.create_study(study_name=name, storage=storage, direction="maximize", load_if_exists=True)
    except Exception as error:  # SQLAlchemy's and the database drivers' own
        reason = str(error).split("\n")[0]
        raise UserError(f"hydra.sweeper.storage={storage}: {type(error).__name__}: {reason}") from error
    study.stop = lambda: None  # type: ignore[method-assign]  # a sampler's, when it has tried everything: n_trials decides
    known = study.user_attrs.get(_ATTRIBUTE, {})
    if not known and not study.get_trials(deepcopy=False):
        study.set_user_attr(_ATTRIBUTE, what)
    elif differing := differences(known, what):
        raise UserError(
            f"The study '{name}' in {storage} searches something else; these settings differ: {', '.join(differing)}."
            " Give this search a name of its own: hydra.sweeper.study_name=NAME."
        )
    return study


def make_sampler(node: Mapping[str, Any] | None, number: int) -> optuna.samplers.BaseSampler | None:
    """The sampler of a search's configuration for trial `number`; None is Optuna's own choice.

    A study keeps its trials but not its sampler's random state. With a seed of its own for each trial, a search that
    was interrupted goes on with other parameters than it began with: those that it would have drawn anyway.

    Raises:
        UserError: there is no such sampler, or it refuses its arguments.
    """
    if node is None:
        return None
    # the order of a grid and a quasi-random sequence hang on one seed throughout
    if isinstance(node.get("seed"), int) and not node["_target_"].endswith(("GridSampler", "QMCSampler")):
        node = {**node, "seed": node["seed"] + number}
    return call_target("hydra.sweeper.sampler", node)
