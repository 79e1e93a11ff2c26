"""Which rows differ by more than chance: every pair of rows on the same data set, tested twice.

The paired t-test over common seeds speaks of training again with other seeds, on this test set. McNemar's test on the
saved predictions speaks of other test images, for these trained networks; it needs one run only. Each leaves the
other's source of chance out, so a difference to rely on passes both. Each test's p-values are adjusted by Holm's
method over all pairs of a data set.
"""

import hashlib
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence

import numpy as np

from cnnzoo.errors import UserError
from cnnzoo.results.files import Unreadable, read_predictions
from cnnzoo.results.render import Grid
from cnnzoo.results.statistics import compact_letters, holm, mcnemar, paired_t, pairs
from cnnzoo.results.table import Row, listed

LEVEL = 0.05
MOST_ROWS = 40  # 780 pairs: beyond, nobody reads the matrix and Holm leaves nothing standing
EXPLANATION = (
    "t-test: paired over common seeds; McNemar: on the test images, all common seeds together, the image as unit;"
    f" both with Holm's correction over all pairs; rows that share a letter do not differ at the {LEVEL:.0%} level"
)
Correct = Mapping[int | None, np.ndarray]  # seed → [images] bool, whether the run classifies the image correctly


def compare_pairs(rows: Sequence[Row]) -> tuple[list[Grid], list[str]]:
    """Tests all pairs of rows and writes letters and p-values into their values.

    Returns:
        A matrix of adjusted p-values for each data set, and notes.

    Raises:
        UserError: a data set has too many rows for pairwise tests, or no two rows.
    """
    grids, notes = [], [EXPLANATION]
    for row in rows:
        row.values |= {"letters_t": None, "letters_mcnemar": None, "tests": []}
    for dataset in dict.fromkeys(row.values["dataset"] for row in rows):
        family = [row for row in rows if row.values["dataset"] == dataset]
        if len(family) > MOST_ROWS:
            count = len(pairs(len(family)))
            raise UserError(
                f"--tests: {len(family)} rows on {dataset} make {count:,} pairs; at most {MOST_ROWS} rows are tested."
                " Choose fewer with KEY=VALUE filters."
            )
        if len(family) > 1:
            grid, found = _test_family(dataset, family)
            grids.append(grid)
            notes += found
    if not grids:
        raise UserError("--tests: there are no two rows on the same data set to compare.")
    return grids, notes


def _test_family(dataset: str, rows: Sequence[Row]) -> tuple[Grid, list[str]]:
    predictions, notes = _load_predictions(rows)
    tested = pairs(len(rows))
    p_t = holm([_t_test(rows[i], rows[j]) for i, j in tested])
    p_mcnemar = holm([_mcnemar(predictions[i], predictions[j]) for i, j in tested])
    for name, p_values in (("letters_t", p_t), ("letters_mcnemar", p_mcnemar)):
        if all(p is None for p in p_values):
            continue  # a letter would claim that something was tested
        different = {pair for pair, p in zip(tested, p_values, strict=True) if p is not None and p < LEVEL}
        for row, letters in zip(rows, compact_letters(len(rows), different), strict=True):
            row.values[name] = letters
    body = [[f"({i + 1}) {row.values['label']}"] + ["–"] * len(rows) for i, row in enumerate(rows)]
    for (i, j), t, m in zip(tested, p_t, p_mcnemar, strict=True):
        body[i][j + 1], body[j][i + 1] = _p_text(t), _p_text(m)
        for row, other, sign in ((rows[i], rows[j], 1), (rows[j], rows[i], -1)):
            row.values["tests"].append(
                {
                    "against": other.values["label"],
                    "test_accuracy_difference": sign * _difference(rows[i], rows[j]),
                    "t_p_holm": t,
                    "mcnemar_p_holm": m,
                }
            )
    title = f"Adjusted p-values on {dataset}: above the diagonal paired t-test, below McNemar"
    header = ["network", *(f"({i + 1})" for i in range(len(rows)))]
    if any(p is None for p in p_t):
        notes.append(
            f"{dataset}: n/a in the t-test: fewer than two common seeds, or the same difference at each of them"
        )
    if any(p is None for p in p_mcnemar):
        notes.append(f"{dataset}: n/a in McNemar's test: no common seed with predictions.npz on the same test images")
    return Grid(title, header, body, [True] + [False] * len(rows)), notes


def _difference(a: Row, b: Row) -> float:
    return float(a.values["test_accuracy_mean"] or 0) - float(b.values["test_accuracy_mean"] or 0)


def _p_text(p: float | None) -> str:
    return "n/a" if p is None else "<0.001" if p < 0.001 else f"{p:.3f}"


def _by_seed(row: Row) -> dict[int | None, float]:
    return {run.seed: run.test_accuracy for run in row.runs if run.test_accuracy is not None}


def _t_test(a: Row, b: Row) -> float | None:
    first, second = _by_seed(a), _by_seed(b)
    common = [seed for seed in first if seed in second]
    return paired_t([first[seed] for seed in common], [second[seed] for seed in common])


def _mcnemar(a: Correct, b: Correct) -> float | None:
    common = [seed for seed in a if seed in b]
    if not common:
        return None
    return mcnemar(sum(a[seed].astype(int) - b[seed].astype(int) for seed in common))


def _load_predictions(rows: Sequence[Row]) -> tuple[list[Correct], list[str]]:
    """What each row's runs got right, on the test labels that most runs share, and notes on those left out."""
    labels: dict[str, bytes] = {}  # by folder
    correct: dict[str, np.ndarray] = {}
    problems: dict[str, list[str]] = defaultdict(list)
    for run in (run for row in rows for run in row.runs):
        try:
            truth, correct[run.folder] = read_predictions(run.folder, run.test_accuracy)
            labels[run.folder] = hashlib.sha256(truth.astype("<i8").tobytes()).digest()
        except Unreadable as error:
            problems[str(error)].append(run.folder)
    most_common = Counter(labels.values()).most_common(1)
    odd = [folder for folder, digest in labels.items() if digest != most_common[0][0]]
    notes = [f"left out of McNemar's test, {reason}: {listed(folders)}" for reason, folders in problems.items()]
    if odd:
        notes.append(f"left out of McNemar's test, other test images than the rest: {listed(odd)}")
    usable = correct.keys() - set(odd)
    return [{run.seed: correct[run.folder] for run in row.runs if run.folder in usable} for row in rows], notes
