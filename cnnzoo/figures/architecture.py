"""The architecture of a network as a figure."""

import operator
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch
from torch import fx, nn

from cnnzoo.errors import UserError
from cnnzoo.figures import style
from cnnzoo.nn.profile import Profile

_ROW, _GAP = 0.27, 0.12  # inches
_MOST_ROWS = 60
_MOST_BLOCKS = 4  # kinds of which the inside is drawn
_FILL = {"conv": "#dbe7f3", "linear": "#e7dff0", "pool": "#dff0e3", "block": "#f7e9d0", "other": "#eeeeee"}


@dataclass
class Row:
    """Modules that follow each other: one block or several of one kind, or single layers."""

    title: str
    kind: str  # a key of _FILL
    shapes: list[tuple[int, ...]] = field(default_factory=list)  # outputs
    params: int = 0
    macs: int = 0
    count: int = 1
    example: nn.Module | None = None  # a block


def rows(net: nn.Module, costs: Profile) -> list[Row]:
    """Return a network's rows from input to output, in the order of the calls; those of one kind folded."""
    found = list(_rows(net, "", costs))
    folded: list[Row] = []
    for _, members in groupby(enumerate(found), key=lambda pair: _fold_key(*pair)):
        own = [row for _, row in members]
        folded.append(own[0])
        for row in own[1:]:
            own[0].shapes += row.shapes
            own[0].params, own[0].macs, own[0].count = own[0].params + row.params, own[0].macs + row.macs, len(own)
    return folded


def _fold_key(index: int, row: Row) -> tuple[str, Any, int]:
    """Equal for blocks of one kind whose images have one size; layers are never folded."""
    return (row.title, row.shapes[-1][1:], 0) if row.example is not None else ("", None, index + 1)


def _rows(module: nn.Module, name: str, costs: Profile) -> Iterator[Row]:
    """Go into the network itself, sequences, and blocks that wrap nothing but a sequence."""
    called = [
        (child_name, child)
        for key, child in module.named_children()
        if (child_name := f"{name}.{key}" if name else key) in costs.shapes
        or any(other.startswith(f"{child_name}.") for other in costs.shapes)
    ]
    order = {key: place for place, key in enumerate(costs.shapes)}
    called.sort(key=lambda pair: min(place for key, place in order.items() if f"{key}.".startswith(f"{pair[0]}.")))
    layers: list[tuple[str, nn.Module]] = []
    for child_name, child in called:
        if not any(True for _ in child.children()):
            layers.append((child_name, child))
            continue
        yield from _layers(layers, costs)
        layers = []
        if isinstance(child, nn.Sequential | nn.ModuleList | nn.ModuleDict) or _is_wrapper(child):
            yield from _rows(child, child_name, costs)
        else:
            params, macs = _cost(costs, child_name)
            shape = costs.shapes.get(child_name) or ()
            yield Row(type(child).__name__, "block", [shape], params, macs, example=child)
    yield from _layers(layers, costs)


def _is_wrapper(block: nn.Module) -> bool:
    """Whether a block does nothing but call its only child once."""
    graph = _trace(block, lambda module: True)
    return graph is not None and [node.op for node in graph.nodes] == ["placeholder", "call_module", "output"]


def _layers(layers: list[tuple[str, nn.Module]], costs: Profile) -> Iterator[Row]:
    """One row of layers that follow each other; a pooling or a layer with weights begins another one."""
    for _, group in groupby(_numbered(layers), key=lambda entry: entry[0]):
        own = [(name, layer) for _, name, layer in group]
        labels = [words for _, layer in own if (words := describe(layer))]
        totals = [_cost(costs, name) for name, _ in own]
        shapes = [shape for name, _ in own if (shape := costs.shapes[name]) is not None][-1:]
        kinds = [kind(layer) for _, layer in own]
        best = next((k for k in kinds if k in ("conv", "linear", "pool")), "other")
        if labels:
            yield Row(" – ".join(labels), best, shapes or [()], sum(p for p, _ in totals), sum(m for _, m in totals))


def _numbered(layers: list[tuple[str, nn.Module]]) -> Iterator[tuple[int, str, nn.Module]]:
    number, weighted = 0, False
    for name, layer in layers:
        if kind(layer) in ("conv", "linear", "pool"):
            number, weighted = number + weighted, True
        yield number, name, layer


