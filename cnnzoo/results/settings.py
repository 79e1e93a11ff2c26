"""Settings of runs as dotted keys: how they are written, what differs between them, and filters on them. No torch."""

import fnmatch
import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

import pandas as pd
import yaml

from cnnzoo.errors import UserError

ABSENT = float("nan")  # in a data frame of settings: the configuration has no such key; None is the setting `null`


def is_absent(value: Any) -> bool:
    """Whether a cell of a data frame holds nothing; None is a setting."""
    return value is pd.NA or (isinstance(value, float) and value != value)


def flatten(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested mappings as dotted keys, such as `optimizer.lr`; lists are values."""
    result: dict[str, Any] = {}
    for key, value in config.items():
        result |= flatten(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {f"{prefix}{key}": value}
    return result


def differences(one: Mapping[str, Any], other: Mapping[str, Any]) -> list[str]:
    """Keys that only one of the two has, or that have different values in them."""
    missing = object()
    return sorted(key for key in one.keys() | other.keys() if one.get(key, missing) != other.get(key, missing))


def as_text(value: Any, digits: int | None = None) -> str:
    """A setting as it is typed on the command line: `true`, `null`, `[3,3,3]`, `0.1`.

    `digits`: to how many significant digits numbers with a fraction are shortened.
    """
    if isinstance(value, list):
        return f"[{','.join(as_text(item, digits) for item in value)}]"
    if isinstance(value, bool) or value is None:
        return json.dumps(value)
    if isinstance(value, float):
        if value.is_integer() and abs(value) < 1e15:
            return str(int(value))
        return f"{value:.{digits}g}" if digits else repr(float(value))
    return str(value)


def class_name(key: str, value: Any) -> Any:
    """The value of a setting, `SGD` instead of `torch.optim.SGD` if the key is a `_target_`."""
    return value.rpartition(".")[2] if key.endswith("_target_") and isinstance(value, str) else value


def as_key(value: Any) -> str:
    """A text that is the same exactly for equal settings; 1 and 1.0 are equal, 1 and "1" are not."""
    return "" if is_absent(value) else repr(_canonical(value))


def _canonical(value: Any) -> Any:
    if isinstance(value, list):
        return [_canonical(item) for item in value]
    if isinstance(value, dict):
        return {key: _canonical(value[key]) for key in sorted(value)}
    return int(value) if isinstance(value, float) and value.is_integer() else value


def differing(settings: pd.DataFrame) -> list[str]:
    """The columns of `settings` whose values are not the same in all rows, in order.

    Arguments that merely follow from the class that they belong to (`scheduler.T_max` if `scheduler._target_` differs)
    are left out.
    """
    texts = settings.map(as_key).sort_index(axis="columns")
    texts = texts.loc[:, texts.nunique() > 1]

    def follows(key: str) -> bool:
        target = f"{key.rpartition('.')[0]}._target_"
        return key != target and target in texts and bool((texts.groupby(target)[key].nunique() == 1).all())

    return [key for key in texts.columns.tolist() if not follows(key)]


def short_names(keys: Iterable[str]) -> dict[str, str]:
    """`optimizer.lr` → `lr`, `scheduler._target_` → `scheduler`; the whole key if two would look alike."""
    whole = {key: key.removesuffix("._target_") for key in keys}
    last = {key: name.rpartition(".")[2] for key, name in whole.items()}
    count = Counter(last.values())
    return {key: last[key] if count[last[key]] == 1 else whole[key] for key in whole}


class Filter:
    """One `KEY=VALUE[,VALUE…]` of the command line; values may hold the wildcards `*` and `?`."""

    FORM = re.compile(r"([A-Za-z_][\w.]*)=(.*)", re.DOTALL)

    def __init__(self, text: str) -> None:
        match = self.FORM.fullmatch(text)
        if match is None:
            raise UserError(f"{text}: expected a filter, KEY=VALUE[,VALUE…], such as model=resnet.")
        self.text, self.key = text, match[1].removeprefix("config.")
        # commas inside brackets belong to a list: widths=[16,32],[32,64]
        self.choices = re.findall(r"(?:\[[^\]]*\]|[^,\[])+", match[2].replace(" ", "")) or [""]
        self._keys = {as_key(_parsed(choice)) for choice in self.choices}

    def accepts(self, value: Any) -> bool:
        """Whether `value` is one of the choices; numbers are compared as numbers."""
        text = as_text(value).replace(" ", "")
        matches = any(text == choice or fnmatch.fnmatchcase(text, choice) for choice in self.choices)
        return matches or as_key(value) in self._keys


def _parsed(choice: str) -> Any:
    """The number or the list that `choice` stands for, if it is one."""
    try:
        return yaml.safe_load(choice) if choice.startswith("[") else float(choice)
    except (ValueError, yaml.YAMLError):
        return choice
