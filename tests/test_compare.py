"""Reading runs and comparing them, on folders with invented figures."""

import csv
import fcntl
import io
import itertools
import json
import math
import re
import runpy
import subprocess
import sys
import time
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.stats

from cnnzoo.compare import main
from cnnzoo.results.render import Grid
from cnnzoo.results.statistics import compact_letters, holm, mcnemar, paired_t, t_interval

make_runs = runpy.run_path(str(Path(__file__).parents[1] / "benchmarks" / "make_runs.py"))
config, result, write_run = make_runs["config"], make_runs["result"], make_runs["write_run"]

RESNET = {1: 0.91, 2: 0.912, 3: 0.908}
DENSENET = {1: 0.90, 2: 0.905, 3: 0.901}
PUBLISHED = {"source": "a tutorial", "test_accuracy": 0.9106, "val_accuracy": 0.9184, "params": 272378, "url": "x"}


def write(root: Path, model: str, seed: int, test: float, lr: float = 0.1, **values: Any) -> Path:
    settings = values.pop("config", config(model, seed=seed, lr=lr))
    outcome = result(settings, test_accuracy=test, val_accuracy=test + 0.01, **values)
    return write_run(root / f"{model}-{lr}" / f"seed{seed}", outcome)


def write_predictions(folder: Path, correct: np.ndarray, labels: np.ndarray) -> None:
    logits = np.zeros((len(labels), 10), np.float32)
    logits[np.arange(len(labels)), np.where(correct, labels, (labels + 1) % 10)] = 1
    np.savez_compressed(folder / "predictions.npz", logits=logits, labels=labels)


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    """Two networks, three seeds each; the ResNet has published figures."""
    root = tmp_path / "outputs"
    for seed, test in RESNET.items():
        write(root, "resnet", seed, test, published=PUBLISHED)
    for seed, test in DENSENET.items():
        write(root, "densenet", seed, test)
    return root


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str]):
    """Runs the command; returns its exit code, stdout and stderr."""

    def run(*arguments: Any) -> tuple[int, str, str]:
        code = main([str(argument) for argument in arguments])
        out, err = capsys.readouterr()
        return code, out, err

    return run


@pytest.fixture
def rows(call):
    """The JSON rows by label."""

    def run(*arguments: Any) -> dict[str, dict[str, Any]]:
        code, out, err = call(*arguments, "--format=json")
        assert code == 0, err
        return {row["label"]: row for row in json.loads(out)}

    return run


# statistics


def test_t_interval_is_scipys():
    values = [0.91, 0.912, 0.908, 0.9155]
    expected = scipy.stats.t.interval(0.95, 3, np.mean(values), scipy.stats.sem(values))
    assert t_interval(values) == pytest.approx(expected, rel=1e-12)
    assert t_interval([0.9]) is None


def test_paired_t_is_scipys():
    a, b = [0.91, 0.912, 0.908, 0.92], [0.90, 0.913, 0.901, 0.905]
    assert paired_t(a, b) == pytest.approx(scipy.stats.ttest_rel(a, b).pvalue, rel=1e-10)
    assert paired_t([0.91], [0.90]) is None
    assert paired_t([0.91, 0.92], [0.90, 0.91]) is None, "t is infinite: two equal differences prove nothing"


@pytest.mark.parametrize(("b", "c"), [(9, 1), (5, 5), (0, 6), (40, 21)])
def test_mcnemar_of_single_runs_is_the_exact_binomial(b: int, c: int):
    differences = np.array([1] * b + [-1] * c + [0] * 50)
    assert mcnemar(differences) == pytest.approx(scipy.stats.binomtest(b, b + c).pvalue, rel=1e-9)


def test_mcnemar_of_many_images_is_chi_squared():
    differences = np.array([1] * 300 + [-1] * 240 + [0] * 9000)
    assert mcnemar(differences) == pytest.approx(scipy.stats.chi2.sf(60**2 / 540, 1), rel=1e-9)
    thrice = 3 * differences  # three identical pairs of runs are no more evidence than one
    assert mcnemar(thrice) == pytest.approx(mcnemar(differences), rel=1e-9)