def _cost(costs: Profile, name: str) -> tuple[int, int]:
    own = [layer for layer in costs.layers if layer.name == name or layer.name.startswith(f"{name}.")]
    return sum(layer.params for layer in own), sum(layer.macs for layer in own)


def kind(layer: nn.Module) -> str:
    """What a layer is drawn as."""
    name = type(layer).__name__.lower()
    return next((kind for kind in ("conv", "linear", "pool") if kind in name), "other")


def describe(layer: nn.Module) -> str:
    """A layer in a few words: `3×3 conv, 64, /2`; empty for an identity."""
    name = type(layer).__name__
    if isinstance(layer, nn.Conv2d):
        groups = f", {layer.groups} groups" if layer.groups > 1 else ""
        return f"{_times(layer.kernel_size)} conv, {layer.out_channels}{_stride(layer.stride)}{groups}"
    if isinstance(layer, nn.Linear):
        return f"linear, {layer.out_features}"
    if isinstance(layer, nn.MaxPool2d | nn.AvgPool2d):
        words = "max pool" if isinstance(layer, nn.MaxPool2d) else "average pool"
        return f"{_times(layer.kernel_size)} {words}{_stride(layer.stride)}"
    if isinstance(layer, nn.AdaptiveAvgPool2d):
        return "average pool" if layer.output_size in (1, (1, 1)) else f"average pool to {_times(layer.output_size)}"
    short = {"BatchNorm2d": "BN", "BatchNorm1d": "BN", "Identity": "", "Flatten": "flatten", "Dropout": "dropout"}
    return short.get(name, name)


def _times(size: Any) -> str:
    return "×".join(map(str, size if isinstance(size, tuple | list) else (size, size)))


def _stride(stride: Any) -> str:
    first = stride[0] if isinstance(stride, tuple | list) else stride
    return f", /{first}" if first != 1 else ""


# --- the inside of a block


@dataclass
class Part:
    """Layers that follow each other without a branch, or an operation that joins branches."""

    words: list[str]
    kind: str
    inputs: list[int]  # indices of parts
    level: int = 0


def _trace(block: nn.Module, is_leaf: Callable[[nn.Module], bool]) -> fx.Graph | None:
    """The operations of a block; None where its code cannot be followed without running it."""

    class Tracer(fx.Tracer):
        def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
            return is_leaf(m)

    try:
        return Tracer().trace(block)
    except Exception:  # of any type, whatever the block does with what are no tensors here
        return None


_JOINS = {
    operator.add: "+",
    torch.add: "+",
    operator.iadd: "+",
    torch.cat: "concatenate",
    operator.mul: "×",
    operator.getitem: "slice",
    torch.mul: "×",
}


def inside(block: nn.Module) -> list[Part] | None:
    """Return the parts of a block, its input first; None where its code cannot be followed without running it."""
    graph = _trace(block, lambda module: not any(True for _ in module.children()))
    if graph is None:
        return None
    modules = dict(block.named_modules())
    parts: list[Part] = []
    place: dict[fx.Node, int] = {}
    for node in graph.nodes:
        sources = list(dict.fromkeys(place[source] for source in node.all_input_nodes if source in place))
        if node.op == "placeholder":
            place[node] = len(parts)
            parts.append(Part(["input"], "other", []))
            continue
        if node.op == "output":
            continue
        if node.op == "call_module":
            layer = modules[str(node.target)]
            words, look = describe(layer), kind(layer)
        elif node.op in ("call_function", "call_method"):
            target = node.target
            words = _JOINS.get(target, getattr(target, "__name__", str(target)))
            look = "other"
        else:
            continue  # an attribute
        if not sources:
            continue
        before = sources[0]
        goes_on = len(node.all_input_nodes) == 1 and len(node.all_input_nodes[0].users) == 1
        if not words:
            place[node] = before
        elif goes_on and parts[before].kind != "join" and parts[before].words != ["input"]:
            parts[before].words.append(words)
            parts[before].kind = look if parts[before].kind == "other" else parts[before].kind
            place[node] = before
        else:
            place[node] = len(parts)
            level = 1 + max(parts[source].level for source in sources)
            joins = len(node.all_input_nodes) > 1
            parts.append(Part([words], "join" if joins else look, sources, level))
    return parts


