"""Which rows differ by more than chance: every pair of rows on the same data set, tested twice. No torch.

The paired t-test over common seeds accounts for the variance of training again with other seeds, on this test set.
McNemar's test on the saved predictions accounts for the variance of other test images, for these trained networks; it
needs one run only. Each leaves the other's source of chance out, so a difference to rely on passes both. Each test's
p-values are adjusted by Holm's method over all pairs of a data set.
"""

import hashlib
import math
from collections import Counter, defaultdict
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cnnzoo.errors import UserError
from cnnzoo.results.render import Grid, percent
from cnnzoo.results.run_folder import RunFileError, read_predictions
from cnnzoo.results.stats import (
    PairedTest,
    all_tested,
    compact_letters,
    critical_effect_size,
    detectable_effect_size,
    holm,
    mcnemar,
    paired_t,
)
from cnnzoo.results.table import listed

LEVEL = 0.05
POWER = 0.8
MOST_ROWS = 40  # 780 pairs: beyond, nobody reads the matrix and Holm's correction leaves nothing significant
NOT_TESTED = "n/a"
EXPLANATION = (
    "t-test: paired over common seeds; McNemar: on the test images, all common seeds together, the image as unit; both"
    f" with Holm's correction over all pairs. Rows without a common letter differ at the {LEVEL:.0%} level. Rows that"
    " share a letter were not shown to differ: that is no evidence that they are equal"
)
_TESTS = {  # by column of adjusted p-values: name, and why a pair may not be tested
    "t_p_holm": ("t-test", "fewer than two common seeds, or the same difference at each of them"),
    "mcnemar_p_holm": ("McNemar's test", "no common seed with predictions.npz on the same test images"),
}


def compare_pairs(rows: pd.DataFrame, runs: pd.DataFrame) -> tuple[pd.DataFrame, list[Grid], list[str]]:
    """Test all pairs of rows of a `Table`; raises UserError if there are too many, or none.

    Returns:
        Columns for the rows: `letters_t` and `letters_mcnemar` (None if no pair was tested, `n/a` for a row with pairs
        that could not be tested) and `tests`, a list with one dict for each other row of the data set: `against` (its
        label), `test_accuracy_difference`, `t_p_holm`, `mcnemar_p_holm`, `effect_size` (Cohen's d_z: the mean
        difference in standard deviations of the paired differences) and `smallest_detectable_difference` (the true
        difference that the t-test would have found with a probability of 80 %; accuracies 0..1).
        A matrix of adjusted p-values for each data set, and notes.
    """
    for dataset, n in rows["dataset"].value_counts(sort=False).items():
        if n > MOST_ROWS:
            raise UserError(
                f"--tests: {n} rows on {dataset} make {math.comb(n, 2):,} pairs; at most {MOST_ROWS} rows are tested."
                " Choose fewer with KEY=VALUE filters."
            )
    families = [family for _, family in rows.groupby("dataset", sort=False) if len(family) > 1]
    if not families:
        raise UserError("--tests: there are no two rows on the same data set to compare.")
    columns, grids, notes = zip(*(_test_family(family, runs) for family in families), strict=True)
    whole = pd.concat(columns).reindex(rows.index)
    whole["tests"] = [tests if isinstance(tests, list) else [] for tests in whole["tests"]]
    return whole, list(grids), [EXPLANATION, *(note for found in notes for note in found)]


def _test_family(rows: pd.DataFrame, runs: pd.DataFrame) -> tuple[pd.DataFrame, Grid, list[str]]:
    """Test the rows of one data set; the results are those of `compare_pairs`."""
    dataset, labels, means = rows["dataset"].iloc[0], rows["label"].tolist(), rows["test_accuracy_mean"].tolist()
    runs = runs.set_index("row").loc[rows.index].rename_axis("row").reset_index().dropna(subset="seed")
    correct, notes = _read_correct(runs)
    pairs = _test_pairs(rows, runs, correct)
    both = pd.concat([pairs, pairs.assign(effect_size=-pairs["effect_size"]).swaplevel()]).sort_index()
    both["against"] = [labels[j] for _, j in both.index]
    both["test_accuracy_difference"] = [means[i] - means[j] for i, j in both.index]
    both = both[["against", "test_accuracy_difference", *_TESTS, "effect_size", "smallest_detectable_difference"]]
    both = both.astype(object).where(both.notna(), None)
    columns = {
        "tests": [both.loc[[row]].to_dict("records") for row in range(len(rows))],
        "letters_t": _letters(len(rows), pairs["t_p_holm"]),
        "letters_mcnemar": _letters(len(rows), pairs["mcnemar_p_holm"]),
    }
    for column, (test, reason) in _TESTS.items():
        untested = [f"{labels[i]} and {labels[j]}" for i, j in pairs.index[pairs[column].isna()]]
        if len(untested) == len(pairs):
            notes.append(f"{dataset}, {test}: no pair could be tested, {reason}")
        elif untested:
            notes.append(f"{dataset}, {test}: not tested (n/a), {reason}: {listed(untested)}")
    notes += _power_notes(dataset, pairs)
    return pd.DataFrame(columns, index=rows.index, dtype=object), _matrix(dataset, labels, pairs), notes


