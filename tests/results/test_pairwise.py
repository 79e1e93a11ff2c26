"""Pairs of rows tested against each other."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import scipy.stats
from numpy.typing import NDArray

from cnnzoo.errors import UserError
from cnnzoo.results.columns import order
from cnnzoo.results.load import load_results
from cnnzoo.results.pairwise import compare_pairs
from cnnzoo.results.render import Grid
from cnnzoo.results.stats import detectable_effect_size, holm
from cnnzoo.results.table import build_table
from tests.factories import config, write_completed, write_predictions


def compare(folder: Path) -> tuple["dict[str, pd.Series[Any]]", list[Grid], list[str]]:
    """The new columns by label, in the table's order; matrices and notes."""
    table = build_table(load_results(folder))
    rows = order(table.rows, table.runs)
    columns, grids, notes = compare_pairs(rows, table.runs)
    return {label: row for label, (_, row) in zip(rows["label"], columns.iterrows(), strict=True)}, grids, notes


def against(row: "pd.Series[Any]", other: str) -> dict[str, Any]:
    (found,) = [test for test in row["tests"] if test["against"] == other]
    return dict(found)


@pytest.fixture
def predicted(tmp_path: Path) -> Path:
    """Three networks with predictions on 500 images; seed 3 of the VGG was tested on other images."""
    draw = np.random.default_rng(0)
    labels = draw.integers(0, 10, 500)
    for model, accuracy in (("resnet", 0.9), ("densenet", 0.89), ("vgg", 0.7)):
        for seed in (1, 2, 3):
            correct = draw.random(500) < accuracy
            folder = write_completed(tmp_path, model, seed, float(correct.mean()))
            write_predictions(folder, correct, labels[::-1] if (model, seed) == ("vgg", 3) else labels)
    return tmp_path


def correct_of(root: Path, model: str, seed: int) -> NDArray[Any]:
    with np.load(root / f"{model}-0.1" / f"seed{seed}" / "predictions.npz") as arrays:
        return np.asarray(arrays["logits"].argmax(1) == arrays["labels"])


def test_t_tests_are_over_common_seeds(predicted: Path) -> None:
    found, _, _ = compare(predicted)
    accuracy = {model: [correct_of(predicted, model, seed).mean() for seed in (1, 2, 3)] for model in found}
    pairs = [("resnet", "densenet"), ("resnet", "vgg"), ("densenet", "vgg")]
    p_t = holm(pd.Series([scipy.stats.ttest_rel(accuracy[a], accuracy[b]).pvalue for a, b in pairs]))
    for (a, b), expected in zip(pairs, p_t, strict=True):
        differences = np.subtract(accuracy[a], accuracy[b])
        std = differences.std(ddof=1)
        test = against(found[a], b)
        assert test["t_p_holm"] == pytest.approx(expected, rel=1e-6)
        assert test["test_accuracy_difference"] == pytest.approx(differences.mean())
        assert test["effect_size"] == pytest.approx(differences.mean() / std)
        smallest = detectable_effect_size(3, 0.05 / 3) * std
        assert test["smallest_detectable_difference"] == pytest.approx(smallest)
        back = against(found[b], a)
        assert back["test_accuracy_difference"] == pytest.approx(-differences.mean())
        assert back["effect_size"] == pytest.approx(-test["effect_size"])
        assert back["smallest_detectable_difference"] == pytest.approx(smallest)


def test_mcnemar_is_over_the_images_of_common_seeds(predicted: Path) -> None:
    found, grids, notes = compare(predicted)
    difference = sum(correct_of(predicted, "resnet", s).astype(int) - correct_of(predicted, "vgg", s) for s in (1, 2))
    chi2 = difference.sum() ** 2 / (difference**2).sum()
    test = against(found["resnet"], "vgg")
    assert test["mcnemar_p_holm"] == pytest.approx(3 * scipy.stats.chi2.sf(chi2, 1), rel=1e-6), "smallest of three"
    letters = {model: row["letters_mcnemar"] for model, row in found.items()}
    assert letters == {"resnet": "a", "densenet": "a", "vgg": "b"}
    assert f"left out of McNemar's test, other test images than the rest: {predicted}/vgg-0.1/seed3" in notes
    (grid,) = grids
    assert grid.title == "Adjusted p-values on cifar10: above the diagonal paired t-test, below McNemar"
    assert grid.body[2][1] == "<0.001"


