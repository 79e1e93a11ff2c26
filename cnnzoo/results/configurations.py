"""What differs between the configurations of many runs, and picking runs by it."""

import fnmatch
import hashlib
import json
import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

ABSENT = object()


def flatten(config: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Dotted keys and values of nested mappings, such as `("optimizer.lr", 0.1)`; lists are values."""
    for key, value in config.items():
        if isinstance(value, Mapping):
            yield from flatten(value, f"{prefix}{key}.")
        else:
            yield sys.intern(f"{prefix}{key}"), value


def differences(one: Mapping[str, Any], other: Mapping[str, Any]) -> list[str]:
    """Keys that only one of the two has, or that they have different values for."""
    return sorted(key for key in one.keys() | other.keys() if one.get(key, ABSENT) != other.get(key, ABSENT))


class Configurations:
    """The distinct settings (seed left out) of any number of runs, numbered as they come.

    Each is kept as its difference from the first, so that ten thousand runs of one sweep cost little memory.
    """

    def __init__(self) -> None:
        self._base: dict[str, Any] = {}
        self._differences: list[dict[str, Any]] = []
        self._number: dict[bytes, int] = {}

    def add(self, config: Mapping[str, Any]) -> int:
        """Number of the settings in `config`, a new one where they were not seen before; its seed is left out."""
        flat = {key: value for key, value in flatten(config) if key != "seed"}
        if not self._differences:
            self._base = flat
        difference = {key: value for key, value in flat.items() if self._base.get(key, ABSENT) != value}
        difference |= dict.fromkeys(self._base.keys() - flat.keys(), ABSENT)
        text = json.dumps(sorted(difference.items()), default=lambda absent: {})
        identity = hashlib.blake2b(text.encode(), digest_size=16).digest()
        number = self._number.setdefault(identity, len(self._differences))
        if number == len(self._differences):
            self._differences.append(difference)
        return number

    def value(self, number: int | None, key: str) -> Any:
        """The setting `key`, or ABSENT; a section such as `optimizer` stands for its class, `SGD`."""
        if number is None:
            return ABSENT
        for name in (key, f"{key}._target_"):
            value = self._differences[number].get(name, self._base.get(name, ABSENT))
            if value is not ABSENT:
                return value.rpartition(".")[2] if name.endswith("_target_") and isinstance(value, str) else value
        return ABSENT

    def keys(self) -> set[str]:
        """Every key that any of the configurations has."""
        return set(self._base).union(*self._differences)

    def differing(self, numbers: Iterable[int]) -> list[str]:
        """Keys whose values are not the same in all of the given configurations, in order.

        Arguments that merely follow from the class they belong to (`scheduler.T_max` where
        `scheduler._target_` differs) are left out.
        """
        distinct = sorted(set(numbers))
        candidates = sorted({key for number in distinct for key in self._differences[number]})
        columns = {key: [repr(self.value(number, key)) for number in distinct] for key in candidates}
        columns = {key: column for key, column in columns.items() if len(set(column)) > 1}

        def follows(key: str) -> bool:
            target = columns.get(f"{key.rpartition('.')[0]}._target_")
            return (
                target is not None
                and not key.endswith("._target_")
                and len(set(zip(target, columns[key], strict=True))) == len(set(target))
            )

        return [key for key in columns if not follows(key)]


def short_names(keys: Iterable[str]) -> dict[str, str]:
    """`optimizer.lr` → `lr`, `scheduler._target_` → `scheduler`; the whole key where two would look alike."""
    whole = {key: key.removesuffix("._target_") for key in keys}
    last = [name.rpartition(".")[2] for name in whole.values()]
    return {
        key: short if last.count(short) == 1 else name for (key, name), short in zip(whole.items(), last, strict=True)
    }


def as_text(value: Any) -> str:
    """A setting as it is typed on the command line: `true`, `null`, `[3,3,3]`, `0.1`."""
    if isinstance(value, bool) or value is None:
        return {True: "true", False: "false", None: "null"}[value]
    return str(value).replace(" ", "") if isinstance(value, list) else str(value)


class Filter:
    """One `KEY=VALUE[,VALUE…]` of the command line; values may hold the wildcards `*` and `?`."""

    FORM = re.compile(r"([A-Za-z_][\w.]*)=(.*)", re.DOTALL)

    def __init__(self, text: str) -> None:
        match = self.FORM.fullmatch(text)
        assert match is not None, text
        self.text, self.key = text, match[1]
        # commas inside brackets belong to a list: widths=[16,32],[32,64]
        self.choices = re.findall(r"(?:\[[^\]]*\]|[^,\[])+", match[2]) or [""]

    def accepts(self, value: Any) -> bool:
        """Whether `value` is one of the choices; numbers are compared as numbers."""
        return any(_same(value, choice.replace(" ", "")) for choice in self.choices)


def _same(value: Any, choice: str) -> bool:
    if isinstance(value, int | float) and not isinstance(value, bool):
        try:
            return float(choice) == value
        except ValueError:
            pass
    text = as_text(value).replace(" ", "")
    return text == choice or (not isinstance(value, list) and fnmatch.fnmatchcase(text, choice))
