"""Reading what a run leaves beside result.json: `metrics.csv` and `predictions.npz`. No torch."""

import csv
import os
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np

_WHOLE_NUMBERS = ("epoch", "step", "peak_memory_bytes")


class Unreadable(Exception):
    """A file of a run cannot be used; the text says why, without the folder."""


def read_metrics(folder: str | os.PathLike[str]) -> list[dict[str, Any]]:
    """The rows of `metrics.csv`, numbers to the last digit, None for an empty cell.

    A line that is still being written does not count, so a running run can be read at any time.

    Raises:
        Unreadable: there is no such file, or it does not hold numbers.
    """
    try:
        text = Path(folder, "metrics.csv").read_text(encoding="utf-8")
        return [
            {key: None if cell == "" else (int if key in _WHOLE_NUMBERS else float)(cell) for key, cell in row.items()}
            for row in csv.DictReader(text[: text.rfind("\n") + 1].splitlines())
        ]
    except FileNotFoundError:
        raise Unreadable("no metrics.csv") from None
    except OSError as error:
        raise Unreadable(f"metrics.csv cannot be read: {error.strerror}") from error
    except (ValueError, TypeError, csv.Error) as error:  # TypeError: a line has too few or too many cells
        raise Unreadable("metrics.csv is damaged") from error


def read_predictions(folder: str | os.PathLike[str], accuracy: float | None) -> "tuple[np.ndarray, np.ndarray]":
    """`labels` `[images] int` of `predictions.npz`, and `[images] bool`: whether the run classifies them correctly.

    `accuracy` is what result.json says of them.

    Raises:
        Unreadable: there is no such file, it is damaged, or it contradicts `accuracy`.
    """
    import numpy as np

    try:
        with np.load(Path(folder, "predictions.npz"), allow_pickle=False) as arrays:
            logits, labels = arrays["logits"], arrays["labels"]
    except FileNotFoundError:
        raise Unreadable("no predictions.npz") from None
    except KeyError as error:
        raise Unreadable("predictions.npz lacks logits or labels") from error
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise Unreadable("predictions.npz is damaged") from error
    if logits.ndim != 2 or labels.shape != logits.shape[:1] or not len(labels):
        raise Unreadable(f"logits {list(logits.shape)} and labels {list(labels.shape)} do not fit together")
    if labels.dtype.kind not in "iu" or labels.min() < 0:
        raise Unreadable("the labels in predictions.npz are no class numbers")
    correct = logits.argmax(axis=1) == labels
    if accuracy is not None and abs(correct.mean() - accuracy) > 0.005:  # bf16 logits may tie
        raise Unreadable(f"predictions.npz has {correct.mean():.2%} right, result.json says {accuracy:.2%}")
    return labels, correct