def test_mcnemar_over_seeds_flips_the_sign_of_whole_images():
    differences = np.array([3, 2, -1, 1, 1, 3, -2, 1, 0, 0])
    sums = [
        sum(s * abs(d) for s, d in zip(signs, differences[:8], strict=True))
        for signs in itertools.product((-1, 1), repeat=8)
    ]
    expected = sum(abs(s) >= differences.sum() for s in sums) / 2**8
    assert mcnemar(differences) == pytest.approx(expected, rel=1e-12)
    assert mcnemar(np.zeros(10, int)) == 1.0


def test_holm_by_hand():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.02, None, 0.04]) == [0.04, None, 0.04]


def test_letters_of_a_chain():
    assert compact_letters(4, {(0, 2), (0, 3), (1, 3)}) == ["a", "ab", "bc", "c"]
    assert compact_letters(3, set()) == ["a", "a", "a"]


def test_letters_are_shared_exactly_by_rows_that_do_not_differ():
    edges = list(itertools.combinations(range(5), 2))
    for chosen in range(2 ** len(edges)):
        different = {edge for k, edge in enumerate(edges) if chosen >> k & 1}
        letters = compact_letters(5, different)
        assert all((not set(letters[i]) & set(letters[j])) == ((i, j) in different) for i, j in edges)


# rows


def test_one_row_for_all_seeds(runs: Path, rows):
    row = rows(runs)["resnet"]
    low, high = scipy.stats.t.interval(0.95, 2, 0.91, 0.002 / math.sqrt(3))
    expected = {"model": "resnet", "dataset": "cifar10", "n": 3, "params": 272378, "best_seed": 2, "worst_seed": 3}
    assert {key: row[key] for key in expected} == expected
    assert row["test_accuracy_mean"] == pytest.approx(0.91)
    assert row["test_accuracy_std"] == pytest.approx(0.002)
    assert row["val_accuracy_mean"] == pytest.approx(0.92)
    assert (row["test_accuracy_ci95_low"], row["test_accuracy_ci95_high"]) == pytest.approx((low, high))


def test_published_figures_stand_beside(runs: Path, rows, call):
    found = rows(runs)
    assert found["resnet"]["published_test_accuracy"] == 0.9106
    assert found["resnet"]["test_accuracy_difference"] == pytest.approx(-0.0006)
    assert found["densenet"]["published_test_accuracy"] is None
    line = next(line for line in call(runs)[1].splitlines() if "resnet" in line)
    cells = [cell.strip() for cell in line.split("|")]
    assert {"91.00 ± 0.20", "91.06", "91.84", "-0.06", "272,378"} <= set(cells)


def test_other_parameters_than_published_are_pointed_out(runs: Path, call):
    write(runs, "resnet", 1, 0.9, lr=0.2, params=11, published=PUBLISHED)
    assert "resnet (lr=0.2): 11 parameters, published are 272,378" in call(runs)[1]


def test_one_run_has_no_spread(tmp_path: Path, rows, call):
    write(tmp_path, "resnet", 0, 0.9)
    row = rows(tmp_path)["resnet"]
    assert (row["n"], row["test_accuracy_std"], row["test_accuracy_ci95_low"], row["seeds"]) == (1, None, None, [0])
    assert "90.00" in call(tmp_path)[1]


def test_rows_are_named_by_what_differs(runs: Path, rows):
    cosine = config("resnet", seed=1)
    cosine["scheduler"] = {"_target_": "torch.optim.lr_scheduler.CosineAnnealingLR", "interval": "epoch", "T_max": 180}
    write(runs / "cosine", "resnet", 1, 0.9, config=cosine)
    write(runs, "resnet", 1, 0.9, lr=0.01)
    assert rows(runs).keys() == {
        "resnet (lr=0.1, scheduler=MultiStepLR)",
        "resnet (lr=0.01, scheduler=MultiStepLR)",
        "resnet (lr=0.1, scheduler=CosineAnnealingLR)",
        "densenet",
    }


