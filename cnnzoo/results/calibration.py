"""How far predicted probabilities can be believed, from logits alone. No torch."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
import scipy.special
from numpy.typing import NDArray

from cnnzoo.results.run_folder import RunFileError, read_predictions
from cnnzoo.results.settings import is_absent
from cnnzoo.results.table import listed

Array = NDArray[np.float64]
BINS = 15  # of equal width, as in Guo et al. 2017, https://arxiv.org/abs/1706.04599


@dataclass(frozen=True)
class Calibration:
    """Figures of merit of `N` predictions, and the bins of a reliability diagram.

    ece: expected calibration error, 0..1: |accuracy - confidence| of the bins, weighted by their images (Guo et al.).
    nll: mean negative log-likelihood, in nats. brier: mean squared distance to the true class's one-hot vector, 0..2
        (Brier 1950).
    confidence, accuracy: means in each bin, NaN in an empty one; count: its images.
    """

    ece: float
    nll: float
    brier: float
    confidence: Array
    accuracy: Array
    count: NDArray[np.int64]


def calibration(logits: NDArray[np.floating], labels: NDArray[np.integer], bins: int = BINS) -> Calibration:
    """Compute it from `logits` `[N, classes]` and `labels` `[N]`."""
    log_shares = scipy.special.log_softmax(logits.astype(np.float64), axis=1)
    shares = np.exp(log_shares)
    surest, right = shares.max(axis=1), logits.argmax(axis=1) == labels
    # A confidence on an edge belongs to the bin below it, as in the paper.
    place = np.clip(np.ceil(surest * bins).astype(int) - 1, 0, bins - 1)
    count = np.bincount(place, minlength=bins)
    with np.errstate(invalid="ignore"):
        confidence = np.bincount(place, surest, bins) / count
        accuracy = np.bincount(place, right, bins) / count
    own = log_shares[np.arange(len(labels)), labels]
    return Calibration(
        ece=float(np.nansum(count * np.abs(accuracy - confidence)) / len(labels)),
        nll=float(-own.mean()),
        brier=float(((shares**2).sum(axis=1) - 2 * np.exp(own) + 1).mean()),
        confidence=confidence,
        accuracy=accuracy,
        count=count,
    )


def calibrate(rows: pd.DataFrame, runs: pd.DataFrame) -> tuple[pd.DataFrame, list[str]]:
    """Add the columns `ece`, `nll` and `brier` to the rows of a `Table`, means over seeds, and note what is missing."""
    found, missing = [], []
    for run in runs[runs["row"].isin(rows.index)].itertuples():
        accuracy = None if is_absent(run.test_accuracy) else float(run.test_accuracy)  # type: ignore[arg-type]
        try:
            one = calibration(*read_predictions(str(run.folder), accuracy))
            found.append((run.row, one.ece, one.nll, one.brier))
        except (RunFileError, IndexError):
            missing.append(str(run.folder))
    means = pd.DataFrame(found, columns=["row", "ece", "nll", "brier"]).groupby("row").mean()
    notes = [f"without predictions, so not in ECE, NLL and Brier: {listed(missing)}"] if missing else []
    return rows.join(means), notes
