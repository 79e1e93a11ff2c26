"""What all figures share: colours, the legend, and how they are written; sizes of text and lines are in look.mplstyle.

Every name in a figure goes through `short`, as it may come from anywhere.
"""

import io
import re
import textwrap
from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import matplotlib.style
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from cnnzoo.errors import UserError, nearest
from cnnzoo.io import write_atomically
from cnnzoo.text import clean

PAGE_WIDTH = 6.5  # inches between the margins of an A4 or letter page
FORMATS = ("png", "pdf", "svg")
MOST_NAMED = 10  # configurations that a legend names; more would be hard to tell apart

BLUE, INK, FAINT = "#3b6ea5", "#333333", "#bbbbbb"
# Paul Tol's "muted" scheme, which colour-blind readers can tell apart (https://sronpersonalpages.nl/~pault), and ink.
COLOURS = ("#332288", "#cc6677", "#117733", "#999933", "#aa4499", "#88ccee", "#882255", "#44aa99", "#ddcc77", INK)
MARKERS = "osD^vPX"

# Lines of learning curves, and points of accuracy against cost. `Any`: matplotlib names every key in its types.
_RING: Any = {"marker": "o", "markersize": 3.2, "markerfacecolor": "white", "markeredgewidth": 0.7, "markevery": [-1]}
UNFINISHED: Any = {"linestyle": (0, (1, 1.2)), "linewidth": 0.8, **_RING}
LONGER_RUN: Any = {"linewidth": 0.5, **_RING}
PUBLISHED: Any = {"linestyle": (0, (4, 2)), "linewidth": 0.7}
POINT: Any = {"linestyle": "", "markeredgewidth": 0.0}
ON_FRONT: Any = {"linestyle": "", "markersize": 5.0, "markeredgewidth": 0.9, "markeredgecolor": INK}
PUBLISHED_POINT: Any = {"linestyle": "", "markersize": 4.2, "markeredgewidth": 0.9, "markerfacecolor": "white"}


def look() -> AbstractContextManager[None]:
    """Give figures that are made and saved in the block the same look."""
    return matplotlib.style.context(Path(__file__).with_name("look.mplstyle"))


def identity(index: int, named: bool = True) -> dict[str, Any]:
    """Return colour and marker of a sweep's configuration number `index`, the same in all figures.

    The first 70 are all different. Those that the legend does not name are grey.
    """
    return {"color": COLOURS[index % len(COLOURS)] if named else FAINT, "marker": MARKERS[index % len(MARKERS)]}


def short(text: str, length: int) -> str:
    """Return a text as one line of at most `length` characters."""
    text = clean(text)
    return text if len(text) <= length else text[: length - 1] + "…"


def percent(share: float, position: object = None) -> str:
    """Format a tick of an axis of accuracy, 0..1, in percent."""
    return f"{100 * share:g}"


def legend_below(figure: Figure, handles: Sequence[Line2D], notes: Sequence[str]) -> None:
    """Add `notes` and a legend below all axes of a page-wide figure, which becomes as much higher as they need.

    A long name continues in the next line, as what tells it from others may be at its end.
    """
    title = textwrap.fill(clean(" ".join(notes)), 128)
    as_many_columns_as_fit = [(columns, 105) for columns in range(min(len(handles), 6), 0, -1)]
    for columns, length in [*as_many_columns_as_fit, (1, 50)]:
        labels = [_wrapped(str(handle.get_label()), length) for handle in handles]
        legend = figure.legend(handles, labels, ncols=columns, loc="outside lower left", title=title, alignment="left")
        box = legend.get_window_extent()
        if box.width <= figure.bbox.width or length == 50:
            break
        legend.remove()
    figure.set_figheight(figure.get_figheight() + box.height / figure.dpi)


def _wrapped(name: str, length: int) -> str:
    return textwrap.fill(clean(name), length, max_lines=3, placeholder="…")


def check_formats(formats: Sequence[str]) -> None:
    """Raise UserError unless every format can be written."""
    for name in formats:
        if name not in FORMATS:
            raise UserError(f"formats: {name}: expected some of {', '.join(FORMATS)}.{nearest(name, FORMATS)}")


def folder_name(name: str) -> str:
    """Return a name from a file as that of one folder, which cannot lead anywhere else."""
    return re.sub(r"[^\w.+=,() -]", "_", name).lstrip(".")[:100] or "_"


def save(figures: dict[str, Figure], folder: Path, formats: Sequence[str]) -> list[Path]:
    """Write `folder/<name>.*`, one file per figure and format, each whole or not at all; return the paths.

    Raises:
        UserError: the folder cannot be written to.
    """
    paths = []
    try:
        for name, figure in figures.items():
            for suffix in formats:
                buffer = io.BytesIO()
                figure.savefig(buffer, format=suffix)
                paths.append(folder / f"{name}.{suffix}")
                write_atomically(paths[-1], buffer.getvalue())
    except OSError as error:
        raise UserError(f"out={folder}: cannot be written to: {error.strerror}.") from error
    return paths