def test_settings_that_differ_between_networks_are_noted(runs: Path, call):
    write(runs, "googlenet", 1, 0.9, lr=0.5)
    assert "also differ in: optimizer.lr" in call(runs)[1]


def test_the_configuration_is_read_from_its_file_where_the_result_lacks_it(tmp_path: Path, rows):
    for lr in (0.1, 0.2):
        folder = write(tmp_path, "resnet", 1, 0.9, lr=lr)
        outcome = json.loads((folder / "result.json").read_text())
        del outcome["config"]
        (folder / "result.json").write_text(json.dumps(outcome))
    assert rows(tmp_path).keys() == {"resnet (lr=0.1)", "resnet (lr=0.2)"}


def test_mixtures_within_a_row_are_pointed_out(tmp_path: Path, call):
    write(tmp_path, "resnet", 1, 0.90, device="cpu", versions={"torch": "2.11"}, epochs=180)
    write(tmp_path, "resnet", 2, 0.91, device="H100", versions={"torch": "2.14"}, epochs=90, precision="bf16-mixed")
    out = call(tmp_path)[1]
    assert "resnet: mixed devices: cpu (n=1), H100 (n=1)" in out
    assert "resnet: mixed versions: torch 2.11 / 2.14" in out
    assert "resnet: mixed precisions" in out
    assert "resnet: mixed numbers of epochs" in out


def test_a_copied_run_counts_once_and_is_named(runs: Path, rows, call):
    settings = config("resnet", seed=1)
    copy = write_run(runs / "copy", result(settings, test_accuracy=0.5, finished="2020-01-01T00:00:00+00:00"))
    assert rows(runs)["resnet"]["test_accuracy_mean"] == pytest.approx(0.91), "the later one counts"
    assert f"same configuration and seed more than once, not counted: {copy}" in call(runs)[1]


def test_a_folder_given_twice_or_linked_counts_once(runs: Path, rows):
    (runs / "again").symlink_to(runs / "resnet-0.1")
    assert rows(runs, runs, runs / "resnet-0.1")["resnet"]["n"] == 3


# runs without figures


def test_every_folder_without_figures_is_counted_and_named(runs: Path, call):
    failed = result(config("vgg"), status="failed", error="RuntimeError: CUDA out of memory\nsecond line")
    write_run(runs / "a-failed", failed)
    (write_run(runs / "b-unfinished", result(config("vgg"))) / "result.json").unlink()
    damaged = {
        "c-cut": json.dumps(result(config()))[:100],
        "d-foreign": "[1, 2]",
        "e-older": json.dumps(result(config(), schema_version=0)),
        "f-newer": json.dumps(result(config(), schema_version=9)),
        "g-percent": json.dumps(result(config(), test_accuracy=91.06)),
        "h-nan": json.dumps(result(config(), test_accuracy=math.nan)),
        "i-nothing": "",
    }
    for name, text in damaged.items():
        (runs / name).mkdir()
        (runs / name / "result.json").write_text(text)
    code, out, _ = call(runs)
    assert code == 0
    assert f"1 run failed, not in the table: {runs}/a-failed (RuntimeError: CUDA out of memory)" in out
    assert f"1 run begun and not finished, not in the table; the same command goes on with them: {runs}/b-unf" in out
    assert f"{len(damaged)} runs not readable, not in the table" in out
    for name, why in {
        "c-cut": "cut off or not JSON",
        "d-foreign": "not one of cnnzoo's",
        "e-older": "schema_version 0, this cnnzoo reads 1: run it again with rerun=true",
        "f-newer": "schema_version 9, this cnnzoo reads 1: upgrade cnnzoo",
        "g-percent": "test_accuracy=91.06, expected a share between 0 and 1",
        "h-nan": "test_accuracy=nan",
        "i-nothing": "cut off or not JSON",
    }.items():
        assert re.search(rf"{name} \([^)]*{re.escape(why)}", out), name


