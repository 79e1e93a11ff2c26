"""Pictures of a sweep, at any time, also while it runs; its rows are those of `cnnzoo.compare`.

    python -m cnnzoo.figures runs outputs
    python -m cnnzoo.figures runs outputs dataset=cifar10 model=resnet,densenet --formats png,pdf --out paper/figures

Writes, for each data set, DIR/<data set>/
    learning_curves   validation and training accuracy by epoch, mean and spread over the seeds, beside the authors' own
    accuracy_cost     test accuracy against parameters, MACs and training time, with the Pareto front
    class_accuracy    test accuracy of each class
Reads plain files only: no torch.
"""

import argparse
import sys
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cnnzoo.errors import UserError
from cnnzoo.results import columns
from cnnzoo.results.configurations import Configurations
from cnnzoo.results.files import Unreadable, read_metrics, read_predictions
from cnnzoo.results.scan import Run, read_config
from cnnzoo.results.table import compare, describe, find, group_of, listed, look_up, names

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

Curves = Mapping[str, Mapping[int, float]]  # "val_accuracy" and "train_accuracy" → epoch, from 1 → 0..1


@dataclass
class Series:
    """One configuration in the pictures.

    `figures` are those of its row in the table, None while no run is completed. `completed` and `begun` hold the curves
    of one run each, `published` the name and curves of the authors' training. `classes` is `[runs, classes]`, the share
    of a class's test images that a run classifies correctly, NaN where there are none.
    """

    name: str
    figures: Mapping[str, Any] | None = None
    published_epochs: int | None = None
    max_epochs: int | None = None
    completed: list[Curves] = field(default_factory=list)
    begun: list[Curves] = field(default_factory=list)
    published: tuple[str, Curves] | None = None
    classes: "NDArray[np.float64] | None" = None
    class_names: Sequence[str] = ()


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command; returns its exit code, 1 with a message on stderr where the user can put something right."""
    arguments = _parser().parse_intermixed_args(argv)  # options may stand between folders and filters
    try:
        for path in draw(arguments.where, arguments.out, arguments.formats.split(","), arguments.published):
            print(path)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="cnnzoo figures runs", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "where",
        nargs="+",
        metavar="FOLDER or KEY=VALUE[,VALUE…]",
        help="folders that runs lie under, and filters: model, dataset, seed, device or any key of the configuration",
    )
    parser.add_argument("--out", type=Path, metavar="DIR", help="default: figures in the folder of outputs")
    parser.add_argument("--formats", default="png", metavar="A,B,…", help="png (the default), pdf, svg")
    parser.add_argument(
        "--published",
        type=Path,
        metavar="DIR",
        help="TensorBoard files of the published trainings, a folder each, named as the weights' file;"
        " default: tensorboards beside the published weights",
    )
    return parser


def draw(where: Sequence[str], out: Path | None, formats: Sequence[str], published: Path | None) -> list[Path]:
    """Writes the pictures that the runs in `where` have figures for; what they do not show is said on stderr.

    Raises:
        UserError: there are no such runs or none with figures, or the pictures cannot be written.
    """
    from omegaconf import OmegaConf

    from cnnzoo.config import CONF_DIR
    from cnnzoo.figures import style
    from cnnzoo.figures.accuracy_cost import accuracy_cost
    from cnnzoo.figures.class_accuracy import class_accuracy
    from cnnzoo.figures.learning_curves import learning_curves

    style.check_formats(formats)
    if published is not None and not published.is_dir():
        raise UserError(f"--published {published}: there is no such folder.")
    paths = OmegaConf.load(CONF_DIR / "paths" / "default.yaml")
    configurations = Configurations()
    _, runs = find(where, configurations)
    sweep, notes = gather(runs, configurations, Path(paths.weights), published)
    written = []
    with style.look():
        for dataset, series in sweep.items():
            folder = (out or Path(paths.outputs, "figures")) / dataset
            for plot in (learning_curves, accuracy_cost, class_accuracy):
                if figure := plot(series):
                    written += style.save(figure, folder, plot.__name__, formats)
    if not written:
        raise UserError("\n  ".join([f"{' '.join(where)}: no run with figures to draw.", *notes]))
    if published is not None and not any(one.published for series in sweep.values() for one in series):
        notes.append(f"--published {published}: no run here is of a network with published weights and curves there")
    for note in notes:
        print(note, file=sys.stderr)
    return written


def gather(
    runs: Sequence[Run], configurations: Configurations, weights: Path, published: Path | None
) -> tuple[dict[str, list[Series]], list[str]]:
    """By data set, what is drawn of each configuration, in the table's order, those without a completed run last.

    `weights` and `published` are the folders of the published weights and of their authors' curves. Notes say in plain
    sentences what is left out.
    """
    by_state: dict[str, list[Run]] = defaultdict(list)
    for run in runs:
        by_state[run.state].append(run)
    comparison = compare(by_state["completed"], configurations)
    rows = {group_of(row.runs[0]): row for row in columns.order(comparison.rows, None, False, configurations)}
    begun: dict[Any, list[Run]] = defaultdict(list)
    for run in by_state["running"] + by_state["unfinished"]:
        look_up(run, configurations)
        if run.config is not None:
            begun[group_of(run)].append(run)
    called = names({**rows, **begun}, configurations)
    notes = comparison.notes
    for state, found in by_state.items():
        if state not in ("completed", "running", "unfinished"):
            meaning = "not readable" if state == "damaged" else state
            plural = "run" if len(found) == 1 else "runs"
            notes.append(f"{len(found)} {plural} {meaning}, not shown: {listed([describe(run) for run in found])}")

    sweep: dict[str, list[Series]] = defaultdict(list)
    problems: dict[str, list[str]] = defaultdict(list)
    for group in {**rows, **begun}:
        row, members = rows.get(group), begun.get(group, [])
        completed = row.runs if row else []
        series = Series(row.values["label"] if row else called[group][0], row.values if row else None)
        config = read_config((completed + members)[0].folder) or {}
        series.published_epochs = next((run.published.epochs for run in completed if run.published), None)
        series.max_epochs = (config.get("trainer") or {}).get("max_epochs")
        series.completed = _curves(completed, problems)
        series.begun = _curves(members, problems)
        series.published = _published(config, weights, published, problems)
        series.classes, series.class_names = _classes(completed, config.get("dataset") or {}, problems)
        sweep[group[0]].append(series)
    notes += [f"left out, {reason}: {listed(list(dict.fromkeys(where)))}" for reason, where in problems.items()]
    return sweep, notes


def _curves(runs: Sequence[Run], problems: dict[str, list[str]]) -> list[Curves]:
    found: list[Curves] = []
    for run in runs:
        try:
            rows = read_metrics(run.folder)
            curves = {
                name: {row["epoch"] + 1: row[name] for row in rows if row[name] is not None}
                for name in ("val_accuracy", "train_accuracy")
            }
        except Unreadable as error:
            problems[str(error)].append(run.folder)
        except (KeyError, TypeError):
            problems["metrics.csv lacks columns"].append(run.folder)
        else:
            if rows:
                found.append(curves)
            else:
                problems["no epoch done"].append(run.folder)
    return found


def _published(
    config: Mapping[str, Any], weights: Path, folder: Path | None, problems: dict[str, list[str]]
) -> tuple[str, Curves] | None:
    from cnnzoo.figures.published import curve_folder, read_curves

    where = curve_folder(config.get("published"), weights, folder)
    if where is None or not (where.is_dir() or folder):  # nobody asked for them
        return None
    try:
        return where.name, read_curves(where)
    except Unreadable as error:
        problems[str(error)].append(str(where))
        return None


def _classes(
    runs: Sequence[Run], dataset: Mapping[str, Any], problems: dict[str, list[str]]
) -> tuple["NDArray[np.float64] | None", Sequence[str]]:
    import numpy as np

    from cnnzoo.figures.classes import class_names

    predictions = []
    for run in runs:
        try:
            predictions.append(read_predictions(run.folder, run.test_accuracy))
        except Unreadable as error:
            problems[str(error)].append(run.folder)
    if not predictions:
        return None, ()
    count = max(dataset.get("num_classes") or 0, *(1 + int(labels.max()) for labels, _ in predictions))
    with np.errstate(invalid="ignore"):  # 0/0: a class without test images
        shares = [
            np.bincount(labels, weights=correct, minlength=count) / np.bincount(labels, minlength=count)
            for labels, correct in predictions
        ]
    return np.array(shares), class_names(dataset, count)


if __name__ == "__main__":
    sys.exit(main())