def test_what_the_tests_could_have_shown_is_noted(predicted: Path) -> None:
    found, _, notes = compare(predicted)
    assert (
        "rows that share a letter were not shown to differ: that is no evidence that they are equal" in notes[0].lower()
    )
    smallest = [test["smallest_detectable_difference"] for row in found.values() for test in row["tests"]]
    (note,) = [note for note in notes if "standard deviations" in note]
    # t of two degrees of freedom at 0.05/3 is 7.65, over √3: 4.4
    assert "cifar10: with 3 common seeds and 3 pairs tested, the t-test calls a difference significant from 4.4" in note
    assert f"here {100 * min(smallest):.2f} to {100 * max(smallest):.2f} percentage points" in note


def test_a_pair_that_could_not_be_tested_shares_no_letter(tmp_path: Path) -> None:
    """A network with one seed at 10 % next to ones at 98 %."""
    for model, accuracies in {"resnet": (0.98, 0.981, 0.979), "densenet": (0.97, 0.985, 0.973), "vgg": (0.1,)}.items():
        for seed, accuracy in enumerate(accuracies):
            write_completed(tmp_path, model, seed, accuracy)
    found, grids, notes = compare(tmp_path)
    assert {model: row["letters_t"] for model, row in found.items()} == {"resnet": "a", "densenet": "a", "vgg": "n/a"}
    assert [row["letters_mcnemar"] for row in found.values()] == [None] * 3, "without predictions there are no letters"
    assert grids[0].body[0][3] == "n/a"
    assert against(found["resnet"], "vgg") == {
        "against": "vgg",
        "test_accuracy_difference": pytest.approx(0.88),
        "t_p_holm": None,
        "mcnemar_p_holm": None,
        "effect_size": None,
        "smallest_detectable_difference": None,
    }
    reason = "fewer than two common seeds, or the same difference at each of them"
    assert f"cifar10, t-test: not tested (n/a), {reason}: resnet and vgg; densenet and vgg" in notes
    assert (
        "cifar10, McNemar's test: no pair could be tested, no common seed with predictions.npz on the same test images"
        in notes
    )


def test_seeds_that_are_not_common_are_not_paired(tmp_path: Path) -> None:
    for model, seeds in {"resnet": (1, 2, 3), "densenet": (2, 3, 4)}.items():
        for seed in seeds:
            write_completed(tmp_path, model, seed, {"resnet": 0.9, "densenet": 0.91}[model] + 0.001 * seed**2)
    found, _, notes = compare(tmp_path)
    assert against(found["resnet"], "densenet")["t_p_holm"] is None, "the difference is the same at seeds 2 and 3"
    for seed, accuracy in ((3, 0.95), (4, 0.93)):
        write_completed(tmp_path, "resnet", seed, accuracy)
    found, _, notes = compare(tmp_path)
    expected = scipy.stats.ttest_rel([0.904, 0.95, 0.93], [0.914, 0.919, 0.926]).pvalue
    assert against(found["resnet"], "densenet")["t_p_holm"] == pytest.approx(expected)
    assert any("with 3 common seeds and 1 pair tested" in note for note in notes)


def test_bad_predictions_are_named(predicted: Path) -> None:
    (predicted / "resnet-0.1/seed1/predictions.npz").write_bytes(b"PK\x03\x04 cut off")
    (predicted / "resnet-0.1/seed2/predictions.npz").unlink()
    write_predictions(predicted / "vgg-0.1/seed1", np.ones(500, bool), np.zeros(500, int))
    notes = "\n".join(compare(predicted)[2])
    assert f"predictions.npz is damaged: {predicted}/resnet-0.1/seed1" in notes
    assert f"no predictions.npz: {predicted}/resnet-0.1/seed2" in notes
    assert re.search(r"predictions.npz has 100.00% right, result.json .*: \S*/vgg-0.1/seed1", notes)


def test_data_sets_are_families_of_their_own(predicted: Path) -> None:
    alone, _, _ = compare(predicted)
    for seed in (1, 2, 3):
        write_completed(predicted / "mnist", "resnet", seed, 0.9 + seed / 100, config=_mnist(seed))
    found, grids, _ = compare(predicted)
    assert len(grids) == 1
    assert found["vgg"]["tests"] == alone["vgg"]["tests"]


def _mnist(seed: int) -> dict[str, Any]:
    return config("alexnet", dataset="mnist", seed=seed)


def test_pairs_need_rows(tmp_path: Path) -> None:
    write_completed(tmp_path, "resnet", 1, 0.9)
    with pytest.raises(UserError, match="no two rows on the same data set"):
        compare(tmp_path)
    for k in range(40):
        write_completed(tmp_path, "resnet", 1, 0.9, lr=0.2 + k / 100)
    with pytest.raises(UserError, match="41 rows on cifar10 make 820 pairs; at most 40 rows are tested"):
        compare(tmp_path)
