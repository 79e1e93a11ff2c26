"""A network's layers with output shapes, parameters and MACs; reads no data.

python -m cnnzoo.summary model=alexnet dataset=fashion_mnist
python -m cnnzoo.summary model=densenet model.growth_rate=32 format=json
"""

import contextlib
import dataclasses
import json
import sys
from typing import TYPE_CHECKING

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig
from rich.console import Console
from rich.table import Table
from tabulate import tabulate

from cnnzoo.config import command
from cnnzoo.errors import UserError, nearest

if TYPE_CHECKING:
    from cnnzoo.models.profile import Profile

FORMATS = ("table", "json", "md")
HEADERS = ("layer", "type", "output shape", "parameters", "MACs")


@command("summary")
def main(cfg: DictConfig) -> None:
    if cfg.format not in FORMATS:
        raise UserError(
            f"format={cfg.format}: expected one of {', '.join(FORMATS)}.{nearest(str(cfg.format), FORMATS)}"
        )
    from cnnzoo.models.build import build_model, input_shape  # here, for --help and --cfg job do without torch
    from cnnzoo.models.profile import profile

    with contextlib.redirect_stdout(sys.stderr):  # a network that prints while it works must not get into the JSON
        result = profile(build_model(cfg), input_shape(cfg), cfg.dataset.num_classes)
    dataset = HydraConfig.get().runtime.choices["dataset"]
    if cfg.format == "json":
        print(json.dumps(_json(result, cfg.name, dataset), indent=2))
        return
    title = f"{cfg.name} on {dataset}: input {_times(result.input_shape)}"
    totals = "\n".join(
        (
            f"parameters: {result.params:,} ({result.trainable_params:,} trainable,"
            f" {result.non_trainable_params:,} not trainable)",
            f"buffers: {result.buffers:,}",
            f"MACs for one image: {result.macs:,}",
        )
    )
    if cfg.format == "md":
        aligned = tabulate(_rows(result), HEADERS, "pipe", disable_numparse=True, colalign=["left"] * 3 + ["right"] * 2)
        print(title, aligned, totals.replace("\n", "  \n"), sep="\n\n")
    else:
        _print_table(title, _rows(result), totals)


def _json(result: "Profile", model: str, dataset: str) -> dict[str, object]:
    return {
        "model": model,
        "dataset": dataset,
        "input_shape": result.input_shape,
        "layers": [dataclasses.asdict(layer) for layer in result.layers],
        "params": result.params,
        "trainable_params": result.trainable_params,
        "non_trainable_params": result.non_trainable_params,
        "buffers": result.buffers,
        "macs": result.macs,
    }


def _rows(result: "Profile") -> list[tuple[str, ...]]:
    return [
        (
            layer.name,
            layer.type,
            "–" if layer.output_shape is None else _times(layer.output_shape),
            f"{layer.params:,}",
            f"{layer.macs:,}",
        )
        for layer in result.layers
    ]


def _print_table(title: str, rows: list[tuple[str, ...]], totals: str) -> None:
    # A file or a pipe has no width; on a terminal a long name goes on in the next line.
    console = Console(width=None if sys.stdout.isatty() else 1000, markup=False, highlight=False)
    table = Table()
    for header in HEADERS:
        table.add_column(header, justify="right" if header in HEADERS[3:] else "left", overflow="fold")
    for row in rows:
        table.add_row(*row)
    console.print(title)
    console.print(table)
    console.print(totals)


def _times(shape: tuple[int, ...]) -> str:
    return "×".join(map(str, shape))


if __name__ == "__main__":
    main()