def _test_pairs(rows: pd.DataFrame, runs: pd.DataFrame, correct: dict[str, NDArray[Any]]) -> pd.DataFrame:
    """The tests of each pair of rows; the index is their positions (i, j), i < j."""
    by_seed = runs.assign(folder=runs["folder"].where(runs["folder"].isin(correct))).set_index(["seed", "row"])
    accuracies = by_seed["test_accuracy"].unstack().reindex(columns=rows.index)
    folders = by_seed["folder"].unstack().reindex(columns=rows.index)
    positions = list(combinations(range(len(rows)), 2))
    t_tests, p_mcnemar = [], []
    for pair in map(list, positions):
        t_tests.append(paired_t(*accuracies.iloc[:, pair].dropna().to_numpy().T) or [None] * 4)
        common = folders.iloc[:, pair].dropna().itertuples(index=False)
        differences = [correct[a].astype(int) - correct[b] for a, b in common]
        p_mcnemar.append(mcnemar(np.sum(differences, axis=0)) if differences else None)
    index = pd.MultiIndex.from_tuples(positions)
    pairs = pd.DataFrame(t_tests, index=index, columns=PairedTest._fields, dtype=float)
    level = _level(pairs)
    detectable = pairs["n"].map(lambda n: detectable_effect_size(n, level, POWER), na_action="ignore")
    pairs["smallest_detectable_difference"] = pairs["std"] * detectable
    pairs["t_p_holm"] = holm(pairs["p"])
    pairs["mcnemar_p_holm"] = holm(pd.Series(p_mcnemar, index=index, dtype=float))
    return pairs


def _level(pairs: pd.DataFrame) -> float:
    """The level at which Holm's method tests the smallest p-value, and all of them if no difference is significant."""
    return LEVEL / max(1, pairs["p"].count())


def _letters(n: int, p_values: "pd.Series[float]") -> list[str | None]:
    """Letters for the rows whose pairs were all tested: a pair that was not must not look as if it did not differ."""
    kept = all_tested(n, set(p_values.index[p_values.isna()]))
    if len(kept) < 2:
        return [None] * n
    place = {row: number for number, row in enumerate(kept)}
    different = [(i, j) for i, j in p_values.index[p_values < LEVEL] if i in place and j in place]
    letters = compact_letters(len(kept), {(place[i], place[j]) for i, j in different})
    return [letters[place[row]] if row in place else NOT_TESTED for row in range(n)]


def _matrix(dataset: str, labels: list[str], pairs: pd.DataFrame) -> Grid:
    body = [[f"({i}) {label}"] + ["–"] * len(labels) for i, label in enumerate(labels, 1)]
    for (i, j), t_p, mcnemar_p in pairs[[*_TESTS]].itertuples(name=None):
        body[i][j + 1], body[j][i + 1] = _p_text(t_p), _p_text(mcnemar_p)
    title = f"Adjusted p-values on {dataset}: above the diagonal paired t-test, below McNemar"
    header = ["network", *(f"({i})" for i in range(1, len(labels) + 1))]
    return Grid(title, header, body, [True] + [False] * len(labels))


def _p_text(p: float) -> str:
    return NOT_TESTED if np.isnan(p) else "<0.001" if p < 0.001 else f"{p:.3f}"


def _power_notes(dataset: str, pairs: pd.DataFrame) -> list[str]:
    """What the t-tests could have shown, for each number of common seeds."""
    count, level, notes = pairs["p"].count(), _level(pairs), []
    span = pairs.groupby("n")["smallest_detectable_difference"].agg(["min", "max"])
    for n, low, high in span.reset_index().astype({"n": int}).itertuples(index=False):
        here = percent(low) if percent(low) == percent(high) else f"{percent(low)} to {percent(high)}"
        notes.append(
            f"{dataset}: with {n} common seeds and {count} {'pair' if count == 1 else 'pairs'} tested, the t-test calls"
            f" a difference significant from {critical_effect_size(n, level):.1f} standard deviations (of the"
            " differences between runs of the same seed) on, and finds a true difference with a probability of"
            f" {POWER:.0%} only if it is {detectable_effect_size(n, level, POWER):.1f} of them, here {here} percentage"
            " points; smaller ones, however real, mostly end in equal letters"
        )
    return notes


def _read_correct(runs: pd.DataFrame) -> tuple[dict[str, NDArray[Any]], list[str]]:
    """Which images each run's folder got right, `[images] bool`, on the test labels that most runs share; and notes."""
    correct: dict[str, NDArray[Any]] = {}
    labels: dict[str, bytes] = {}
    left_out: dict[str, list[str]] = defaultdict(list)
    for folder, accuracy in zip(runs["folder"], runs["test_accuracy"], strict=True):
        try:
            logits, truth = read_predictions(folder, None if np.isnan(accuracy) else accuracy)
        except RunFileError as error:
            left_out[str(error)].append(folder)
        else:
            correct[folder] = logits.argmax(axis=1) == truth
            labels[folder] = hashlib.sha256(truth.astype("<i8").tobytes()).digest()
    for usual, _ in Counter(labels.values()).most_common(1):
        for folder in [folder for folder, digest in labels.items() if digest != usual]:
            left_out["other test images than the rest"].append(folder)
            del correct[folder]
    return correct, [f"left out of McNemar's test, {reason}: {listed(where)}" for reason, where in left_out.items()]
