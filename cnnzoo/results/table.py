"""From runs to rows: one row for all seeds of one configuration, and what a reader must know about them."""

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from cnnzoo.errors import UserError, nearest
from cnnzoo.results.configurations import ABSENT, Configurations, Filter, as_text, short_names
from cnnzoo.results.scan import Run, read_config, scan, settings_on_disk

LISTED = 20  # folders named in a note before it says how many more there are


@dataclass
class Row:
    """One configuration: `values` are its figures (keys of the JSON output), `runs` what they were computed from."""

    values: dict[str, Any]
    runs: list[Run]


@dataclass
class Comparison:
    """Rows, and notes in plain sentences on everything that a row does not show."""

    rows: list[Row]
    notes: list[str] = field(default_factory=list)


Group = tuple[str, str, int | None]  # runs that differ by their seed alone: data set, network, number of the settings


def group_of(run: Run) -> Group:
    return str(run.dataset), str(run.model), run.config


def find(where: Sequence[str], configurations: Configurations) -> tuple[list[str], list[Run]]:
    """The folders in `where`, and the runs at or below them that pass the filters in it, `KEY=VALUE[,VALUE…]`.

    Raises:
        UserError: no folder, no such folder, no runs in it, or a filter that no run can pass.
    """
    # a folder may have "=" in its name
    filters = [text for text in where if Filter.FORM.fullmatch(text) and not Path(text).exists()]
    folders = [text for text in where if text not in filters]
    if not folders:
        raise UserError("no folder given. Name the one that the runs lie under, such as outputs.")
    runs = list(scan(folders, configurations))
    if not runs:
        raise UserError(f"{', '.join(folders)}: no runs there (folders with a config.yaml or result.json).")
    return folders, select(runs, [Filter(text) for text in filters], configurations)


def setting(run: Run, key: str, configurations: Configurations) -> Any:
    """`model`, `dataset`, `seed`, `device` or any other field of a run, else a key of its configuration."""
    if key in ("model", "dataset", "seed", "device", "precision", "epochs", "git_commit"):
        value = getattr(run, key)
        return ABSENT if value is None and run.state != "completed" else value
    return configurations.value(run.config, key)


def select(runs: Iterable[Run], filters: Sequence[Filter], configurations: Configurations) -> list[Run]:
    """Runs that pass all filters. One whose value is unknown (it never finished) is kept, so that it is counted.

    Raises:
        UserError: a filter names a key that no run has, or a value that no run has.
    """
    kept = list(runs)
    for chosen in filters if kept else ():
        for run in kept:
            if run.config is None and run.state not in ("completed", "damaged"):
                look_up(run, configurations)
        values = [setting(run, chosen.key, configurations) for run in kept]
        present = {as_text(value) for value in values if value is not ABSENT}
        if not present:
            keys = {"model", "dataset", "seed", "device", "precision", "epochs"} | configurations.keys()
            raise UserError(f"{chosen.text}: no run has the key '{chosen.key}'.{nearest(chosen.key, keys)}")
        if not any(value is not ABSENT and chosen.accepts(value) for value in values):
            known = sorted(present)
            closest = nearest(chosen.choices[0], known)
            raise UserError(
                f"{chosen.text}: no run has that.{closest} There is {chosen.key}={','.join(known[:LISTED])}"
                f"{', …' if len(known) > LISTED else ''}."
            )
        kept = [
            run
            for run, value in zip(kept, values, strict=True)
            if (run.config is None if value is ABSENT else chosen.accepts(value))
        ]
    return kept


def look_up(run: Run, configurations: Configurations) -> None:
    """Completes a run without figures from its config.yaml."""
    if (settings := settings_on_disk(run.folder)) and (config := read_config(run.folder)):
        run.config = configurations.add(settings)
        run.model = run.model or config.get("name")
        run.dataset = run.dataset or config["dataset"].get("name")
        run.seed = config.get("seed") if run.seed is None else run.seed


