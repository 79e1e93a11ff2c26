"""What a search varies: Hydra's sweep syntax as Optuna's distributions."""

from collections.abc import Iterable
from typing import Any

from hydra.core.config_loader import ConfigLoader
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import IntervalSweep, Override, RangeSweep, Sweep
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

from cnnzoo.errors import UserError

Space = dict[str, BaseDistribution]


def read_overrides(overrides: Iterable[str], loader: ConfigLoader) -> tuple[dict[str, str], Space]:
    """Return the overrides that hold for every trial, and the distributions of those that are searched, by their keys.

    A later override of the same key wins. Choices stay the words that they were typed as.

    Raises:
        UserError: nothing is searched, or a range makes no distribution.
    """
    parsed = OverridesParser.create(config_loader=loader).parse_overrides(list(overrides))
    by_key = {override.get_key_element(): override for override in parsed}
    fixed = {key: str(o.input_line) for key, o in by_key.items() if not o.is_sweep_override()}
    space = {key: _distribution(o) for key, o in by_key.items() if o.is_sweep_override()}
    if not space:
        raise UserError(
            "Nothing to search: give a setting several values, such as 'optimizer.lr=tag(log,interval(1e-3,1))',"
            " 'model.activation=choice(relu,gelu)' or 'trainer.max_epochs=range(5,30,5)'."
        )
    return fixed, space


def _distribution(override: Override) -> BaseDistribution:
    sweep = override.value()
    tags = sweep.tags if isinstance(sweep, Sweep) else set()
    numeric = isinstance(sweep, IntervalSweep | RangeSweep)
    if tags - {"log"} or (tags and not numeric):
        raise UserError(f"{override.input_line}: the one tag is 'log', of interval(...) and range(...).")
    log = "log" in tags
    try:
        if isinstance(sweep, IntervalSweep):
            whole = isinstance(sweep.start, int)  # int(interval(...))
            return (IntDistribution if whole else FloatDistribution)(sweep.start, sweep.end, log=log)  # type: ignore[arg-type]
        if isinstance(sweep, RangeSweep):  # Hydra's, like Python's, ends before `stop`
            values = list(sweep.range())
            if not values:
                raise ValueError("the range is empty")
            whole = isinstance(values[0], int)
            return (IntDistribution if whole else FloatDistribution)(
                min(values),
                max(values),
                log=log,
                step=abs(sweep.step),  # type: ignore[arg-type]
            )
        return CategoricalDistribution(list(override.sweep_string_iterator()))
    except ValueError as error:
        raise UserError(f"{override.input_line}: {error}") from error


def example_parameters(space: Space) -> dict[str, Any]:
    """Some parameters of the space, always the same: to see that they compose."""
    return {
        key: distribution.choices[0] if isinstance(distribution, CategoricalDistribution) else distribution.low  # type: ignore[attr-defined]
        for key, distribution in space.items()
    }