# --- drawing; the unit is an inch, and y grows downwards


def architecture(net: nn.Module, costs: Profile, title: str) -> Figure:
    """Draw a network's rows with their costs, and below them what is in each kind of block.

    Args:
        costs: what `profile` returns of `net`.

    Raises:
        UserError: the network has too many different blocks for a page.
    """
    found = rows(net, costs)
    if len(found) > _MOST_ROWS:
        raise UserError(
            f"{title}: {len(found)} blocks that differ, and a page has room for {_MOST_ROWS};"
            " `python -m cnnzoo.summary` with the same settings lists them."
        )
    blocks: dict[str, nn.Module] = {}
    for row in found:
        if row.example is not None:
            blocks.setdefault(row.title, row.example)
    insides = {name: parts for name, block in blocks.items() if (parts := inside(block))}
    panels = [(name, parts, *_size(parts)) for name, parts in list(insides.items())[:_MOST_BLOCKS]]
    shelves = _shelves([width for *_, width, _ in panels])
    top = 0.5 + (len(found) + 1) * (_ROW + _GAP) + 0.3
    height = top + sum(0.35 + max(panels[i][3] for i in shelf) for shelf in shelves)
    figure = Figure(figsize=(style.PAGE_WIDTH, height))
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_xlim(0, style.PAGE_WIDTH)
    axes.set_ylim(height, 0)
    axes.axis("off")
    axes.text(0.05, 0.1, style.short(title, 90), va="center", fontsize=9, weight="bold")
    _draw_rows(axes, found, costs)
    y = top
    for shelf in shelves:
        x = 0.05
        for i in shelf:
            name, parts, width, _ = panels[i]
            count = sum(row.count for row in found if row.title == name)
            text = style.short(name, 40) + (f", the first of {count}" if count > 1 else "")
            axes.text(x, y, text, weight="bold", va="center")
            _draw_parts(axes, parts, x, y + 0.15, width)
            x += width + 0.3
        y += 0.35 + max(panels[i][3] for i in shelf)
    return figure


def _draw_rows(axes: Axes, found: list[Row], costs: Profile) -> None:
    heads = ((2.85, "left", "output"), (4.35, "right", "parameters"), (5.65, "right", "MACs"))
    for x, side, text in heads:
        axes.text(x, 0.33, text, ha=side, va="center", color="#666666")
    y, middle = 0.5, 1.4
    axes.text(middle, y + _ROW / 2, f"image {_times(costs.input_shape)}", ha="center", va="center", fontsize=7)
    most = {"params": max(row.params for row in found), "macs": max(row.macs for row in found)}
    for row in found:
        axes.annotate("", (middle, y + _ROW + _GAP), (middle, y + _ROW), arrowprops=_ARROW)
        y += _ROW + _GAP
        _box(axes, 0.05, y, 2.7, _ROW, row.kind)
        times = f"{row.count} × " if row.count > 1 else ""
        text = style.short(times + row.title, 48)
        axes.text(middle, y + _ROW / 2, text, ha="center", va="center", fontsize=7 if len(text) < 42 else 6)
        axes.text(2.85, y + _ROW / 2, _shape(row.shapes), va="center", fontsize=7)
        for x, key in ((4.35, "params"), (5.65, "macs")):
            value = getattr(row, key)
            if value:
                axes.text(x, y + _ROW / 2, _magnitude(value), ha="right", va="center", fontsize=7)
                axes.barh(y + _ROW / 2, 0.62 * value / most[key], 0.5 * _ROW, left=x + 0.06, color=style.BLUE)
    y += _ROW + _GAP + 0.02
    axes.text(2.85, y, "all", va="center", weight="bold", fontsize=7)
    for x, value in ((4.35, costs.params), (5.65, costs.macs)):
        axes.text(x, y, _magnitude(value), ha="right", va="center", weight="bold", fontsize=7)


_ARROW: Any = {
    "arrowstyle": "-|>",
    "color": "#888888",
    "linewidth": 0.7,
    "shrinkA": 0,
    "shrinkB": 0,
    "mutation_scale": 6,
}


def _box(axes: Axes, x: float, y: float, width: float, height: float, look: str) -> None:
    rounded, fill = "round,pad=0,rounding_size=0.05", _FILL.get(look, "white")
    axes.add_patch(
        FancyBboxPatch((x, y), width, height, boxstyle=rounded, facecolor=fill, edgecolor="#888888", linewidth=0.6)
    )


