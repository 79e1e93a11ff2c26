"""Figures of a sweep, at any time, also while it runs; its rows are those of `cnnzoo.compare`.

    python -m cnnzoo.figures runs outputs
    python -m cnnzoo.figures runs outputs dataset=cifar10 model=resnet,densenet --formats png,pdf --out paper/figures

Writes, for each data set, DIR/<data set>/
    learning_curves   validation and training accuracy by epoch, mean and spread over the seeds, and the authors' own
    accuracy_cost     test accuracy against parameters, MACs and training time, with the Pareto front
    class_accuracy    test accuracy of each class
Reads plain files only: no torch.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

from omegaconf import OmegaConf

from cnnzoo.arguments import Parser
from cnnzoo.config import CONF_DIR
from cnnzoo.errors import UserError, exit_code
from cnnzoo.figures import style
from cnnzoo.figures.accuracy_cost import accuracy_cost
from cnnzoo.figures.class_accuracy import class_accuracy
from cnnzoo.figures.learning_curves import learning_curves
from cnnzoo.figures.series import load_series
from cnnzoo.results.load import find_runs
from cnnzoo.text import clean


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit code, 1 with a message on stderr if the user can put something right."""
    arguments = parser().parse(argv)  # options may stand between folders and filters

    def work() -> None:
        for path in draw(arguments.where, arguments.out, arguments.formats.split(","), arguments.published):
            print(path)

    return exit_code(work)


def parser() -> Parser:
    parser = Parser("cnnzoo figures runs", __doc__)
    add = parser.add_argument
    words = "folders that runs lie under, and filters: model, dataset, seed, device or any key of the configuration"
    add("where", nargs="+", metavar="FOLDER or KEY=VALUE[,VALUE…]", help=words)
    add("--out", type=Path, metavar="DIR", help="default: figures in the folder of outputs")
    add("--formats", default="png", metavar="A,B,…", help="png (the default), pdf, svg")
    words = "TensorBoard files of the published trainings, a folder each, named as the weights' file;"
    words += " default: tensorboards in the folder of the published weights"
    add("--published", type=Path, metavar="DIR", help=words)
    return parser


def draw(where: Sequence[str], out: Path | None, formats: Sequence[str], published: Path | None) -> list[Path]:
    """Write the figures that the runs in `where` have data for, and notes on what they leave out to stderr.

    Raises:
        UserError: there are no such runs or nothing to draw, or the figures cannot be written.
    """
    style.check_formats(formats)
    if published is not None and not published.is_dir():
        raise UserError(f"--published {published}: there is no such folder.")
    paths = OmegaConf.load(CONF_DIR / "paths" / "default.yaml")
    _, runs = find_runs(where)
    series, rows, notes = load_series(runs, Path(paths.weights), published)
    written = []
    with style.look():
        for dataset in dict.fromkeys(one.dataset for one in series):
            members = [one for one in series if one.dataset == dataset]
            figures = {
                "learning_curves": learning_curves(members),
                "accuracy_cost": accuracy_cost(rows[rows["dataset"] == dataset]),
                "class_accuracy": class_accuracy(members),
            }
            drawn = {name: figure for name, figure in figures.items() if figure is not None}
            for figure in drawn.values():
                figure.set_figheight(figure.get_figheight() + 0.2)
                figure.suptitle(style.short(dataset, 60), fontsize=8, x=0.01, ha="left")
            folder = (out or Path(paths.outputs, "figures")) / style.folder_name(dataset)
            written += style.save(drawn, folder, formats)
    if not written:
        raise UserError("\n  ".join([f"{' '.join(where)}: no run with figures to draw.", *notes]))
    for note in notes:
        print(clean(note), file=sys.stderr)
    return written


if __name__ == "__main__":
    sys.exit(main())
