"""Print a network's layers with output shapes, parameters and MACs; reads no data.

python -m cnnzoo.summary model=alexnet dataset=fashion_mnist
python -m cnnzoo.summary model=densenet model.growth_rate=32 format=json
"""

import contextlib
import dataclasses
import json
import sys
from typing import TYPE_CHECKING

from hydra.core.hydra_config import HydraConfig
from rich.console import Console
from rich.table import Table
from tabulate import tabulate

from cnnzoo.config import command
from cnnzoo.config.schema import SummaryConfig
from cnnzoo.errors import UserError, nearest

if TYPE_CHECKING:  # imports torch
    from cnnzoo.nn.profile import Profile

FORMATS = ("table", "json", "md")
HEADERS = ("layer", "type", "output shape", "parameters", "MACs")


@command("summary")
def main(config: SummaryConfig) -> None:
    if config.format not in FORMATS:
        raise UserError(
            f"format={config.format}: expected one of {', '.join(FORMATS)}.{nearest(config.format, FORMATS)}"
        )
    from cnnzoo.nn.build import build_model, input_shape  # not at the top: --help and --cfg job need no torch
    from cnnzoo.nn.profile import profile

    with contextlib.redirect_stdout(sys.stderr):  # the JSON must not mix with what a network prints
        result = profile(build_model(config), input_shape(config), config.dataset.num_classes)
    dataset = HydraConfig.get().runtime.choices["dataset"]
    if config.format == "json":
        print(json.dumps(_json(result, str(config.name), dataset), indent=2))
        return
    title = f"{config.name} on {dataset}: input {_times(result.input_shape)}"
    totals = "\n".join(
        (
            f"parameters: {result.params:,} ({result.trainable_params:,} trainable,"
            f" {result.non_trainable_params:,} not trainable)",
            f"buffers: {result.buffers:,}",
            f"MACs for one image: {result.macs:,}",
        )
    )
    if config.format == "md":
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
    # A file or a pipe has no width; on a terminal a long name continues in the next line.
    width = None if sys.stdout.isatty() else 1000
    console = Console(width=width, markup=False, emoji=False, highlight=False)
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
