"""Draw the loss around trained networks, along two random directions (Li et al. 2018, arxiv.org/abs/1712.09913).

    python -m cnnzoo.figures surface outputs/cifar10/resnet56/seed42-... outputs/cifar10/plain56/seed42-...
    python -m cnnzoo.figures surface RUN --span 0.5 --steps 21 --images 1000

Each direction is drawn from a normal distribution, and then every filter of it is scaled to the norm of the network's
filter, so that networks can be compared; biases and batch norm's parameters do not move, and batch norm keeps the
statistics of the training, as in the paper. The loss is that of the first training images, not augmented.

Writes surface (contours and surfaces, all runs on one scale) into DIR; the losses are kept in each run's folder, and
an interrupted computation goes on there. Prints the loss at the weights, the highest one, and the share of the points
where the loss is not convex.
"""

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator
from numpy.typing import NDArray
from rich.progress import track

from cnnzoo.arguments import Parser
from cnnzoo.console import console
from cnnzoo.errors import UserError, exit_code
from cnnzoo.figures import style
from cnnzoo.io import atomic_path
from cnnzoo.results.render import Grid, markdown, percent

if TYPE_CHECKING:  # torch is imported once there is something to do
    from torch import Tensor, nn

    from cnnzoo.data.batches import BatchLoader

Array = NDArray[np.float64]


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    return exit_code(
        lambda: _run(parser().parse(argv)), "interrupted; the same command goes on with the losses that are left"
    )


def parser() -> Parser:
    parser = Parser("cnnzoo figures surface", __doc__)
    add = parser.add_argument
    add("runs", nargs="+", type=Path, metavar="RUN", help="folders of finished runs")
    add(
        "--span",
        type=float,
        default=1.0,
        metavar="X",
        help="how far to go each way, in norms of the weights (default: 1)",
    )
    add("--steps", type=int, default=25, metavar="N", help="points along each direction (default: 25)")
    add("--images", type=int, default=1000, metavar="N", help="training images whose loss is computed (default: 1000)")
    add("--seed", type=int, default=0, metavar="N", help="of the random directions (default: 0)")
    add("--out", type=Path, metavar="DIR", help="default: the folder figures of the first run")
    add("--formats", default="png", metavar="A,B,…", help="png (the default), pdf, svg")
    parser.add_trust()
    return parser


def _run(arguments: argparse.Namespace) -> None:
    formats = arguments.formats.split(",")
    style.check_formats(formats)
    for option, minimum in (("steps", 2), ("images", 1)):
        if getattr(arguments, option) < minimum:
            raise UserError(f"--{option} {getattr(arguments, option)}: expected at least {minimum}.")
    if not 0 < arguments.span < np.inf:
        raise UserError(f"--span {arguments.span}: expected a positive number.")
    names, surfaces = [], []
    for run in arguments.runs:
        name, losses = run_surface(
            run, arguments.span, arguments.steps, arguments.images, arguments.seed, arguments.trust
        )
        names.append(name)
        surfaces.append(losses)
    print(markdown([_summary(surfaces, names)], []))
    with style.look():
        figure = draw(surfaces, names, arguments.span)
        for path in style.save({"surface": figure}, arguments.out or arguments.runs[0] / "figures", formats):
            print(path)


def _summary(surfaces: Sequence[Array], names: Sequence[str]) -> Grid:
    """What the picture shows in figures."""
    body = []
    for losses, name in zip(surfaces, names, strict=True):
        middle, odd = divmod(len(losses), 2)
        at_weights = f"{losses[middle, middle]:.3g}" if odd else "–"  # else the grid leaves them out
        body.append([name, at_weights, f"{losses.max():.3g}", percent(nonconvex_share(losses))])
    header = ["network", "loss at the weights", "highest loss", "not convex, % of points"]
    return Grid("", header, body, [True, False, False, False])


def nonconvex_share(losses: Array) -> float:
    """Share of the inner points of `losses` `[steps, steps]` where they curve downwards in some direction.

    There the Hessian of the plane, by central differences, has a negative eigenvalue; then so has that of all weights
    (Li et al. 2018, section 6).
    """
    rows = losses[2:, 1:-1] - 2 * losses[1:-1, 1:-1] + losses[:-2, 1:-1]
    columns = losses[1:-1, 2:] - 2 * losses[1:-1, 1:-1] + losses[1:-1, :-2]
    mixed = (losses[2:, 2:] - losses[2:, :-2] - losses[:-2, 2:] + losses[:-2, :-2]) / 4
    with np.errstate(invalid="ignore"):  # infinite losses
        smaller = (rows + columns) / 2 - np.hypot((rows - columns) / 2, mixed)
    return float((smaller < 0).mean()) if smaller.size else np.nan


