"""The command `compare`, on folders with invented metrics."""

import csv
import fcntl
import io
import json
import os
import pty
import re
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pytest
from matplotlib.font_manager import FontProperties
from matplotlib.textpath import TextPath

from cnnzoo.compare import main
from tests.factories import (
    config,
    result,
    write_completed,
    write_many,
    write_predictions,
    write_run,
    write_two_networks,
    write_unfinished,
)

Call = Callable[..., tuple[int, str, str]]
Rows = Callable[..., dict[str, dict[str, Any]]]


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    return write_two_networks(tmp_path / "outputs")


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str]) -> Call:
    """Runs the command; returns its exit code, stdout and stderr."""

    def run(*arguments: Any) -> tuple[int, str, str]:
        code = main([str(argument) for argument in arguments])
        out, err = capsys.readouterr()
        return code, out, err

    return run


@pytest.fixture
def rows(call: Call) -> Rows:
    """The JSON rows by label."""

    def run(*arguments: Any) -> dict[str, dict[str, Any]]:
        code, out, err = call(*arguments, "--format=json")
        assert code == 0, err
        return {row["label"]: row for row in json.loads(out)}

    return run


def cells(out: str) -> list[list[str]]:
    """The rows of a Markdown table, its header first."""
    lines = [line for line in out.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.split("|")[1:-1]] for line in [lines[0], *lines[2:]]]


# The table.


def test_table(runs: Path, call: Call) -> None:
    header, resnet, densenet = cells(call(runs)[1])
    assert header[:3] == ["network", "n", "val %"]
    assert {"91.00 ± 0.20", "91.06", "91.84", "-0.06", "272,378"} <= set(resnet)
    assert (resnet[0], densenet[0]) == ("resnet", "densenet")
    assert "- all rows: cifar10, cpu, 32-true, 180 epochs" in call(runs)[1]


def test_json_rows_keep_their_keys(runs: Path, rows: Rows) -> None:
    row = rows(runs)["resnet"]
    assert list(row) == [
        "model",
        "label",
        "dataset",
        "differs",
        "n",
        "seeds",
        "val_accuracy_mean",
        "val_accuracy_std",
        "test_accuracy_mean",
        "test_accuracy_std",
        "test_accuracy_tta_mean",
        "test_accuracy_tta_std",
        "corruption_accuracy_mean",
        "corruption_accuracy_std",
        "test_accuracy_ci95_low",
        "test_accuracy_ci95_high",
        "best_seed",
        "best_test_accuracy",
        "worst_seed",
        "worst_test_accuracy",
        "published_source",
        "published_val_accuracy",
        "published_test_accuracy",
        "test_accuracy_difference",
        "val_loss_mean",
        "test_loss_mean",
        "params",
        "macs",
        "published_params",
        "epochs",
        "train_seconds_mean",
        "images_per_second_mean",
        "peak_memory_bytes_max",
        "device",
        "precision",
    ]
    assert row["params"] == 272378
    assert isinstance(row["params"], int)
    assert row["seeds"] == [1, 2, 3]
    assert rows(runs)["densenet"]["published_test_accuracy"] is None


def test_json_and_csv_have_nothing_else_on_stdout(runs: Path, call: Call) -> None:
    write_run(runs / "failed", result(config("vgg"), status="failed", error="ValueError: no"))
    _, out, err = call(runs, "--format=json")
    assert [row["model"] for row in json.loads(out)] == ["resnet", "densenet"]
    assert "ValueError: no" in err
    lines = list(csv.DictReader(io.StringIO(call(runs, "--format=csv")[1])))
    assert float(lines[0]["test_accuracy_mean"]) == json.loads(out)[0]["test_accuracy_mean"], "full precision"
    assert lines[0]["seeds"] == "[1, 2, 3]"
    assert lines[1]["published_test_accuracy"] == ""


