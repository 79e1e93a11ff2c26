"""Texts beside points, kept apart from each other and from what else is drawn."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.text import Text
from numpy.typing import NDArray

from cnnzoo.figures.style import INK

# All lengths are in typographic points.
_GAPS = (3.5, 7, 11, 16, 24, 34)  # between a point and its text
_LED = 5  # beyond that gap, a line leads from the text to the point
_ANGLES = np.radians([0, 180, 90, 270, 30, 330, 150, 210, 60, 300, 120, 240])
_NEAR = 4.5  # around a point, where another one's text would be taken for its own

Segment = tuple[tuple[float, float], tuple[float, float]]


def label_points(
    axes: Axes, points: Sequence[tuple[float, float]], texts: Sequence[str], obstacles: Sequence[Segment]
) -> None:
    """Puts `texts[i]` beside `points[i]`, where it covers least; an empty one keeps others away from its point.

    Points and `obstacles`, upright or level segments, are in the coordinates of the data. The figure must have been
    drawn before, so that everything is in its place.
    """
    scale = axes.get_figure(root=True).dpi / 72  # type: ignore[union-attr]  # pixels

    def box(segment: Segment, around: float) -> NDArray[np.float64]:
        """Left, lower, right and upper edge, in pixels."""
        corners = axes.transData.transform(segment)
        return np.concatenate([corners.min(axis=0) - around * scale, corners.max(axis=0) + around * scale])

    marks = [box((point, point), _NEAR) for point in points]
    taken = [box(segment, 1) for segment in obstacles]
    gaps = np.repeat(_GAPS, len(_ANGLES))[:, None]
    directions = np.tile(np.column_stack([np.cos(_ANGLES), np.sin(_ANGLES)]), (len(_GAPS), 1))
    for i, (point, text) in enumerate(zip(points, texts, strict=True)):
        if not text:
            continue
        label = axes.annotate(
            text, point, (0, 0), textcoords="offset points", fontsize=6.5, ha="center", va="center", zorder=6,
            arrowprops={"arrowstyle": "-", "linewidth": 0.4, "color": INK, "shrinkA": 1, "shrinkB": 3},
        )  # fmt: skip
        label.set_in_layout(False)
        size = np.array(Text.get_window_extent(label).size) / scale
        offsets = directions * (size / 2 + gaps)
        centre = axes.transData.transform(point) + offsets * scale
        places = np.hstack([centre - size / 2 * scale, centre + size / 2 * scale])
        covered = _overlaps(places, np.array([*taken, *marks[:i], *marks[i + 1 :]])).sum(axis=1)
        outside = np.prod(size * scale) - _overlaps(places, np.array([axes.bbox.extents]))[:, 0]
        best = int(np.argmin((covered + 3 * outside) / np.prod(size * scale) + 0.004 * gaps[:, 0]))
        label.xyann = tuple(offsets[best])
        label.arrow_patch.set_visible(bool(gaps[best, 0] > _LED))  # type: ignore[union-attr]
        taken.append(places[best])


def _overlaps(a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.float64]:
    """Areas that the boxes `[n, 4]` and `[m, 4]` have in common: `[n, m]`."""
    low = np.maximum(a[:, None, :2], b[None, :, :2])
    high = np.minimum(a[:, None, 2:], b[None, :, 2:])
    return np.prod(np.clip(high - low, 0, None), axis=2)
