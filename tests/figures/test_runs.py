"""The command `figures runs`: files, messages, and what it does with names from files."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cnnzoo.figures.runs import main
from tests.factories import config, result, write_run

Call = Callable[..., tuple[int, list[str], str]]
Write = Callable[..., Path]
NAMES = ("learning_curves", "accuracy_cost", "class_accuracy")


@pytest.fixture
def call(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Call:
    """Run the command; returns its exit code, the names of what it wrote to `pictures`, and stderr."""

    def run(*words: Any) -> tuple[int, list[str], str]:
        code = main([*map(str, words), "--out", str(tmp_path / "pictures")])
        out, err = capsys.readouterr()
        return code, [str(Path(line).relative_to(tmp_path / "pictures")) for line in out.splitlines()], err

    return run


def test_files(sweep: Path, tmp_path: Path, call: Call) -> None:
    code, written, err = call(sweep, "--formats", "png,pdf")
    assert (code, err) == (0, "")
    assert written == [f"cifar10/{name}.{suffix}" for name in NAMES for suffix in ("png", "pdf")]
    for path in (tmp_path / "pictures" / name for name in written):
        assert path.read_bytes().startswith(b"\x89PNG" if path.suffix == ".png" else b"%PDF")
    assert len(list((tmp_path / "pictures" / "cifar10").iterdir())) == 6, "nothing else is left there"


def test_pictures_name_the_data_set(sweep: Path, tmp_path: Path, call: Call) -> None:
    """A picture in a paper has lost its folder's name."""
    call(sweep, "--formats", "svg")
    titles = [(tmp_path / "pictures" / "cifar10" / f"{name}.svg").read_text() for name in NAMES]
    assert all("<!-- cifar10 -->" in text or ">cifar10</text>" in text for text in titles)


def test_a_folder_for_each_data_set(tmp_path: Path, write: Write, call: Call) -> None:
    write(tmp_path / "runs" / "a", "resnet", 1)
    write(tmp_path / "runs" / "b", "resnet", 1, dataset="mnist")
    assert sorted(call(tmp_path / "runs")[1]) == sorted(
        f"{d}/{name}.png" for d in ("cifar10", "mnist") for name in NAMES
    )
    assert set(call(tmp_path / "runs", "dataset=mnist")[1]) == {f"mnist/{name}.png" for name in NAMES}


def test_a_run_that_has_only_begun(sweep: Path, write_unfinished: Write, call: Call) -> None:
    write_unfinished(sweep, "googlenet", 1, epochs=3)
    assert call(sweep, "model=googlenet")[1] == ["cifar10/learning_curves.png"], "nothing else is known of it"


def test_what_is_left_out_is_named(sweep: Path, call: Call) -> None:
    write_run(sweep / "failed", result(config("vgg"), status="failed", error="ValueError: no"))
    (sweep / "resnet-0.1/seed3/metrics.csv").unlink()
    code, written, err = call(sweep)
    assert (code, len(written)) == (0, 3)
    assert err.splitlines() == [
        f"1 run failed, not shown: {sweep}/failed (ValueError: no)",
        f"left out, no metrics.csv: {sweep}/resnet-0.1/seed3",
    ]


@pytest.mark.parametrize("dataset", ["../..", "/absolute", "a/b", "..", "\x1b[2J", "$x^", "_x"])
def test_names_from_files_act_as_nothing_else(dataset: str, tmp_path: Path, write: Write, call: Call) -> None:
    folder = write(tmp_path / "runs", "$\\frac$ _x", 1, dataset=dataset)
    outcome = json.loads((folder / "result.json").read_text())
    (folder / "result.json").write_text(json.dumps(outcome | {"model": "$\\frac$\x1b[2J_x"}))
    before = {path for path in tmp_path.rglob("*") if "pictures" not in path.parts}
    code, written, err = call(tmp_path / "runs")
    assert code == 0, err
    assert len(written) == 3
    for name in written:
        assert len(Path(name).parts) == 2
        assert (tmp_path / "pictures" / name).resolve().parents[1] == (tmp_path / "pictures").resolve()
    assert {path for path in tmp_path.rglob("*") if "pictures" not in path.parts} == before
    assert "\x1b" not in err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["nowhere"], "nowhere: there is no such folder"),
        (["empty"], "empty: no runs there"),
        (["model=resnet"], "no folder given"),
        (["open"], "open: no run with figures to draw.\n  left out, no metrics.csv: open/seed1"),
        (["one", "model=resnat"], "Did you mean 'resnet'?"),
        (["one", "--formats", "pgn"], "formats: pgn: expected some of png, pdf, svg. Did you mean 'png'?"),
        (["one", "--published", "nowhere"], "--published nowhere: there is no such folder"),
        (["one", "--out", "/proc/nowhere"], "out=/proc/nowhere/cifar10: cannot be written to"),
    ],
)
def test_mistakes(
    words: list[str],
    message: str,
    tmp_path: Path,
    write: Write,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    write(tmp_path / "one", "resnet", 1)
    (write_run(tmp_path / "open" / "seed1", result(config())) / "result.json").unlink()
    assert main(words) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert message in err


def test_reads_without_torch(sweep: Path, cnnzoo: Callable[..., Any], tmp_path: Path) -> None:
    script = "import sys; from cnnzoo.figures.runs import main; main(sys.argv[1:]); sys.exit('torch' in sys.modules)"
    words = [sys.executable, "-c", script, str(sweep), "--out", str(tmp_path)]
    assert subprocess.run(words, check=False, stdout=subprocess.DEVNULL).returncode == 0
    answer = cnnzoo("figures", "runs", str(sweep))
    assert answer.returncode == 0, answer.stderr
    assert str(tmp_path / "outputs/figures/cifar10/accuracy_cost.png") in answer.stdout
    assert cnnzoo("figures", "runs", str(tmp_path / "nowhere")).returncode == 1


def test_published_curves_with_the_collections_own_folder(
    tmp_path: Path, write: Write, write_events: Write, call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write(tmp_path / "runs", "resnet", 1)
    settings = json.loads((folder / "config.yaml").read_text())
    settings["published"] = {"weights": {"file": "uvadlc_tutorial5/ResNet.ckpt"}}
    (folder / "config.yaml").write_text(json.dumps(settings))
    collection = tmp_path / "collections" / "uvadlc_tutorial5"
    write_events(collection / "tensorboards" / "ResNet", val_acc=[0.25, 0.5], train_acc=[0.5, 0.75])
    for weights, found in ((collection.parent, True), (collection, True), (tmp_path / "nowhere", False)):
        monkeypatch.setenv("CNNZOO_WEIGHTS", str(weights))
        code, _, err = call(tmp_path / "runs")
        assert code == 0
        assert ("published curves not found" in err) != found