def test_every_folder_without_metrics_is_counted_and_named(runs: Path, call: Call) -> None:
    write_run(runs / "a", result(config("vgg"), status="failed", error="RuntimeError: CUDA out of memory\nsecond line"))
    write_unfinished(runs / "b", config("vgg"))
    (runs / "c").mkdir()
    (runs / "c" / "result.json").write_text(json.dumps(result(config()))[:100])
    code, out, _ = call(runs)
    assert code == 0
    assert f"1 run failed, not in the table: {runs}/a (RuntimeError: CUDA out of memory)" in out
    assert f"1 run begun and not finished, not in the table; the same command goes on with them: {runs}/b" in out
    assert f"1 run not readable, not in the table: {runs}/c (result.json is cut off or not JSON)" in out


def test_filters(runs: Path, rows: Rows, call: Call) -> None:
    write_completed(runs, "resnet", 1, 0.9, lr=0.01)
    assert rows(runs, "model=densenet,vgg").keys() == {"densenet"}
    assert rows(runs, "model=res*", "optimizer.lr=1e-2")["resnet"]["n"] == 1
    assert rows(runs, "optimizer=SGD", "seed=2,3", "dataset=cifar10")["resnet"]["n"] == 2
    for wrong, message in (
        ("model=resnat", "Did you mean 'resnet'?"),
        ("optimizer.lrr=1", "Did you mean 'optimizer.lr'?"),
    ):
        code, out, err = call(runs, wrong)
        assert (code, out) == (1, "")
        assert message in err


def test_filters_leave_out_unfinished_runs_of_others(runs: Path, call: Call) -> None:
    for model in ("resnet", "vgg"):
        write_unfinished(runs / f"open-{model}", config(model, seed=9))
    out = call(runs, "model=resnet")[1]
    assert "open-resnet" in out
    assert "open-vgg" not in out


def test_sort_reverse_columns_and_transpose(runs: Path, call: Call) -> None:
    def first_cells(*arguments: Any) -> list[str]:
        return [line[0] for line in cells(call(runs, *arguments)[1])][1:]

    assert first_cells() == ["resnet", "densenet"]
    assert first_cells("--sort=params") == ["densenet", "resnet"]
    assert first_cells("--sort=test", "--reverse") == ["densenet", "resnet"]
    header = cells(call(runs, "--columns=model,n,optimizer.lr,test_loss_mean")[1])[0]
    assert header == ["network", "n", "optimizer.lr", "test_loss_mean"]
    assert {"peak memory", "epochs", "device"} <= set(cells(call(runs, "--columns=all")[1])[0])
    assert "n" in first_cells("--transpose")
    code, _, err = call(runs, "--columns=modle")
    assert code == 1
    assert "Did you mean 'model'?" in err
    assert "use another --format" in call(runs, "--transpose", "--format=json")[2]


def test_columns_choose_what_programs_get(runs: Path, rows: Rows, call: Call) -> None:
    assert json.loads(call(runs, "--columns=model,optimizer.lr", "--format=json")[1])[0] == {
        "label": "resnet",
        "model": "resnet",
        "differs": {},
        "optimizer.lr": 0.1,
    }


def test_texts_from_files_act_as_nothing_else(tmp_path: Path, call: Call) -> None:
    for seed, name in enumerate(("=cmd()", "\\input{x}", "a\n\\input{y}", "\x1b[2J", "<b>", "\ud800")):
        write_run(tmp_path / str(seed), result(config("net", seed=seed), model=name))
    tex = call(tmp_path, "--format=tex")[1]
    assert not any("\\input" in line for line in tex.splitlines() if not line.startswith("%"))
    assert any(row["label"] == "'=cmd()" for row in csv.DictReader(io.StringIO(call(tmp_path, "--format=csv")[1])))
    for style in ("md", "tex", "html", "csv", "json"):
        code, out, _ = call(tmp_path, "--format", style)
        assert code == 0
        assert "\x1b" not in out
        assert out.encode()
    assert "<b>" not in call(tmp_path, "--format=html")[1].partition('id="data">')[2].partition("</script>")[0]