def compare(runs: Iterable[Run], configurations: Configurations) -> Comparison:
    """Groups completed runs by everything but the seed; all others end up in the notes."""
    groups: dict[Group, list[Run]] = defaultdict(list)
    others: dict[str, list[Run]] = defaultdict(list)
    for run in runs:
        if run.state == "completed":
            groups[group_of(run)].append(run)
        else:
            others[run.state].append(run)
    comparison = Comparison([])
    duplicates: list[str] = []
    called = names(groups, configurations)
    for group, members in groups.items():
        dataset, model, _ = group
        label, differs = called[group]
        members, dropped = _one_a_seed(members)
        values = {"model": model, "label": label, "dataset": dataset, "differs": differs}
        comparison.rows.append(Row(values | _figures(members), members))
        duplicates += dropped
    comparison.notes += _notes_on_rows(comparison.rows, configurations)
    if duplicates:
        comparison.notes.append(f"the same configuration and seed more than once, not counted: {listed(duplicates)}")
    for state, meaning in (
        ("failed", "failed, not in the table"),
        ("running", "still running, not in the table"),
        ("unfinished", "begun and not finished, not in the table; the same command goes on with them"),
        ("pruned", "stopped early by a search, not in the table; the same settings by themselves go on to the end"),
        ("damaged", "not readable, not in the table"),
    ):
        if found := others[state]:
            plural = "run" if len(found) == 1 else "runs"
            named = listed([describe(run) for run in found]) + (" (--status lists all)" if len(found) > LISTED else "")
            comparison.notes.append(f"{len(found)} {plural} {meaning}: {named}")
    return comparison


def names(groups: Iterable[Group], configurations: Configurations) -> dict[Group, tuple[str, dict[str, Any]]]:
    """Each group's name, `resnet (lr=0.1)`: the network and what tells it from its others on the same data set."""
    by_name: dict[tuple[str, str], list[int]] = defaultdict(list)
    groups = list(groups)
    for dataset, model, config in groups:
        if config is not None:
            by_name[dataset, model].append(config)
    keys = {name: configurations.differing(numbers) for name, numbers in by_name.items()}
    found = {}
    for dataset, model, config in groups:
        differing = keys.get((dataset, model), [])
        differs = {key: value for key in differing if (value := configurations.value(config, key)) is not ABSENT}
        short = short_names(differing)
        label = ", ".join(f"{short[key]}={as_text(value)}" for key, value in differs.items())
        if config is None:
            label = "configuration unknown"
        found[dataset, model, config] = f"{model} ({label})" if label else model, differs
    return found


def describe(run: Run) -> str:
    """A run's folder, and what is wrong with it."""
    problem = run.problem.splitlines()[0] if run.problem else ""
    return f"{run.folder} ({problem})" if problem else run.folder


def listed(items: Sequence[str]) -> str:
    """The first LISTED items, and how many more there are."""
    more = f"; and {len(items) - LISTED} more" if len(items) > LISTED else ""
    return "; ".join(items[:LISTED]) + more


def _one_a_seed(runs: Sequence[Run]) -> tuple[list[Run], list[str]]:
    """The latest run of each seed, by seed, and the folders of the others: copies would make the spread too small."""
    latest: dict[int | None, Run] = {}
    dropped = []
    for run in sorted(runs, key=lambda run: run.finished):
        if run.seed in latest:
            dropped.append(latest[run.seed].folder)
        latest[run.seed] = run
    return [latest[seed] for seed in sorted(latest, key=lambda s: (s is None, s))], dropped


