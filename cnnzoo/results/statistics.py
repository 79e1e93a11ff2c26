"""The arithmetic of comparing networks over seeds; no file is read here.

scipy.special has the distributions at a tenth of the import time of scipy.stats.
"""

import math
from collections.abc import Sequence
from itertools import combinations
from statistics import fmean, stdev

import numpy as np
from scipy.special import chdtrc, stdtr, stdtrit

EXACT_UP_TO = 100  # discordant images; beyond, the normal approximation is good to three digits


def t_interval(values: Sequence[float], confidence: float = 0.95) -> tuple[float, float] | None:
    """Confidence interval of the mean, mean ± t s/√n with n − 1 degrees of freedom; None for fewer than two values."""
    n = len(values)
    if n < 2:
        return None
    half = float(stdtrit(n - 1, (1 + confidence) / 2)) * stdev(values) / math.sqrt(n)
    return fmean(values) - half, fmean(values) + half


def paired_t(a: Sequence[float], b: Sequence[float]) -> float | None:
    """Two-sided p-value of the paired t-test, `a[i]` and `b[i]` from the same seed.

    None where it says nothing: fewer than two pairs, or the same difference in every pair (t would be infinite).
    """
    differences = [x - y for x, y in zip(a, b, strict=True)]
    if len(differences) < 2 or math.isclose(spread := stdev(differences), 0, abs_tol=1e-12):
        return None
    t = fmean(differences) / (spread / math.sqrt(len(differences)))
    return float(2 * stdtr(len(differences) - 1, -abs(t)))


def mcnemar(differences: np.ndarray) -> float:
    """Two-sided p-value of McNemar's test, extended to several pairs of predictions for each image.

    `differences` [images] int: how many runs of A classify an image correctly, less how many of B, over as many runs
    of each. Runs judged on the same image are not independent, so the image is the unit (clustered McNemar test,
    Durkalski et al. 2003, Statistics in Medicine 22:2417): under the null hypothesis each difference is as likely as
    its negative, and (Σd)²/Σd² is χ² distributed with one degree of freedom. Up to EXACT_UP_TO images with d ≠ 0 the
    distribution of Σ±|d| is computed exactly instead. With one run of each network these are McNemar's own test,
    (b − c)²/(b + c), and its exact binomial form.
    """
    discordant = np.abs(differences[differences != 0]).astype(int)
    if discordant.size == 0:
        return 1.0
    total = abs(int(differences.sum()))
    if discordant.size > EXACT_UP_TO:
        return float(chdtrc(1, total**2 / float((discordant.astype(float) ** 2).sum())))
    reach = int(discordant.sum())
    probability = np.zeros(2 * reach + 1)  # of the sums −reach … reach
    probability[reach] = 1.0
    for size in discordant:
        probability = (np.roll(probability, size) + np.roll(probability, -size)) / 2
    sums = np.abs(np.arange(-reach, reach + 1))
    return min(1.0, float(probability[sums >= total].sum()))


def holm(p_values: Sequence[float | None]) -> list[float | None]:
    """Holm's step-down adjustment (1979); tests that were not made (None) stay None and do not count."""
    adjusted: list[float | None] = [None] * len(p_values)
    made = sorted((p, i) for i, p in enumerate(p_values) if p is not None)
    largest = 0.0
    for rank, (p, i) in enumerate(made):
        largest = max(largest, min(1.0, (len(made) - rank) * p))
        adjusted[i] = largest
    return adjusted


def compact_letters(n: int, different: set[tuple[int, int]]) -> list[str]:
    """Letters for `n` rows such that two rows share one exactly if they are not in `different` (i < j).

    Insert-and-absorb (Piepho 2004, J. Comput. Graph. Stat. 13:456). Letters follow the order of the rows.
    """
    columns = [frozenset(range(n))]
    for i, j in sorted(different):
        split = [c - {k} for c in columns if {i, j} <= c for k in (i, j)]
        columns = [c for c in columns if not {i, j} <= c]
        for candidate in split:
            if not any(candidate <= c for c in columns):
                columns = [c for c in columns if not c < candidate] + [candidate]
    columns.sort(key=sorted)
    return ["".join(_letter(k) for k, column in enumerate(columns) if i in column) for i in range(n)]


def _letter(k: int) -> str:
    alphabet = "abcdefghijklmnopqrstuvwxyz"
    return alphabet[k] if k < 26 else f"({k + 1})"


def pairs(n: int) -> list[tuple[int, int]]:
    """All i < j below `n`."""
    return list(combinations(range(n), 2))


def pareto_front(cost: Sequence[float], accuracy: Sequence[float]) -> list[int]:
    """Indices, by cost, of the points that no other one beats: at most their cost and no less accuracy, one better."""
    front: list[int] = []
    for i in sorted(range(len(cost)), key=lambda i: (cost[i], -accuracy[i])):
        if (
            not front
            or accuracy[i] > accuracy[front[-1]]
            or (cost[i], accuracy[i]) == (cost[front[-1]], accuracy[front[-1]])
        ):
            front.append(i)
    return front
