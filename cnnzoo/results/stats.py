"""Statistics of comparing networks over seeds and test images; no file is read here. No torch."""

import functools
import math
from collections.abc import Sequence
from statistics import fmean, stdev
from string import ascii_lowercase
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import scipy  # its submodules are imported when they are first used
from numpy.typing import ArrayLike, NDArray

EXACT_UP_TO = 100  # discordant images; beyond, the normal approximation is good to three digits


def t_interval(values: Sequence[float], confidence: float = 0.95) -> tuple[float, float] | None:
    """Confidence interval of the mean, mean ± t s/√n with n − 1 degrees of freedom; None for fewer than two values."""
    if len(values) < 2:
        return None
    half = float(t_half_width(stdev(values), len(values), confidence))
    return fmean(values) - half, fmean(values) + half


def t_half_width(std: Any, n: Any, confidence: float = 0.95) -> Any:
    """Half the width of `t_interval`, from sample standard deviations and numbers of values (arrays or numbers)."""
    return scipy.special.stdtrit(n - 1, (1 + confidence) / 2) * std / np.sqrt(n)


class PairedTest(NamedTuple):
    """A paired t-test of two networks over `n` common seeds, two-sided.

    std: sample standard deviation of the differences between runs of the same seed.
    effect_size: Cohen's d_z, the mean of these differences in units of `std`.
    """

    n: int
    std: float
    effect_size: float
    p: float


def paired_t(a: ArrayLike, b: ArrayLike) -> PairedTest | None:
    """Test `a` against `b`, where `a[i]` and `b[i]` have the same seed.

    None if nothing can be concluded: fewer than two pairs, or the same difference in every pair (t would be infinite).
    """
    differences = np.subtract(a, b).tolist()
    if len(differences) < 2 or (std := stdev(differences)) < 1e-12:
        return None
    return PairedTest(len(differences), std, fmean(differences) / std, float(scipy.stats.ttest_rel(a, b).pvalue))


def critical_effect_size(n: int, level: float) -> float:
    """The observed d_z from which on a two-sided paired t-test of `n` pairs is significant at `level`."""
    return float(scipy.stats.t.isf(level / 2, n - 1)) / math.sqrt(n)


@functools.cache
def detectable_effect_size(n: int, level: float, power: float = 0.8) -> float:
    """The true d_z that a two-sided paired t-test of `n` pairs at `level` finds with the probability `power`.

    Under that effect, t has the noncentral t distribution with n − 1 degrees of freedom and noncentrality d_z √n. A
    difference that is found with the wrong sign does not count.
    """
    critical = critical_effect_size(n, level) * math.sqrt(n)

    def missing_power(effect: float) -> float:
        return float(power - scipy.stats.nct.sf(critical, n - 1, effect * math.sqrt(n)))

    upper = 1.0
    while missing_power(upper) > 0:
        upper *= 2
    return float(scipy.optimize.brentq(missing_power, 0, upper))


def mcnemar(differences: NDArray[Any]) -> float:
    """Two-sided p-value of McNemar's test, extended to several pairs of predictions for each image.

    `differences` [images] int: how many runs of A classify an image correctly, less how many of B, over as many runs
    of each. Runs judged on the same image are not independent, so the image is the unit (clustered McNemar test,
    Durkalski et al. 2003, Statistics in Medicine 22:2417): under the null hypothesis each difference is as likely as
    its negative, and (Σd)²/Σd² is χ² distributed with one degree of freedom. Up to EXACT_UP_TO images with d ≠ 0 the
    distribution of Σ±|d| is computed exactly instead. With one run of each network these are McNemar's own test,
    (b − c)²/(b + c), and its exact binomial form.
    """
    discordant = np.abs(differences[differences != 0]).astype(int)
    total = abs(int(differences.sum()))
    if discordant.size > EXACT_UP_TO:
        return float(scipy.stats.chi2.sf(total**2 / float((discordant.astype(float) ** 2).sum()), 1))
    reach = int(discordant.sum())
    probability = np.zeros(2 * reach + 1)  # of the sums −reach … reach
    probability[reach] = 1.0
    for size in discordant:
        probability = (np.roll(probability, size) + np.roll(probability, -size)) / 2
    sums = np.abs(np.arange(-reach, reach + 1))
    return min(1.0, float(probability[sums >= total].sum()))


def holm(p_values: "pd.Series[float]") -> "pd.Series[float]":
    """Holm's step-down adjustment (1979); tests that were not made (NaN) do not count."""
    made = p_values.dropna().sort_values()
    return (made * np.arange(len(made), 0, -1)).clip(upper=1).cummax().reindex(p_values.index)


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
    letters = [*ascii_lowercase, *(f"({k + 1})" for k in range(26, len(columns)))]
    return ["".join(letter for letter, c in zip(letters, columns, strict=False) if i in c) for i in range(n)]


def all_tested(n: int, untested: set[tuple[int, int]]) -> list[int]:
    """The rows that are left when those with the most untested pairs are taken out, one after another.

    Every pair of the rows that are left was tested.
    """
    left = list(range(n))
    while True:
        counts = {row: sum(row in pair for pair in untested if set(pair) <= set(left)) for row in left}
        if not any(counts.values()):
            return left
        left.remove(max(reversed(left), key=lambda row: counts[row]))


def pareto_front(cost: Sequence[float], accuracy: Sequence[float]) -> list[int]:
    """Indices, by cost, of the points that no other one beats: at most their cost and no less accuracy, one better."""
    points = list(zip(cost, accuracy, strict=True))
    front: list[int] = []
    for i in sorted(range(len(points)), key=lambda i: (cost[i], -accuracy[i])):
        if not front or accuracy[i] > accuracy[front[-1]] or points[i] == points[front[-1]]:
            front.append(i)
    return front
