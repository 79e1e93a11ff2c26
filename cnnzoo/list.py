"""The networks, data sets and experiments that there are, with their size and published figures.

    python -m cnnzoo.list models
    python -m cnnzoo.list models dataset=fashion_mnist
    python -m cnnzoo.list datasets
    python -m cnnzoo.list experiments

Everything is read from the files in conf/. Each network is built, without values, for the data set of an experiment
that has it, or the one that is named; that takes seconds.
"""

import re
import sys
from collections.abc import Callable, Sequence
from itertools import takewhile

from rich.progress import track

from cnnzoo.arguments import Parser, one_of
from cnnzoo.config import CONF_DIR, Config, compose
from cnnzoo.config.hydra_errors import choices
from cnnzoo.console import console
from cnnzoo.errors import UserError, exit_code
from cnnzoo.results import render
from cnnzoo.results.render import Grid, count, magnitude, percent

Listing = tuple[Grid, list[str]]  # a table and notes


def main(argv: Sequence[str] | None = None) -> int:
    return exit_code(lambda: _run(argv))


def parser() -> Parser:
    parser = Parser("cnnzoo list", __doc__)
    add = parser.add_argument
    add("kind", **one_of([*KINDS]))
    add("overrides", nargs="*", metavar="KEY=VALUE", help="for models: as of cnnzoo run, such as dataset=fashion_mnist")
    return parser


def _run(argv: Sequence[str] | None) -> None:
    arguments = parser().parse(argv)
    if arguments.kind != "models" and arguments.overrides:
        raise UserError(f"{arguments.overrides[0]}: cnnzoo list {arguments.kind} takes no settings; list models does.")
    grid, notes = KINDS[arguments.kind](*arguments.overrides)
    if sys.stdout.isatty():
        render.terminal([grid], notes)
    else:
        print(render.markdown([grid], notes), end="")


def _models(*overrides: str) -> Listing:
    import torch

    from cnnzoo.nn.build import build_model, input_shape
    from cnnzoo.nn.profile import profile

    experiments: dict[str, Config] = {}  # the first one of each network that has published figures, or the first
    for config in _composed_experiments().values():
        name = str(config.name)
        if name not in experiments or (config.published and not experiments[name].published):
            experiments[name] = config
    body, notes = [], []
    for name in track(choices(CONF_DIR / "model"), "building", console=console, transient=True):
        experiment = experiments.get(name)
        typed = [f"dataset={experiment.dataset.name}"] if experiment else []
        config = compose([f"model={name}", *typed, *overrides])
        try:
            with torch.device("meta"):  # shapes without values
                costs = profile(build_model(config), input_shape(config), config.dataset.num_classes)
            sizes = [count(costs.trainable_params), magnitude(costs.macs)]
        except UserError as error:
            sizes = ["", ""]
            notes.append(f"{name}: {error}")
        same = experiment and experiment.dataset.name == config.dataset.name
        published = _published(experiment) if experiment and same else ""
        image = _image(config.dataset.channels, config.image_size)
        body.append([name, *sizes, image, str(config.dataset.name), published, _what("model", name)])
    header = ["model=", "parameters", "MACs", "image", "dataset", "published %", "what it is"]
    return Grid("", header, body, [True, False, False, True, True, False, True]), notes


def _datasets() -> Listing:
    body = []
    for name in choices(CONF_DIR / "dataset"):
        try:
            dataset = compose([f"dataset={name}"]).dataset
            sizes = [_image(dataset.channels, dataset.image_size), str(dataset.num_classes)]
        except UserError:  # it needs to know where the images are
            sizes = ["", ""]
        body.append([name, *sizes, _what("dataset", name)])
    return Grid("", ["dataset=", "image", "classes", "what it is"], body, [True, True, False, True]), []


def _experiments() -> Listing:
    body = []
    for name, config in _composed_experiments().items():
        text = (CONF_DIR / "experiment" / f"{name}.yaml").read_text()
        measured = re.search(r"^# Measured: ([\d.]+(?: ± [\d.]+)?) %", text, re.MULTILINE)
        sizes = [str(config.name), config.dataset.name, f"{config.trainer.max_epochs:g}", _published(config)]
        body.append([name, *sizes, measured[1] if measured else ""])
    header = ["experiment=", "network", "dataset", "epochs", "published %", "measured here %"]
    return Grid("", header, body, [True, True, True, False, False, False]), ["Figures are test accuracies."]


def _composed_experiments() -> dict[str, Config]:
    return {name: compose([f"experiment={name}"]) for name in choices(CONF_DIR / "experiment")}


def _published(config: Config) -> str:
    return percent(config.published.test_accuracy) if config.published else ""


def _image(channels: int, size: int) -> str:
    return f"{channels}×{size}×{size}"


def _what(group: str, name: str) -> str:
    """The first sentence of a file's first comment, up to its figures."""
    lines = (CONF_DIR / group / f"{name}.yaml").read_text().splitlines()
    comment = [line.removeprefix("# ") for line in takewhile(lambda line: line.startswith("#"), lines)]
    text = " ".join(line for line in comment if not line.startswith("@"))
    return re.split(r"[:;] |\.(?= [A-Z]|$)", text)[0]


KINDS: dict[str, Callable[..., Listing]] = {"models": _models, "datasets": _datasets, "experiments": _experiments}

if __name__ == "__main__":
    sys.exit(main())
