"""The result as Markdown tables; the JSON holds every round."""

from collections.abc import Mapping
from typing import Any

from tabulate import tabulate

_SUMMARY = ("median", "min", "max", "rounds")


def markdown(result: Mapping[str, Any]) -> str:
    """Return one table for each section, with the command and the commit that it was measured with."""
    images = ", random images" if result["images"] == "random" else ""
    lines = [
        f"{result['model']} on {result['dataset']}{images}: {result['device']}, {result['precision']}, batch"
        f" {result['batch_size']}; {result['rounds']} rounds of {result['steps']} steps, median (min–max)",
    ]
    for name, section in result["sections"].items():
        lines += ["", f"**{name}**, {_unit(section)}", "", _table(section)]
    return "\n".join([*lines, "", f"`{result['command']}` at {result['git_commit']}", ""])


def _table(section: Mapping[str, Any]) -> str:
    reference = section.get("reference")
    rows = []
    for name, entry in section["contestants"].items():
        row = {"": name, _unit(section): _with_spread(entry, section["unit"])}
        if reference:
            row[f"{reference} ÷ it"] = "1" if name == reference else _with_spread(section["ratios"][name], "ratio")
        row |= {key.replace("_", " "): _number(entry[key], "ratio") for key in entry if key not in _SUMMARY}
        rows.append(row)
    return tabulate(rows, "keys", "pipe", disable_numparse=True)


def _unit(section: Mapping[str, Any]) -> str:
    return "MiB" if section["unit"] == "bytes" else str(section["unit"])


def _with_spread(summary: Mapping[str, float], unit: str) -> str:
    median, low, high = (_number(summary[key], unit) for key in ("median", "min", "max"))
    return f"{median} ({low}–{high})"


def _number(value: float | str, unit: str) -> str:
    if isinstance(value, str):
        return value
    if unit == "bytes":
        return f"{value / 2**20:,.0f}"
    return format(value, {"images/s": ",.0f", "s": ".3f"}.get(unit, ".3g"))
