"""What all figures share: the look, sizes that fit a printed page, and how they are written."""

import contextlib
import io
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.figure import Figure

from cnnzoo.errors import UserError, nearest
from cnnzoo.results.record import write_atomically

PAGE_WIDTH = 6.5  # inches between the margins of an A4 or letter page

FORMATS = ("png", "pdf", "svg")
BLUE, INK, FAINT = "#3b6ea5", "#333333", "#bbbbbb"

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
