"""What all figures share: the look, sizes that fit a printed page, and how they are written."""

import contextlib
import io
import itertools
import textwrap
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

import matplotlib
from matplotlib.artist import Artist
from matplotlib.figure import Figure

from cnnzoo.errors import UserError, nearest
from cnnzoo.results.record import write_atomically

PAGE_WIDTH = 6.5  # inches between the margins of an A4 or letter page

FORMATS = ("png", "pdf", "svg")
BLUE, INK, FAINT = "#3b6ea5", "#333333", "#bbbbbb"

# Paul Tol's "muted" scheme, which colour-blind readers can tell apart (https://sronpersonalpages.nl/~pault), and ink.
COLOURS = (
    *("#332288", "#cc6677", "#117733", "#999933", "#aa4499", "#88ccee", "#882255", "#44aa99", "#ddcc77"),
    INK,
)

Thing = TypeVar("Thing")

_LOOK: Any = {  # matplotlib names every key in its types
    "font.family": "sans-serif",
    "font.size": 8,
    "axes.titlesize": 8,
    "axes.labelsize": 8,
    "xtick.labelsize": 7,
    "ytick.labelsize": 7,
    "legend.fontsize": 7,
    "legend.title_fontsize": 8,
    "legend.frameon": False,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "axes.linewidth": 0.6,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "lines.linewidth": 1.2,
    "figure.constrained_layout.wspace": 0.05,
    "savefig.dpi": 250,
    "savefig.bbox": "tight",
    "savefig.pad_inches": 0.03,
    "pdf.fonttype": 42,  # text stays text: journals ask for it
    "svg.fonttype": "none",
}


@contextlib.contextmanager
def look() -> Iterator[None]:
    """Figures made and saved inside look alike."""
    with matplotlib.rc_context(_LOOK):
        yield


def check_formats(formats: Sequence[str]) -> None:
    """Raises UserError unless every format can be written."""
    for name in formats:
        if name not in FORMATS:
            raise UserError(f"formats: {name}: expected some of {', '.join(FORMATS)}.{nearest(name, FORMATS)}")


def coloured(things: Sequence[Thing]) -> list[tuple[Thing, str]]:
    """Each with a colour; beyond the COLOURS, all are FAINT."""
    return list(itertools.zip_longest(things, COLOURS[: len(things)], fillvalue=FAINT))  # type: ignore[arg-type]


def shortened(name: str, length: int) -> str:
    return name if len(name) <= length else name[: length - 1] + "…"


def legend_below(figure: Figure, handles: Sequence[Artist], notes: Sequence[str]) -> None:
    """A legend below all axes of a page-wide figure, its columns as many as fit, with `notes` above it."""
    widest = max((len(str(handle.get_label())) for handle in handles), default=0)
    columns = max(1, int(PAGE_WIDTH / (0.42 + 0.053 * widest)))  # inches, at this size of letters
    title = textwrap.fill(" ".join(notes), 128)
    figure.legend(
        handles=handles, loc="outside lower left", ncols=columns, title=title, alignment="left", title_fontsize=7,
        handlelength=1.8, columnspacing=1.4, borderpad=0,
    )  # fmt: skip


def save(figure: Figure, folder: Path, name: str, formats: Sequence[str]) -> list[Path]:
    """Writes `folder/name.*`, one file a format, each in one step; returns the paths.

    Raises:
        UserError: the folder cannot be written to.
    """
    paths = [folder / f"{name}.{suffix}" for suffix in formats]
    try:
        for path in paths:
            buffer = io.BytesIO()
            figure.savefig(buffer, format=path.suffix[1:])
            write_atomically(path, buffer.getvalue())
    except OSError as error:
        raise UserError(f"out={folder}: cannot be written to: {error.strerror}.") from error
    return paths
