"""From runs to rows, and the notes on them."""

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st

from cnnzoo.compare import main
from cnnzoo.results.load import load_results
from cnnzoo.results.settings import is_absent
from cnnzoo.results.table import build_table, name_configurations
from tests.factories import (
    PUBLISHED,
    config,
    result,
    write_completed,
    write_run,
    write_two_networks,
    write_unfinished,
)

Rows = Callable[[], dict[str, Any]]


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    return write_two_networks(tmp_path / "outputs")


def rows_of(folder: Path) -> "dict[str, pd.Series[Any]]":
    """The rows by label."""
    return {row["label"]: row for _, row in build_table(load_results(folder)).rows.iterrows()}


def notes_of(folder: Path) -> list[str]:
    return build_table(load_results(folder)).notes


def test_one_row_for_all_seeds(runs: Path) -> None:
    row = rows_of(runs)["resnet"]
    low, high = scipy.stats.t.interval(0.95, 2, 0.91, 0.002 / math.sqrt(3))
    expected = {
        "model": "resnet",
        "dataset": "cifar10",
        "n": 3,
        "seeds": [1, 2, 3],
        "folders": [f"{runs}/resnet-0.1/seed{seed}" for seed in (1, 2, 3)],
        "differs": {},
        "params": 272378,
        "epochs": 180,
        "device": "cpu",
        "best_seed": 2,
        "best_test_accuracy": 0.912,
        "worst_seed": 3,
        "worst_test_accuracy": 0.908,
        "peak_memory_bytes_max": 10**9,
    }
    assert {key: row[key] for key in expected} == expected
    assert row["test_accuracy_mean"] == pytest.approx(0.91)
    assert row["test_accuracy_std"] == pytest.approx(0.002)
    assert row["val_accuracy_mean"] == pytest.approx(0.92)
    assert (row["test_accuracy_ci95_low"], row["test_accuracy_ci95_high"]) == pytest.approx((low, high))


def test_published_metrics(runs: Path) -> None:
    found = rows_of(runs)
    assert found["resnet"]["published_test_accuracy"] == 0.9106
    assert found["resnet"]["test_accuracy_difference"] == pytest.approx(-0.0006)
    assert is_absent(found["densenet"]["published_test_accuracy"])
    assert is_absent(found["densenet"]["test_accuracy_difference"])


def test_one_run_has_no_spread(tmp_path: Path) -> None:
    write_completed(tmp_path, "resnet", 0, 0.9)
    row = rows_of(tmp_path)["resnet"]
    assert (row["n"], row["seeds"]) == (1, [0])
    for key in ("test_accuracy_std", "test_accuracy_ci95_low", "best_seed", "worst_test_accuracy"):
        assert is_absent(row[key]), key


def test_two_seeds_have_no_interval(tmp_path: Path) -> None:
    for seed, test in ((1, 0.99), (2, 0.97)):
        write_completed(tmp_path, "resnet", seed, test)
    row = rows_of(tmp_path)["resnet"]
    assert row["test_accuracy_std"] == pytest.approx(0.02 / math.sqrt(2))
    assert is_absent(row["test_accuracy_ci95_low"])
    assert is_absent(row["test_accuracy_ci95_high"])
    # t with one degree of freedom is Cauchy: tan(π/2 · 0.95) = 12.7, over √2
    assert round(math.tan(math.pi / 2 * 0.95) / math.sqrt(2)) == 9
    (note,) = [note for note in notes_of(tmp_path) if "95% interval" in note]
    assert "two seeds give no useful 95% interval (it would be the mean ± 9 standard deviations)" in note
    assert note.endswith(": resnet")


def test_an_interval_ends_at_a_hundred_percent(tmp_path: Path) -> None:
    for seed, test in ((1, 0.999), (2, 0.95), (3, 0.99)):
        write_completed(tmp_path, "resnet", seed, test)
    row = rows_of(tmp_path)["resnet"]
    assert row["test_accuracy_ci95_high"] == 1
    assert row["test_accuracy_ci95_low"] == pytest.approx(0.97967 - 4.302653 * 0.0260832 / math.sqrt(3), abs=1e-4)


def test_rows_are_named_by_what_differs(runs: Path) -> None:
    cosine = config("resnet", seed=1)
    cosine["scheduler"] = {"_target_": "torch.optim.lr_scheduler.CosineAnnealingLR", "interval": "epoch", "T_max": 180}
    write_completed(runs / "cosine", "resnet", 1, 0.9, config=cosine)
    write_completed(runs, "resnet", 1, 0.9, lr=0.01)
    found = rows_of(runs)
    assert found.keys() == {
        "resnet (lr=0.1, scheduler=MultiStepLR)",
        "resnet (lr=0.01, scheduler=MultiStepLR)",
        "resnet (lr=0.1, scheduler=CosineAnnealingLR)",
        "densenet",
    }
    assert found["resnet (lr=0.01, scheduler=MultiStepLR)"]["differs"]["optimizer.lr"] == 0.01