def run_surface(
    run: Path, span: float, steps: int, images: int, seed: int, trusted_packages: Sequence[str] = ()
) -> tuple[str, Array]:
    """Return a run's name and its losses `[steps, steps]`; they are kept in `figures/surface.npz` of the run.

    Raises:
        UserError: the run is not finished, or its training images are not on this machine.
    """
    from cnnzoo.data.dataset import load_dataset
    from cnnzoo.data.loaders import eval_loader
    from cnnzoo.trained import load_model
    from cnnzoo.training.devices import training_device

    model = load_model(run, trusted_packages)
    config = model.config
    key = np.array([span, steps, images, seed], dtype=float)
    kept = run / "figures" / "surface.npz"
    losses = _read(kept, key)
    if losses is None:
        losses = np.full((steps, steps), np.nan)
    name = str(config.name)
    todo = [row for row in range(steps) if np.isnan(losses[row]).any()]
    if not todo:
        return name, losses
    device = training_device("auto")
    dataset = load_dataset(config.dataset, config.trusted_packages)
    network = model.network.to(device)
    directions = [random_direction(network, 2 * seed + i) for i in range(2)]
    loader = eval_loader(dataset.to(device), dataset.train.to(device), config)
    ticks = np.linspace(-span, span, steps)
    for row in track(todo, name, console=console, transient=True, disable=not console.is_terminal):
        losses[row] = [loss_at(network, loader, directions, (x, ticks[row]), images) for x in ticks]
        with atomic_path(kept) as temporary, temporary.open("wb") as file:
            np.savez(file, losses=losses, key=key)
    return name, losses


def _read(kept: Path, key: Array) -> Array | None:
    """The losses that an earlier call with the same settings has computed, NaN where it has not."""
    try:
        with np.load(kept, allow_pickle=False) as arrays:
            losses: Array = arrays["losses"]
            return losses if np.array_equal(arrays["key"], key) and losses.shape == (int(key[1]),) * 2 else None
    except (OSError, ValueError, KeyError, EOFError):
        return None


def random_direction(network: "nn.Module", seed: int) -> "dict[str, Tensor]":
    """Draw a direction for every parameter; each filter, `weight[i]`, has the norm of the network's own one."""
    import torch

    generator = torch.Generator().manual_seed(seed)
    direction = {}
    for name, parameter in network.named_parameters():
        drawn = torch.randn(parameter.shape, generator=generator).to(parameter.device)
        if parameter.ndim <= 1:
            direction[name] = torch.zeros_like(drawn)
            continue
        norms, own = (values.detach().flatten(1).norm(dim=1) for values in (drawn, parameter))
        scale = own / (norms + 1e-10)
        direction[name] = drawn * scale.view(-1, *[1] * (parameter.ndim - 1))
    return direction


def loss_at(
    network: "nn.Module",
    loader: "BatchLoader",
    directions: "Sequence[Mapping[str, Tensor]]",
    place: Sequence[float],
    images: int,
) -> float:
    """Return the mean cross-entropy of the first `images` images at the weights + Σ place · directions."""
    import torch
    import torch.nn.functional as F
    from torch.func import functional_call

    moved = {
        name: parameter.detach()
        + sum(share * direction[name] for share, direction in zip(place, directions, strict=True))
        for name, parameter in network.named_parameters()
    }
    total, count = 0.0, 0
    with torch.inference_mode():
        for inputs, labels in loader:
            inputs, labels = inputs[: images - count], labels[: images - count]
            logits = functional_call(network, moved, (inputs,))
            total += F.cross_entropy(logits.double(), labels, reduction="sum").item()
            count += len(labels)
            if count >= images:
                break
    return total / count


def draw(surfaces: Sequence[Array], names: Sequence[str], span: float) -> Figure:
    """Draw contours and surfaces of the losses `[steps, steps]`, all on one logarithmic scale."""
    finite = np.concatenate([losses[np.isfinite(losses)] for losses in surfaces])
    low, high = np.log10(max(finite.min(), 1e-6)), np.log10(min(finite.max(), 1e6))
    levels = np.linspace(low, max(high, low + 0.1), 25)
    columns = len(surfaces)
    width = min(style.PAGE_WIDTH, 2.4 * columns)
    figure = Figure(figsize=(width + 0.5, 1.9 * width / columns + 0.2), layout="constrained")
    panels = []
    for column, (losses, name) in enumerate(zip(surfaces, names, strict=True)):
        ticks = np.linspace(-span, span, len(losses))
        height = np.clip(np.log10(np.clip(np.nan_to_num(losses, nan=np.inf), 1e-6, 1e6)), low, high)
        flat = figure.add_subplot(2, columns, 1 + column)
        mesh = flat.contourf(ticks, ticks, height, levels, cmap="viridis", extend="both")
        flat.contour(ticks, ticks, height, levels[::2], colors="white", linewidths=0.3)
        flat.plot(0, 0, "+", color="white", markersize=5)
        flat.set_aspect("equal")
        flat.set_title(style.short(name, 30), loc="left")
        flat.set_xlabel("first direction")
        panels.append(flat)
        solid: Any = figure.add_subplot(2, columns, 1 + columns + column, projection="3d")
        solid.plot_surface(*np.meshgrid(ticks, ticks), height, cmap="viridis", vmin=low, vmax=high, linewidth=0,
                           rstride=1, cstride=1, antialiased=True)  # fmt: skip
        solid.set_zlim(low, high)
        solid.set_box_aspect((1, 1, 0.8), zoom=1.35)
        solid.view_init(elev=30, azim=-60)
        solid.xaxis.set_major_locator(NullLocator())
        solid.yaxis.set_major_locator(NullLocator())
        solid.zaxis.set_major_formatter(lambda value, _: f"{10**value:.3g}")
        solid.tick_params(labelsize=6, pad=-3)
    panels[0].set_ylabel("second direction")
    bar = figure.colorbar(mesh, ax=panels, format=lambda value, _: f"{10**value:.3g}", fraction=0.05, pad=0.02)
    bar.set_label("loss (nats)")
    bar.outline.set_visible(False)
    return figure


if __name__ == "__main__":
    sys.exit(main())