def _figures(runs: Sequence[Run]) -> dict[str, Any]:
    """The figures of one row, over its runs; std is the sample standard deviation, null for a single run."""

    def known(name: str) -> list[float]:
        return [value for run in runs if (value := getattr(run, name)) is not None]

    def mean(name: str) -> float | None:
        return fmean(known(name)) if known(name) else None

    def std(name: str) -> float | None:
        return stdev(known(name)) if len(known(name)) > 1 else None

    def joined(name: str) -> Any:
        found = set(known(name))
        return " / ".join(sorted(map(str, found))) if len(found) > 1 else next(iter(found), None)

    published = next((run.published for run in runs if run.published is not None), None)
    test = mean("test_accuracy")
    ranked = sorted((run for run in runs if run.test_accuracy is not None), key=lambda run: run.test_accuracy or 0)
    interval = None
    if len(ranked) > 1:
        from cnnzoo.results.statistics import t_interval  # scipy: only where there is something to estimate

        interval = t_interval(known("test_accuracy"))
    several = len(ranked) > 1
    return {
        "n": len(runs),
        "seeds": [run.seed for run in runs],
        "val_accuracy_mean": mean("val_accuracy"),
        "val_accuracy_std": std("val_accuracy"),
        "test_accuracy_mean": test,
        "test_accuracy_std": std("test_accuracy"),
        "test_accuracy_ci95_low": interval[0] if interval else None,
        "test_accuracy_ci95_high": interval[1] if interval else None,
        "best_seed": ranked[-1].seed if several else None,
        "best_test_accuracy": ranked[-1].test_accuracy if several else None,
        "worst_seed": ranked[0].seed if several else None,
        "worst_test_accuracy": ranked[0].test_accuracy if several else None,
        "published_source": published.source if published else None,
        "published_val_accuracy": published.val_accuracy if published else None,
        "published_test_accuracy": published.test_accuracy if published else None,
        "test_accuracy_difference": (
            None
            if published is None or published.test_accuracy is None or test is None
            else test - published.test_accuracy
        ),
        "val_loss_mean": mean("val_loss"),
        "test_loss_mean": mean("test_loss"),
        "params": runs[0].params,
        "macs": runs[0].macs,
        "published_params": published.params if published else None,
        "epochs": joined("epochs"),
        "train_seconds_mean": mean("train_seconds"),
        "images_per_second_mean": mean("images_per_second"),
        "peak_memory_bytes_max": max(known("peak_memory_bytes"), default=None),
        "device": joined("device"),
        "precision": joined("precision"),
    }


def _abbreviated(value: Any) -> str:
    """A value in a sentence; ten digits of a git commit do."""
    return re.sub(r"\b([0-9a-f]{10})[0-9a-f]{30}\b", r"\1", str(value))


def _notes_on_rows(rows: Sequence[Row], configurations: Configurations) -> list[str]:
    notes = []
    for row in rows:
        label = row.values["label"]
        for name, plural in (
            *(("device", "devices"), ("precision", "precisions"), ("epochs", "numbers of epochs")),
            *(("git_commit", "code versions"), ("params", "parameter counts"), ("macs", "MACs")),
            ("published", "published figures"),
        ):
            seen = Counter(_abbreviated(getattr(run, name)) for run in row.runs)
            if len(seen) > 1:
                parts = ", ".join(f"{value} (n={count})" for value, count in seen.most_common())
                notes.append(f"{label}: mixed {plural}: {parts}")
        versions: dict[str, set[str]] = defaultdict(set)
        for run in row.runs:
            for package, version in run.versions:
                versions[package].add(version)
        if mixed := {package: found for package, found in versions.items() if len(found) > 1}:
            parts = ", ".join(f"{package} {' / '.join(sorted(found))}" for package, found in sorted(mixed.items()))
            notes.append(f"{label}: mixed versions: {parts}")
        wanted = row.values["published_params"]
        if None not in (wanted, row.values["params"]) and wanted != row.values["params"]:
            notes.append(f"{label}: {row.values['params']:,} parameters, published are {wanted:,}")
        published = next((run.published for run in row.runs if run.published is not None), None)
        trained = {run.epochs for run in row.runs} - {None}
        if published is not None and published.epochs is not None and trained - {published.epochs}:
            lengths = " / ".join(map(str, sorted(trained, key=str)))
            notes.append(f"{label}: trained for {lengths} epochs, the published figures are after {published.epochs}")
    for dataset in sorted({row.values["dataset"] for row in rows}):
        of_dataset = [row for row in rows if row.values["dataset"] == dataset]
        shown = {key for row in of_dataset for key in row.values["differs"]}
        numbers = [row.runs[0].config for row in of_dataset if row.runs[0].config is not None]
        hidden = [key for key in configurations.differing(numbers) if not key.startswith("model.") and key not in shown]
        if hidden:
            names = ", ".join(key.removesuffix("._target_") for key in hidden)
            notes.append(f"networks on {dataset} also differ in: {names} (compare --columns shows them)")
    return notes
