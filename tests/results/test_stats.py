"""The statistics against scipy's, against enumeration and against integrals worked out another way."""

import itertools
import math

import numpy as np
import pandas as pd
import pytest
import scipy.integrate
import scipy.stats

from cnnzoo.results.stats import (
    all_tested,
    compact_letters,
    critical_effect_size,
    detectable_effect_size,
    holm,
    mcnemar,
    paired_t,
    pareto_front,
    t_interval,
)


def test_t_interval_is_scipys() -> None:
    values = [0.91, 0.912, 0.908, 0.9155]
    expected = scipy.stats.t.interval(0.95, 3, np.mean(values), scipy.stats.sem(values))
    assert t_interval(values) == pytest.approx(expected, rel=1e-12)
    assert t_interval([0.9]) is None


def test_paired_t() -> None:
    a, b = [0.91, 0.912, 0.908, 0.92], [0.90, 0.913, 0.901, 0.905]
    test = paired_t(a, b)
    assert test is not None
    assert test.n == 4
    assert test.p == pytest.approx(scipy.stats.ttest_1samp(np.subtract(a, b), 0).pvalue, rel=1e-10)
    # differences 0.010, −0.001, 0.007, 0.015: mean 0.00775, sum of squared deviations 1.3475e-4
    assert test.std == pytest.approx(math.sqrt(1.3475e-4 / 3))
    assert test.effect_size == pytest.approx(0.00775 / math.sqrt(1.3475e-4 / 3))


def test_paired_t_needs_two_different_differences() -> None:
    assert paired_t([0.91], [0.90]) is None
    assert paired_t([0.91, 0.92], [0.90, 0.91]) is None, "t is infinite: two equal differences prove nothing"


def test_three_seeds_and_six_pairs_need_six_standard_deviations() -> None:
    """With two degrees of freedom, P(T > t) is (1 − t/√(2 + t²))/2."""
    t = critical_effect_size(3, 0.05 / 6) * math.sqrt(3)
    assert (1 - t / math.sqrt(2 + t * t)) / 2 == pytest.approx(0.05 / 6 / 2, rel=1e-6)
    assert critical_effect_size(3, 0.05 / 6) == pytest.approx(6.3, abs=0.05)


def power(effect: float, n: int, level: float) -> float:
    """Probability that a t-test of `n` differences finds `effect`, as an integral over their standard deviation."""
    critical = -scipy.stats.t.ppf(level / 2, n - 1)

    def integrand(ratio: float) -> float:  # of the sample standard deviation to the true one
        found = scipy.stats.norm.cdf(effect * math.sqrt(n) - critical * ratio)
        return float(found * scipy.stats.chi.pdf(ratio * math.sqrt(n - 1), n - 1) * math.sqrt(n - 1))

    return float(scipy.integrate.quad(integrand, 0, 8, limit=500)[0])


@pytest.mark.parametrize(("n", "pairs"), [(2, 1), (3, 1), (3, 6), (5, 6), (10, 45), (100, 780)])
def test_detectable_effect_size_has_eighty_percent_power(n: int, pairs: int) -> None:
    effect = detectable_effect_size(n, 0.05 / pairs)
    assert power(effect, n, 0.05 / pairs) == pytest.approx(0.8, abs=1e-4)


def test_detectable_effect_size_is_a_published_one() -> None:
    """G*Power 3.1, matched pairs, two tails: d_z = 0.5, α = 0.05, power 0.8 needs 34 pairs."""
    assert detectable_effect_size(34, 0.05) < 0.5 < detectable_effect_size(33, 0.05)


@pytest.mark.parametrize(("b", "c"), [(9, 1), (5, 5), (0, 6), (40, 21)])
def test_mcnemar_of_single_runs_is_the_exact_binomial(b: int, c: int) -> None:
    differences = np.array([1] * b + [-1] * c + [0] * 50)
    assert mcnemar(differences) == pytest.approx(scipy.stats.binomtest(b, b + c).pvalue, rel=1e-9)


def test_mcnemar_of_many_images_is_chi_squared() -> None:
    differences = np.array([1] * 300 + [-1] * 240 + [0] * 9000)
    # P(χ²₁ > x) is erfc(√(x/2))
    assert mcnemar(differences) == pytest.approx(math.erfc(math.sqrt(60**2 / 540 / 2)), rel=1e-9)
    thrice = 3 * differences  # three identical pairs of runs are no more evidence than one
    assert mcnemar(thrice) == pytest.approx(mcnemar(differences), rel=1e-9)


def test_mcnemar_over_seeds_flips_the_sign_of_whole_images() -> None:
    differences = np.array([3, 2, -1, 1, 1, 3, -2, 1, 0, 0])
    sums = [
        sum(s * abs(d) for s, d in zip(signs, differences[:8], strict=True))
        for signs in itertools.product((-1, 1), repeat=8)
    ]
    expected = sum(abs(s) >= differences.sum() for s in sums) / 2**8
    assert mcnemar(differences) == pytest.approx(expected, rel=1e-12)
    assert mcnemar(np.zeros(10, int)) == 1.0


def test_holm_by_hand() -> None:
    assert holm(pd.Series([0.01, 0.04, 0.03, 0.005])).tolist() == pytest.approx([0.03, 0.06, 0.06, 0.02])
    untested = math.nan
    assert holm(pd.Series([0.02, untested, 0.04])).tolist() == pytest.approx([0.04, untested, 0.04], nan_ok=True)


def test_letters_of_a_chain() -> None:
    assert compact_letters(4, {(0, 2), (0, 3), (1, 3)}) == ["a", "ab", "bc", "c"]
    assert compact_letters(3, set()) == ["a", "a", "a"]


def test_letters_are_shared_exactly_by_rows_that_do_not_differ() -> None:
    edges = list(itertools.combinations(range(5), 2))
    for chosen in range(2 ** len(edges)):
        different = {edge for k, edge in enumerate(edges) if chosen >> k & 1}
        letters = compact_letters(5, different)
        assert all((not set(letters[i]) & set(letters[j])) == ((i, j) in different) for i, j in edges)


def test_all_tested_leaves_rows_with_tests_among_them() -> None:
    assert all_tested(4, set()) == [0, 1, 2, 3]
    assert all_tested(4, {(0, 2), (1, 2), (2, 3)}) == [0, 1, 3], "one row with a single seed takes out itself only"
    assert all_tested(3, {(0, 1), (0, 2), (1, 2)}) == [0]
    edges = list(itertools.combinations(range(5), 2))
    for chosen in range(2 ** len(edges)):
        untested = {edge for k, edge in enumerate(edges) if chosen >> k & 1}
        left = all_tested(5, untested)
        assert not untested & set(itertools.combinations(left, 2))


def test_pareto_front_by_brute_force() -> None:
    draw = np.random.default_rng(0)
    for n in (1, 2, 5, 20):
        for _ in range(50):
            points = [(float(c), float(a)) for c, a in draw.integers(0, 8, (n, 2))]  # with many ties
            cost, accuracy = zip(*points, strict=True)
            front = pareto_front(cost, accuracy)
            beaten = [any(c <= x and a >= y and (c, a) != (x, y) for c, a in points) for x, y in points]
            assert sorted(front) == [i for i, worse in enumerate(beaten) if not worse]
            assert [points[i] for i in front] == sorted(points[i] for i in front)
