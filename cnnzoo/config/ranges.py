"""Ranges of arguments in the open sections, which mean the same under many a `_target_`: `lr`, `milestones`, `dropout`.

They are refused where they are typed; what else an argument may be, its own `_target_` checks when a run begins.
"""

import contextlib
import math
import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from cnnzoo.errors import UserError, nearest

MAX_SEED = 2**32 - 1  # numpy's


class Range(NamedTuple):
    """Finite numbers from `minimum` to `maximum`; `whole` ones only; or one of some `words`."""

    minimum: float = 0
    maximum: float = math.inf
    whole: bool = False
    words: tuple[str, ...] = ()


_COUNT = Range(1, whole=True)
_SHARE = Range(0, 1)

# By the arguments' names, of classes and functions of cnnzoo, torch and Lightning; one of the user's may mean something
# else by all but those in _EVERYWHERE.
MODEL = {
    **dict.fromkeys(("in_channels", "num_classes", "image_size", "growth_rate", "bn_size", "cardinality"), _COUNT),
    **dict.fromkeys(("blocks_per_group", "layers_per_block", "widths", "residual", "inner", "dense"), _COUNT),
    **dict.fromkeys(("widen_factor", "stem_channels", "se_ratio", "bottleneck", "whitening_images"), _COUNT),
    **dict.fromkeys(("dropout", "drop_rate", "drop_path_rate", "compression"), _SHARE),
}
OPTIMIZER = {
    **dict.fromkeys(("lr", "weight_decay", "eps", "lr_decay", "max_iter"), Range()),
    **dict.fromkeys(("momentum", "betas", "alpha", "rho"), _SHARE),
    "ns_steps": _COUNT,
    "frozen_after": Range(whole=True),
}
SCHEDULER = {
    **dict.fromkeys(("milestones", "patience", "cooldown"), Range(whole=True)),
    **dict.fromkeys(("step_size", "total_steps", "step_size_up", "step_size_down"), _COUNT),
    **dict.fromkeys(("gamma", "eta_min", "min_lr", "max_lr", "base_lr", "threshold", "total_iters"), Range()),
    **dict.fromkeys(("div_factor", "final_div_factor", "power", "end_factor", "start_factor"), Range()),
    **dict.fromkeys(("T_max", "T_0", "T_mult"), Range(1)),
    **dict.fromkeys(("factor", "pct_start"), _SHARE),
}
LOSS = {"label_smoothing": _SHARE, "weight": Range(words=("balanced",)), "p": Range(1, 2, whole=True)}
CALLBACKS = {"minutes": Range(), "patience": Range(whole=True), "decay": _SHARE, "every_n_steps": _COUNT}
SOURCE = {"test_size": Range(), "val_size": Range(), "split_seed": Range(maximum=MAX_SEED, whole=True)}


_EVERYWHERE = ("lr", "weight_decay", "milestones", "in_channels", "num_classes", "image_size")
_KNOWN = ("cnnzoo.", "torch.", "pytorch_lightning.", "lightning.")


def at_least(key: str, value: float | None, minimum: float, maximum: float = math.inf) -> None:
    if isinstance(value, str):
        raise UserError(f"{key}={value}: expected a number.")  # the ??? of a value that is missing
    if value is None or (minimum <= value <= maximum and abs(value) < math.inf):
        return
    upper = f" and at most {maximum}" if maximum < math.inf else ""
    finite = "" if math.isfinite(value) else ", and a finite number"
    raise UserError(f"{key}={value}: expected at least {minimum}{upper}{finite}.")


# A number with letters that look like digits, or a comma: 1O, l5, 0,1.
_MISTYPED = re.compile(r"[+-]?[\d.,OolI]*\d[\d.,OolI]*(e[+-]?[\dOolI]*)?", re.IGNORECASE)


def check_arguments(section: str, value: Any, ranges: Mapping[str, Range], limits: Range | None = None) -> None:
    """Refuse numbers out of the range of their argument, and texts in the place of numbers, however deep.

    Args:
        section: dotted name of `value`, for messages.
        ranges: by the arguments' names.
        limits: the range of `value`, where it has one.
    """
    if isinstance(value, Mapping):
        target = value.get("_target_", "a.b")
        if not (isinstance(target, str) and "." in target) and not (target is None and section == "scheduler"):
            raise UserError(
                f"{section}._target_={target}: expected the dotted path of a class or function, such as"
                " torchvision.models.resnet18 or torch.optim.Adam."
            )
        if "_target_" in value and not str(target).startswith(_KNOWN):
            ranges = {name: ranges[name] for name in _EVERYWHERE if name in ranges}
        for name, item in value.items():
            check_arguments(f"{section}.{name}", item, ranges, ranges.get(name))
    elif isinstance(value, list):
        for index, item in enumerate(value):
            check_arguments(f"{section}[{index}]", item, ranges, limits and limits._replace(words=()))
            if isinstance(item, str) and _is_mistyped_number(item):
                raise UserError(f"{section}=[{', '.join(map(str, value))}]: '{item}' is a text; expected a number.")
    elif isinstance(value, float) and math.isnan(value):
        raise UserError(f"{section}={value}: expected a number; this one stands for none.")
    elif limits is not None and value is not None and value not in limits.words:
        if isinstance(value, bool) or not isinstance(value, int | float):
            words = "".join(f", or {word}" for word in limits.words)
            raise UserError(f"{section}={value}: expected a number{words}.{nearest(str(value), limits.words)}")
        at_least(section, value, limits.minimum, limits.maximum)
        if limits.whole and value != int(value):
            raise UserError(f"{section}={value}: expected a whole number.")


def _is_mistyped_number(text: str) -> bool:
    if not _MISTYPED.fullmatch(text):
        return False
    with contextlib.suppress(ValueError):
        float(text)
        return False  # a number in quotes is meant as a text
    return True