def test_nothing_to_compare(tmp_path: Path, call: Call) -> None:
    assert call(tmp_path)[::2] == (
        1,
        f"error: {tmp_path}: no runs there (folders with a config.yaml or result.json).\n",
    )
    assert call()[::2] == (
        1,
        "error: no folder given. Name the one that the runs lie under, such as outputs.\n",
    )
    code, out, err = call(tmp_path / "missing")
    assert (code, out) == (1, "")
    assert "no such folder" in err
    write_run(tmp_path / "failed", result(config("vgg"), status="failed", error="ValueError: no"))
    code, _, err = call(tmp_path)
    assert code == 1
    assert "no completed run" in err
    assert "ValueError: no" in err


def test_out_writes_the_format_of_its_name_in_one_step(
    runs: Path, tmp_path: Path, call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
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
    assert "no space is left on its disk" in err
    assert (folder / "t.md").read_text() == before
    assert sorted(path.name for path in folder.iterdir()) == ["t.html", "t.json", "t.md", "t.tex"]


def test_latex_fits_a_page(predicted: Path, call: Call) -> None:
    """By the widths of Computer Modern at 10 pt: 345 pt are the text of LaTeX's article."""
    font = FontProperties(fname=f"{matplotlib.get_data_path()}/fonts/ttf/cmr10.ttf")

    def width(cell: str) -> float:
        shown = re.sub(r"\\|\$", "", cell.replace(r"$\pm$", "+").replace("$-$", "-")).strip()
        return TextPath((0, 0), shown, size=10, prop=font).get_extents().width if shown else 0.0

    def page(*options: str) -> float:
        lines = call(predicted, "--format=tex", *options)[1].partition(r"\end{tabular}")[0].splitlines()
        rows = [line.removesuffix(r" \\").split("&") for line in lines if "&" in line]
        return sum(max(map(width, column)) + 12 for column in zip(*rows, strict=True))

    assert page() <= 345
    assert page("--tests") <= 345
    assert page("--columns=all") > 700


def test_a_narrow_terminal_shows_one_table(runs: Path) -> None:
    """Of 80 columns, with a network of every kind of number; the rest is named."""
    master, terminal = pty.openpty()
    command = [sys.executable, "-m", "cnnzoo.compare", str(runs)]
    with subprocess.Popen(command, stdout=terminal, env=os.environ | {"COLUMNS": "80"}) as process:
        os.close(terminal)
        out = b""
        while chunk := _read(master):
            out += chunk
    assert process.returncode == 0
    lines = re.sub(r"\x1b\[\d*m", "", out.decode()).splitlines()
    assert max(map(len, lines)) <= 80
    assert sum("network" in line for line in lines) == 1, "one header"
    assert any("91.00 ± 0.20" in line and "90.50 to 91.50" in line for line in lines)
    assert "columns that do not fit here (--columns all shows them):" in " ".join(" ".join(lines).split())


def _read(master: int) -> bytes:
    try:
        return os.read(master, 65536)
    except OSError:  # the other end is closed
        return b""


# Tests, pivot, diff, status.


@pytest.fixture
def predicted(tmp_path: Path) -> Path:
    """Three networks with predictions on 500 images."""
    draw = np.random.default_rng(0)
    labels = draw.integers(0, 10, 500)
    for model, accuracy in (("resnet", 0.9), ("densenet", 0.89), ("vgg", 0.7)):
        for seed in (1, 2, 3):
            correct = draw.random(500) < accuracy
            write_predictions(write_completed(tmp_path, model, seed, float(correct.mean())), correct, labels)
    return tmp_path


def test_tests(predicted: Path, rows: Rows, call: Call) -> None:
    found = rows(predicted, "--tests")
    assert {model: row["letters_mcnemar"] for model, row in found.items()} == {
        "resnet": "a",
        "densenet": "a",
        "vgg": "b",
    }
    assert found["resnet"]["tests"][1].keys() == {
        "against",
        "test_accuracy_difference",
        "t_p_holm",
        "mcnemar_p_holm",
        "effect_size",
        "smallest_detectable_difference",
    }
    out = call(predicted, "--tests")[1]
    assert "above the diagonal paired t-test, below McNemar" in out
    assert "no evidence that they are equal" in out
    assert cells(out)[0].count("McNemar") == 1
    assert "--tests" in call(predicted, "--columns=letters_t")[2]
    assert "no two rows" in call(predicted, "model=vgg", "--tests")[2]


def test_pivot(runs: Path, rows: Rows, call: Call) -> None:
    for seed in (1, 2):
        write_completed(runs / "mnist", "resnet", seed, 0.99, config=config("resnet", "mnist", seed))
    assert cells(call(runs, "--pivot=dataset")[1]) == [
        ["network", "cifar10", "mnist"],
        ["resnet", "91.00 ± 0.20", "99.00 ± 0.00"],
        ["densenet", "90.20 ± 0.26", ""],
    ]
    assert r"91.00 $\pm$ 0.20 & 99.00 $\pm$ 0.00" in call(runs, "--pivot=dataset", "--format=tex")[1]
    assert rows(runs, "--pivot=dataset")["densenet"]["mnist.n"] is None
    assert call(runs, "--pivot=dataset", "--format=csv")[1].startswith("label,model,cifar10.n,")
    assert "<td>99.00 ± 0.00</td>" in call(runs, "--pivot=dataset", "--format=html")[1]
    assert cells(call(runs, "--pivot=dataset", "--transpose")[1])[0] == ["network", "resnet", "densenet"]
    assert "leave out --tests" in call(runs, "--pivot=dataset", "--tests")[2]


def test_diff(runs: Path, call: Call) -> None:
    folder = write_completed(runs, "resnet", 1, 0.9, lr=0.01)
    expected = [["setting", "resnet (lr=0.1)", "model=resnet optimizer.lr=0.01"], ["optimizer.lr", "0.1", "0.01"]]
    assert cells(call(runs, "--diff", *expected[0][1:])[1]) == expected
    assert r"optimizer.lr & 0.1" in call(runs, "--diff", *expected[0][1:], "--format=tex")[1]
    other = runs / "resnet-0.1" / "seed2"
    _, out, _ = call("--diff", folder, other, "--format=json")
    assert json.loads(out) == [
        {"setting": "optimizer.lr", "a": 0.01, "b": 0.1},
        {"setting": "seed", "a": 1, "b": 2},
    ]
    code, _, err = call(runs, "--diff", "resnet (lr=0.2)", "densenet")
    assert code == 1
    assert "Did you mean 'resnet (lr=0.1)'?" in err


def test_status(runs: Path, call: Call) -> None:
    write_run(runs / "failed", result(config("vgg"), status="failed", error="ValueError: no"))
    going = write_unfinished(runs / "going", config("nin", seed=7))
    (going / "metrics.csv").write_text("epoch,epoch_seconds\n0,10.0\n1,10.0\n2,1")  # the third line is being written
    with (going / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        code, out, _ = call(runs, "--status")
        assert code == 0
        assert "8 runs: 6 done, 1 running, 1 failed" in out
        assert cells(out)[1][1:] == ["running", "nin", "cifar10", "7", "2/180", "", "29 min 40 s"]
        assert "ValueError: no; again with: python -m cnnzoo.run model=vgg seed=1" in out
    assert "6 done, 1 failed, 1 unfinished" in call(runs, "--status")[1], "the lock goes with its process"
    assert len(cells(call(runs, "--status", "model=nin")[1])) == 2, "one line below the header"
    assert [record["state"] for record in json.loads(call(runs, "--status", "--format=json")[1])] == [
        "failed",
        "unfinished",
    ]


# Promises about the whole.


def test_no_torch(predicted: Path) -> None:
    code = (
        "import sys; from cnnzoo.compare import main\n"
        f"assert main([{str(predicted)!r}, '--tests']) == 0 and main([{str(predicted)!r}, '--status']) == 0\n"
        "print({'torch', 'torchvision', 'lightning', 'pytorch_lightning'} & sys.modules.keys(), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr.strip() == "set()"


def test_a_thousand_runs_take_seconds_at_most(tmp_path: Path, call: Call) -> None:
    write_many(tmp_path, 1000)
    begin = time.perf_counter()
    code, out, _ = call(tmp_path, "--format=json")
    assert code == 0
    assert sum(row["n"] for row in json.loads(out)) == 1000
    assert time.perf_counter() - begin < 5
