"""Which rows differ by more than chance: every pair of rows on the same data set, tested twice. No torch.

The paired t-test over common seeds accounts for the variance of training again with other seeds, on this test set.
McNemar's test on the saved predictions accounts for the variance of other test images, for these trained networks; it
needs one run only. Each leaves the other's source of chance out, so a difference to rely on passes both. Each test's
p-values are adjusted by Holm's method over all pairs of a data set.
"""

import hashlib
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
    """Test all pairs of rows of a `Table`.

    Returns:
        Columns for the rows: `letters_t` and `letters_mcnemar` (missing if no pair was tested, `n/a` for a row with
        pairs that could not be tested) and `tests`, a list with one dict for each other row of the data set: `against`
        (its label), `test_accuracy_difference`, `t_p_holm`, `mcnemar_p_holm`, `effect_size` (Cohen's d_z: the mean
        difference in standard deviations of the paired differences) and `smallest_detectable_difference` (the true
        difference that the t-test would have found with a probability of 80 %; accuracies 0..1).
        A matrix of adjusted p-values for each data set.
        Notes.

    Raises:
        UserError: a data set has too many rows for pairwise tests, or no two rows.
    """
    families = [family for _, family in rows.groupby("dataset", sort=False) if len(family) > 1]
    if not families:
        raise UserError("--tests: there are no two rows on the same data set to compare.")
    for family in families:
        if len(family) > MOST_ROWS:
            raise UserError(
                f"--tests: {len(family)} rows on {family['dataset'].iloc[0]} make"
                f" {len(family) * (len(family) - 1) // 2:,} pairs; at most {MOST_ROWS} rows are tested. Choose fewer"
                " with KEY=VALUE filters."
            )
    columns, grids, notes = zip(*(_test_family(family, runs) for family in families), strict=True)
    whole = pd.concat(columns).reindex(rows.index)
    whole["tests"] = [tests if isinstance(tests, list) else [] for tests in whole["tests"]]
    return whole, list(grids), [EXPLANATION, *sum(notes, [])]


def _test_family(rows: pd.DataFrame, runs: pd.DataFrame) -> tuple[pd.DataFrame, Grid, list[str]]:
    """Test the rows of one data set; the results are those of `compare_pairs`."""
    dataset, labels, means = rows["dataset"].iloc[0], rows["label"].tolist(), rows["test_accuracy_mean"].tolist()
    members = runs.set_index("row").loc[rows.index].rename_axis("row").reset_index().dropna(subset="seed")
    correct, notes = _read_correct(members)
    pairs = _test_pairs(rows, members, correct)
    tests: list[list[dict[str, Any]]] = [[] for _ in labels]
    for (i, j), pair in zip(pairs.index, pairs.to_dict("records"), strict=True):
        found = {key: pair[key] for key in ("t_p_holm", "mcnemar_p_holm", "effect_size", "detectable")}
        for a, b, sign in ((i, j, 1), (j, i, -1)):
            
            tests[a].append()