def _shape(shapes: list[tuple[int, ...]]) -> str:
    """`64×8×8`; of blocks with different numbers of channels, the first and the last: `48…128 × 32×32`."""
    first, last = shapes[0], shapes[-1]
    if len({shape[:1] for shape in shapes}) == 1 or len(last) < 2:
        return _times(last)
    channels = [shape[0] for shape in shapes]
    words = ", ".join(map(str, channels)) if len(channels) <= 2 else f"{first[0]}…{last[0]}"
    return f"{words} × {_times(last[1:])}"


def _magnitude(value: int) -> str:
    """272378 → `272 k`, 41 M."""
    for factor, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= factor:
            return f"{value / factor:.3g} {unit}" if value / factor < 999.5 else f"{value / factor:.0f} {unit}"
    return str(value)


_LANE, _LINE, _BETWEEN = 1.2, 0.135, 0.16


def _levels(parts: list[Part]) -> list[list[int]]:
    return [
        [i for i, part in enumerate(parts) if part.level == level] for level in range(1 + max(p.level for p in parts))
    ]


def _heights(parts: list[Part]) -> list[float]:
    return [max(len(parts[i].words) for i in level) * _LINE + 0.08 for level in _levels(parts)]


def _size(parts: list[Part]) -> tuple[float, float]:
    """Width and height of the picture of a block."""
    heights, lanes = _heights(parts), max(map(len, _levels(parts)))
    skips = sum(part.level - parts[source].level > 1 for part in parts for source in part.inputs)
    return lanes * _LANE + 0.1 * skips + 0.2 * (skips > 0), sum(heights) + _BETWEEN * (len(heights) - 1) + 0.2


def _shelves(widths: list[float]) -> list[list[int]]:
    """Indices of panels, as many in a row as a page is wide."""
    shelves: list[list[int]] = []
    used = style.PAGE_WIDTH
    for i, width in enumerate(widths):
        if used + width > style.PAGE_WIDTH - 0.1 or not shelves:
            shelves.append([])
            used = 0.0
        shelves[-1].append(i)
        used += width + 0.3
    return shelves


def _draw_parts(axes: Axes, parts: list[Part], left: float, top: float, width: float) -> None:
    levels, heights = _levels(parts), _heights(parts)
    lanes = max(map(len, levels))
    middle, side = left + lanes * _LANE / 2, left + lanes * _LANE
    boxes: dict[int, tuple[float, float, float, float]] = {}  # centre x, top y, half width, height
    below: dict[int, float] = {}  # where the part's level ends
    y = top
    for level, tall in zip(levels, heights, strict=True):
        for place, i in enumerate(level):
            x = middle + (place - (len(level) - 1) / 2) * _LANE
            words = parts[i].words
            own = len(words) * _LINE + 0.08
            half = (0.48 if parts[i].kind != "join" and words != ["input"] else 0.42) * _LANE
            if words == ["+"] or words == ["×"]:
                half = 0.12
            boxes[i], below[i] = (x, y, half, own), y + tall
            if words != ["input"]:
                _box(axes, x - half, y, 2 * half, own, parts[i].kind)
            for line, text in enumerate(words):
                axes.text(
                    x, y + 0.04 + (line + 0.5) * _LINE, style.short(text, 24), ha="center", va="center", fontsize=6
                )
        y += tall + _BETWEEN
    for i, part in enumerate(parts):
        x, y, half, own = boxes[i]
        for source in part.inputs:
            above_x, above_y, _, above = boxes[source]
            if part.level - parts[source].level == 1:
                axes.plot([above_x, above_x], [above_y + above, below[source]], color="#888888", linewidth=0.7)
                axes.annotate("", (x, y), (above_x, below[source]), arrowprops=_ARROW)
            else:  # past what stands between
                gap, end = below[source] + 0.05, y + own / 2
                side += 0.1  # each its own line
                xs, ys = [above_x, above_x, side, side], [above_y + above, gap, gap, end]
                axes.plot(xs, ys, color="#888888", linewidth=0.7)
                axes.annotate("", (x + half, end), (side, end), arrowprops=_ARROW)
