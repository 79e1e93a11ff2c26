"""The result as Markdown tables; the JSON holds every round."""

from collections.abc import Mapping
from typing import Any

from tabulate import tabulate

_SUMMARY = ("median", "min", "max", "rounds")
_FORMATS = {"images/s": ",.0f", "MiB": ",.0f", "s": ".3f"}


def markdown(result: Mapping[str, Any]) -> str:
    """Return one table for each section, with the command and the commit that it was measured with."""
    images = ", random images" if result["images"] == "random" else ""
    lines = [
        f"{result['model']} on {result['dataset']}{images}: {result['device']}, {result['precision']}, batch"
        f" {result['batch_size']}; {result['rounds']} rounds of {result['steps']} steps, median (min–max)",
    ]
    for name, section in result["sections"].items():
        lines += ["", f"**{name}**, {section['unit']}", "", _table(section)]
    return "\n".join([*lines, "", f"`{result['command']}` at {result['git_commit']}", ""])


def _table(section: Mapping[str, Any]) -> str:
    unit, reference = section["unit"], section.get("reference")
    rows = []
    for name, entry in section["contestants"].items():
        row = {"": name, unit: _with_spread(entry, unit)}
        if reference:
            row[f"{reference} ÷ it"] = "1" if name == reference else _with_spread(section["ratios"][name])
        row |= {key.replace("_", " "): _number(value) for key, value in entry.items() if key not in _SUMMARY}
        rows.append(row)
    return tabulate(rows, "keys", "pipe", disable_numparse=True)


def _with_spread(summary: Mapping[str, float], unit: str | None = None) -> str:
    median, low, high = (_number(summary[key], unit) for key in ("median", "min", "max"))
    return f"{median} ({low}–{high})"


def _number(value: float | str, unit: str | None = None) -> str:
    return value if isinstance(value, str) else format(value, _FORMATS.get(unit or "", ".3g"))