def test_a_setting_that_is_null_or_absent_tells_rows_apart(tmp_path: Path) -> None:
    for seed, clip in enumerate((None, 0.5)):
        settings = config("resnet", seed=seed)
        settings["trainer"]["gradient_clip_val"] = clip
        write_completed(tmp_path / str(clip), "resnet", seed, 0.9, config=settings)
    newer = config("resnet") | {"warmup": {"epochs": 5.0}}
    write_completed(tmp_path / "newer", "resnet", 1, 0.9, config=newer)
    assert rows_of(tmp_path).keys() == {
        "resnet (gradient_clip_val=null)",
        "resnet (gradient_clip_val=0.5)",
        "resnet (gradient_clip_val=null, epochs=5)",
    }


def test_numbers_in_names_are_short_unless_they_look_alike(tmp_path: Path) -> None:
    for model, rates in (("resnet", (0.0123456789, 0.1)), ("densenet", (0.0123456789, 0.0123456))):
        for lr in rates:
            write_completed(tmp_path, model, 1, 0.9, lr=lr)
    assert rows_of(tmp_path).keys() == {
        "resnet (lr=0.01235)",
        "resnet (lr=0.1)",
        "densenet (lr=0.0123456789)",
        "densenet (lr=0.0123456)",
    }


def test_equal_numbers_are_one_configuration(tmp_path: Path) -> None:
    write_completed(tmp_path / "a", "resnet", 1, 0.9, lr=1)
    write_completed(tmp_path / "b", "resnet", 2, 0.9, lr=1.0)
    assert rows_of(tmp_path)["resnet"]["n"] == 2


def test_names_of_configurations_without_a_result(runs: Path) -> None:
    write_unfinished(runs / "open", config("resnet", lr=0.5))
    frame = load_results(runs)
    names = name_configurations(frame)
    (open_run,) = frame[frame["status"] == "unfinished"].itertuples()
    assert names.at[("cifar10", "resnet", open_run.settings), "label"] == "resnet (lr=0.5)"
    assert "resnet (lr=0.1)" in set(names["label"])


def test_a_copied_run_counts_once_and_is_named(runs: Path) -> None:
    settings = config("resnet", seed=1)
    copy = write_run(runs / "copy", result(settings, test_accuracy=0.5, finished="2020-01-01T00:00:00+00:00"))
    assert rows_of(runs)["resnet"]["test_accuracy_mean"] == pytest.approx(0.91), "the later one counts"
    assert f"the same configuration and seed more than once, not counted: {copy}" in notes_of(runs)


def test_runs_whose_configuration_is_lost(tmp_path: Path) -> None:
    for seed in (1, 2):
        folder = write_completed(tmp_path, "resnet", seed, 0.9)
        outcome = json.loads((folder / "result.json").read_text())
        del outcome["config"]
        (folder / "result.json").write_text(json.dumps(outcome))
        (folder / "config.yaml").unlink()
    write_completed(tmp_path, "resnet", 3, 0.9)
    assert {label: row["n"] for label, row in rows_of(tmp_path).items()} == {
        "resnet": 1,
        "resnet (configuration unknown)": 2,
    }


# Notes.


def test_settings_that_differ_between_networks_are_noted(runs: Path) -> None:
    write_completed(runs, "googlenet", 1, 0.9, lr=0.5)
    note = "networks on cifar10 also differ in: optimizer.lr (compare --columns shows them)"
    assert note in notes_of(runs)


def test_other_parameters_and_epochs_than_published_are_noted(runs: Path) -> None:
    write_completed(runs, "resnet", 1, 0.9, lr=0.2, params=11, epochs=90, published=PUBLISHED | {"epochs": 180})
    notes = notes_of(runs)
    assert "resnet (lr=0.2): 11 parameters, published are 272,378" in notes
    assert "resnet (lr=0.2): trained for 90 epochs, the published figures are after 180" in notes
    assert not any(note.startswith("resnet (lr=0.1)") for note in notes)