def test_status(runs: Path, call):
    write_run(runs / "failed", result(config("vgg"), status="failed", error="ValueError: no"))
    going = write_run(runs / "going", result(config("nin", seed=7)))
    (going / "result.json").unlink()
    (going / "metrics.csv").write_text("epoch,epoch_seconds\n0,10.0\n1,10.0\n2,1")  # the third line is being written
    with (going / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        code, out, _ = call(runs, "--status")
        assert code == 0
        assert "8 runs: 6 done, 1 running, 1 failed" in out
        line = next(line for line in out.splitlines() if "nin" in line)
        assert [c.strip() for c in line.split("|")][2:8] == ["running", "nin", "cifar10", "7", "2/180", "29 min 40 s"]
        assert "ValueError: no" in out
    assert "6 done, 1 failed, 1 unfinished" in call(runs, "--status")[1], "the lock goes with its process"
    assert call(runs, "--status", "model=nin")[1].count("\n| ") == 1, "one line below the header"


def test_nothing_to_compare(tmp_path: Path, call):
    assert call(tmp_path)[::2] == (
        1,
        f"error: {tmp_path}: no runs there (folders with a config.yaml or result.json).\n",
    )
    code, out, err = call(tmp_path / "missing")
    assert (code, out) == (1, "")
    assert "no such folder" in err
    write_run(tmp_path / "failed", result(config("vgg"), status="failed", error="ValueError: no"))
    code, _, err = call(tmp_path)
    assert code == 1
    assert "no completed run" in err
    assert "ValueError: no" in err


# choosing and showing


def test_filters(runs: Path, rows, call):
    write(runs, "resnet", 1, 0.9, lr=0.01)
    assert rows(runs, "model=densenet,vgg").keys() == {"densenet"}
    assert rows(runs, "model=res*", "optimizer.lr=1e-2")["resnet"]["n"] == 1
    assert rows(runs, "optimizer=SGD", "seed=2,3", "dataset=cifar10")["resnet"]["n"] == 2
    assert rows(runs, "augmentation.scale=[0.8,1.0]")
    for wrong, message in (
        ("model=resnat", "Did you mean 'resnet'?"),
        ("optimizer.lrr=1", "Did you mean 'optimizer.lr'?"),
    ):
        code, out, err = call(runs, wrong)
        assert (code, out) == (1, "")
        assert message in err


def test_filters_leave_out_unfinished_runs_of_others_only(runs: Path, call):
    for model in ("resnet", "vgg"):
        (write_run(runs / f"open-{model}", result(config(model, seed=9))) / "result.json").unlink()
    out = call(runs, "model=resnet")[1]
    assert "open-resnet" in out
    assert "open-vgg" not in out


def test_sort_reverse_columns_and_transpose(runs: Path, call):
    def first_cells(*arguments: Any) -> list[str]:
        return [line.split("|")[1].strip() for line in call(runs, *arguments)[1].splitlines() if line[:2] == "| "][1:]

    assert first_cells() == ["resnet", "densenet"]
    assert first_cells("--sort=params") == ["densenet", "resnet"]
    assert first_cells("--sort=test", "--reverse") == ["densenet", "resnet"]
    header = call(runs, "--columns=model,n,optimizer.lr,test_loss_mean")[1].splitlines()[0]
    assert [cell.strip() for cell in header.split("|")[1:-1]] == ["network", "n", "optimizer.lr", "test_loss_mean"]
    assert "n" in first_cells("--transpose")
    code, _, err = call(runs, "--columns=modle")
    assert code == 1
    assert "Did you mean 'model'?" in err


def test_json_and_csv_have_nothing_else_on_stdout(runs: Path, call):
    write_run(runs / "failed", result(config("vgg"), status="failed", error="ValueError: no"))
    _, out, err = call(runs, "--format=json")
    assert [row["model"] for row in json.loads(out)] == ["resnet", "densenet"]
    assert "ValueError: no" in err
    lines = list(csv.DictReader(io.StringIO(call(runs, "--format=csv")[1])))
    assert float(lines[0]["test_accuracy_mean"]) == json.loads(out)[0]["test_accuracy_mean"], "full precision"


def test_markdown_is_aligned(runs: Path, call):
    table = [line for line in call(runs)[1].splitlines() if line.startswith("|")]
    assert len({len(line) for line in table}) == 1


def test_a_narrow_window_cuts_no_figure():
    grid = Grid(
        "t", ["network", *"abc"], [["resnet", "91.06 ± 0.12", "91.06 ± 0.12", "1"]], [True, False, False, False]
    )
    assert [part.header for part in grid.split(40)] == [["network", "a", "b"], ["network", "c"]]
    assert [part.header for part in grid.split(10)] == [["network", letter] for letter in "abc"]
    assert grid.split(200) == [grid]


def test_special_characters(tmp_path: Path, call):
    write(tmp_path, "my_net&50%", 1, 0.9)
    write(tmp_path, "my_net&50%", 2, 0.91)
    write(tmp_path, "<b>", 1, 0.9, published={"test_accuracy": 0.95})
    tex = call(tmp_path, "--format=tex")[1]
    assert r"my\_net\&50\%" in tex
    assert r"90.50 $\pm$ 0.71" in tex
    assert "$-$5.00" in tex
    assert [tex.count(rule) for rule in (r"\toprule", r"\midrule", r"\bottomrule")] == [1, 1, 1]
    body = tex[tex.index(r"\midrule") : tex.index(r"\bottomrule")].strip().splitlines()[1:]
    columns = re.search(r"begin\{tabular\}\{([lr]+)\}", tex)
    assert columns is not None
    assert {len(re.findall(r"(?<!\\)&", line)) for line in body} == {len(columns[1]) - 1}

    cells: list[str] = []
    parser = HTMLParser()
    parser.handle_data = cells.append  # type: ignore
    parser.feed(call(tmp_path, "--format=html")[1])
    assert "<b>" in cells
    assert "my_net&50%" in cells


def test_out_writes_the_format_of_its_name_in_one_step(runs: Path, tmp_path: Path, call, monkeypatch):
    folder = tmp_path / "paper"
    folder.mkdir()
    for name, start in (("t.tex", "% needs"), ("t.html", "<!doctype html>"), ("t.md", "| network"), ("t.json", "[")):
        assert call(runs, "--out", folder / name)[:2] == (0, "")
        assert (folder / name).read_text().startswith(start)
    assert sorted(path.name for path in folder.iterdir()) == ["t.html", "t.json", "t.md", "t.tex"]
    code, _, err = call(runs, "--out", folder / "t.docx")
    assert code == 1
    assert "--format" in err

    def full_disk(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", full_disk)
    before = (folder / "t.md").read_text()
    code, _, err = call(runs, "model=resnet", "--out", folder / "t.md")
    assert code == 1
    assert "No space left" in err
    assert (folder / "t.md").read_text() == before
    assert sorted(path.name for path in folder.iterdir()) == ["t.html", "t.json", "t.md", "t.tex"]


# tests between rows


@pytest.fixture
def predicted(tmp_path: Path) -> Path:
    """Three networks with predictions on 500 images; seed 3 of the VGG was tested on other images."""
    draw = np.random.default_rng(0)
    labels = draw.integers(0, 10, 500)
    for model, accuracy in (("resnet", 0.9), ("densenet", 0.89), ("vgg", 0.7)):
        for seed in (1, 2, 3):
            correct = draw.random(500) < accuracy
            folder = write(tmp_path, model, seed, float(correct.mean()))
            write_predictions(folder, correct, labels[::-1] if (model, seed) == ("vgg", 3) else labels)
    return tmp_path


def _correct(root: Path, model: str, seed: int) -> np.ndarray:
    with np.load(root / f"{model}-0.1" / f"seed{seed}" / "predictions.npz") as arrays:
        return arrays["logits"].argmax(1) == arrays["labels"]


def test_pairs_are_tested_over_seeds_and_over_images(predicted: Path, rows, call):
    found = rows(predicted, "--tests")
    accuracy = {model: [_correct(predicted, model, seed).mean() for seed in (1, 2, 3)] for model in found}
    pairs = [("resnet", "densenet"), ("resnet", "vgg"), ("densenet", "vgg")]
    p_t = holm([scipy.stats.ttest_rel(accuracy[a], accuracy[b]).pvalue for a, b in pairs])
    for (a, b), expected in zip(pairs, p_t, strict=True):
        test = next(test for test in found[a]["tests"] if test["against"] == b)
        assert test["t_p_holm"] == pytest.approx(expected, rel=1e-6)
    difference = sum(_correct(predicted, "resnet", s).astype(int) - _correct(predicted, "vgg", s) for s in (1, 2))
    chi2 = difference.sum() ** 2 / (difference**2).sum()
    test = next(test for test in found["resnet"]["tests"] if test["against"] == "vgg")
    assert test["mcnemar_p_holm"] == pytest.approx(3 * scipy.stats.chi2.sf(chi2, 1), rel=1e-6), "smallest of three"
    letters = {model: row["letters_mcnemar"] for model, row in found.items()}
    assert letters["resnet"] == letters["densenet"] == "a"
    assert letters["vgg"] == "b"
    out = call(predicted, "--tests")[1]
    assert "above the diagonal paired t-test, below McNemar" in out
    assert f"left out of McNemar's test, other test images than the rest: {predicted}/vgg-0.1/seed3" in out


def test_bad_predictions_are_named(predicted: Path, call):
    (predicted / "resnet-0.1/seed1/predictions.npz").write_bytes(b"PK\x03\x04 cut off")
    (predicted / "resnet-0.1/seed2/predictions.npz").unlink()
    write_predictions(predicted / "vgg-0.1/seed1", np.ones(500, bool), np.zeros(500, int))
    out = call(predicted, "--tests")[1]
    assert f"predictions.npz is damaged: {predicted}/resnet-0.1/seed1" in out
    assert f"no predictions.npz: {predicted}/resnet-0.1/seed2" in out
    assert re.search(r"predictions.npz has 100.00% right, result.json says .*: \S*/vgg-0.1/seed1", out)


def test_tests_need_rows_to_compare(tmp_path: Path, call):
    write(tmp_path, "resnet", 1, 0.9)
    assert "no two rows" in call(tmp_path, "--tests")[2]
    for k in range(41):
        write(tmp_path, "resnet", 1, 0.9, lr=0.2 + k / 100)
    assert "42 rows on cifar10 make 861 pairs" in call(tmp_path, "--tests")[2]


# promises about the whole


def test_no_torch(predicted: Path):
    code = (
        "import sys; from cnnzoo.compare import main\n"
        f"assert main([{str(predicted)!r}, '--tests']) == 0 and main([{str(predicted)!r}, '--status']) == 0\n"
        "print({'torch', 'torchvision', 'lightning', 'pytorch_lightning'} & sys.modules.keys(), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr.strip() == "set()"


def test_a_thousand_runs_take_seconds_at_most(tmp_path: Path, call):
    make_runs["write_many"](tmp_path, 1000)
    begin = time.perf_counter()
    code, out, _ = call(tmp_path, "--format=json")
    assert code == 0
    assert sum(row["n"] for row in json.loads(out)) == 1000
    assert time.perf_counter() - begin < 5