def test_mixtures_within_a_row_are_noted(tmp_path: Path) -> None:
    first: dict[str, Any] = {
        "device": "cpu",
        "versions": {"torch": "2.11", "numpy": "2"},
        "epochs": 180,
        "git_commit": "a" * 40,
    }
    other: dict[str, Any] = {
        "device": "H100",
        "versions": {"torch": "2.14", "numpy": "2"},
        "epochs": 90,
        "git_commit": None,
    }
    write_completed(tmp_path, "resnet", 1, 0.90, **first)
    write_completed(tmp_path, "resnet", 2, 0.91, precision="bf16-mixed", published=PUBLISHED, **other)
    notes = notes_of(tmp_path)
    for note in (
        "resnet: mixed devices: cpu (n=1), H100 (n=1)",
        "resnet: mixed precisions: 32-true (n=1), bf16-mixed (n=1)",
        "resnet: mixed numbers of epochs: 180 (n=1), 90 (n=1)",
        "resnet: mixed code versions: aaaaaaaaaa (n=1), unknown (n=1)",
        "resnet: mixed published accuracies: unknown (n=1), 0.9106 (n=1)",
        "resnet: mixed versions: torch 2.11 / 2.14",
    ):
        assert note in notes
    assert rows_of(tmp_path)["resnet"]["device"] == "H100 / cpu"


def test_a_table_without_oddities_has_no_notes(runs: Path) -> None:
    assert notes_of(runs) == []


def test_every_run_without_metrics_is_counted_and_named(runs: Path) -> None:
    write_run(runs / "a", result(config("vgg"), status="failed", error="RuntimeError: CUDA out of memory\nsecond"))
    write_unfinished(runs / "b", config("vgg"))
    write_run(runs / "c", result(config("vgg"), status="pruned"))
    for name in "de":
        (runs / name).mkdir()
        (runs / name / "result.json").touch()
    assert notes_of(runs) == [
        f"1 run failed, not in the table: {runs}/a (RuntimeError: CUDA out of memory)",
        f"1 run begun and not finished, not in the table; the same command goes on with them: {runs}/b",
        "1 run stopped early by a search, not in the table; the same settings by themselves go on to the end:"
        f" {runs}/c",
        f"2 runs not readable, not in the table: {runs}/d (result.json is cut off or not JSON);"
        f" {runs}/e (result.json is cut off or not JSON)",
    ]


def test_long_lists_are_cut(tmp_path: Path) -> None:
    for i in range(25):
        write_run(tmp_path / f"{i:02}", result(config(seed=i), status="failed", error="E"))
    (note,) = notes_of(tmp_path)
    assert note.startswith("25 runs failed")
    assert note.endswith("/19 (E); and 5 more (--status lists all)")


# --- any neighbour

HOSTILE = ("\x1b[31m", "=HYPERLINK(1)", "\\input{x}", "<script>", "[/]", "\ud800", "../x")
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.sampled_from(HOSTILE),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=4,
)
RESULT = result(config())
KEYS = st.lists(st.sampled_from(sorted(RESULT)), min_size=1, max_size=3, unique=True)


@settings(max_examples=25)
@given(values=KEYS.flatmap(lambda keys: st.fixed_dictionaries(dict.fromkeys(keys, VALUES))))
def test_any_result_leaves_its_neighbours_a_row(
    values: dict[str, Any], tmp_path_factory: pytest.TempPathFactory
) -> None:
    """In every format, without what a terminal would obey and with numbers that are JSON's."""
    folder = tmp_path_factory.mktemp("outputs")
    write_run(folder / "runs" / "good", result(config("densenet", seed=2)))
    (write_run(folder / "runs" / "bad", RESULT) / "result.json").write_text(json.dumps(RESULT | values))
    for style in ("md", "csv", "json", "tex", "html"):
        out = folder / f"table.{style}"
        assert main([str(folder / "runs"), "--out", str(out)]) == 0
        text = out.read_text()
        assert "densenet" in text
        assert "\x1b" not in text
        if style == "json":
            json.loads(text, parse_constant=pytest.fail)


def test_accuracy_on_corrupted_images(runs: Path) -> None:
    assert not [note for note in notes_of(runs) if "corruption" in note]
    for seed, accuracy in ((1, 0.7), (2, 0.8)):
        folder = runs / "resnet-0.1" / f"seed{seed}"
        config_hash = json.loads((folder / "result.json").read_text())["config_hash"]
        content = {"config_hash": config_hash, "corruption_accuracy": accuracy}
        (folder / "corruptions.json").write_text(json.dumps(content))
    rows = rows_of(runs)
    assert rows["resnet"]["corruption_accuracy_mean"] == pytest.approx(0.75)
    assert is_absent(rows["densenet"]["corruption_accuracy_mean"])
    assert [note for note in notes_of(runs) if "corruption" in note] == [
        "resnet: corruption accuracy of 2 of 3 runs (evaluate computes it)"
    ]


def test_runs_of_different_code_are_noted(tmp_path: Path) -> None:
    for seed, digest in ((1, "aa"), (2, "aa"), (3, "bb")):
        write_completed(tmp_path, "net", seed, 0.9, source_digests={"my.nets": digest, "my.data": "cc"})
    (note,) = [note for note in build_table(load_results(tmp_path)).notes if "different code" in note]
    assert note == "net: its runs were made with different code of my.nets (2 + 1 runs): rerun=true trains them again"
