"""The command `clean`: what it deletes, and what it never does."""

import json
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from cnnzoo.clean import main
from cnnzoo.config import compose
from cnnzoo.results.run_folder import locked
from tests.factories import config, result, write_completed, write_run, write_unfinished


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    """One run of every kind."""
    root = tmp_path / "outputs"
    write_completed(root, "resnet", 1, 0.9)
    write_run(root / "net" / "failed", result(config("vgg"), status="failed", error="UserError: out of memory"))
    write_unfinished(root / "net" / "begun", config("nin"))
    (write_unfinished(root / "net" / "resumable", config("nin")) / "checkpoints" / "last.ckpt").touch()
    write_run(root / "search" / "pruned", result(config("mlp"), status="pruned"))
    write_completed(root / ".debug", "resnet", 1, 0.1)
    (root / "own").mkdir()
    (root / "own" / "config.yaml").write_text("my: own file\n")
    (root / "foreign").mkdir()
    (root / "foreign" / ".lock").touch()
    return root


def left(root: Path) -> set[str]:
    files = [*root.rglob("config.yaml"), *root.rglob(".lock")]
    return {str(file.parent.relative_to(root)) for file in files}


KEPT = {"resnet-0.1/seed1", "net/resumable", "search/pruned", "own", "foreign"}


def test_what_can_be_done_without(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    everything = left(runs)
    assert main([str(runs), "--dry-run"]) == 0
    assert left(runs) == everything
    out = capsys.readouterr().out
    assert "net/failed: UserError: out of memory" in out
    assert out.splitlines()[-1].startswith("3 folders (")
    assert main([str(runs), "--yes"]) == 0
    assert left(runs) == KEPT
    assert not (runs / ".debug").exists(), "folders that are empty then go too"
    assert main([str(runs), "--yes"]) == 0
    assert "Nothing to delete" in capsys.readouterr().out


def test_status_that_is_typed(runs: Path) -> None:
    main([str(runs), "status=unfinished", "--yes"])
    assert left(runs) == {
        "resnet-0.1/seed1",
        "net/failed",
        "search/pruned",
        "own",
        "foreign",
        ".debug/resnet-0.1/seed1",
    }
    main([str(runs), "status=completed,damaged,pruned", "--yes"])
    assert left(runs) == {"resnet-0.1/seed1", "net/failed", "own", "foreign"}


@pytest.mark.parametrize(("answer", "deletes"), [("y", True), ("n", False), ("", False)])
def test_asks(runs: Path, answer: str, deletes: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin.isatty", lambda: True)
    monkeypatch.setattr("builtins.input", lambda question: answer)
    assert main([str(runs)]) == 0
    assert (left(runs) == KEPT) == deletes


def test_nobody_to_ask(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    everything = left(runs)
    assert main([str(runs)]) == 1
    assert "add --yes" in capsys.readouterr().err
    assert left(runs) == everything


def test_a_run_that_goes_on_stays(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin.isatty", lambda: True)
    folder = runs / "net" / "failed"
    with locked(folder):
        main([str(runs), "--yes"])
    assert folder.exists(), "it goes on since before the question"
    with ExitStack() as stack:

        def begin(question: str) -> str:
            stack.enter_context(locked(folder))
            return "y"

        monkeypatch.setattr("builtins.input", begin)
        main([str(runs)])
    assert folder.exists(), "it goes on since the question"

    def finish(question: str) -> str:
        (folder / "result.json").write_text(json.dumps(result(config("vgg"))))
        return "y"

    monkeypatch.setattr("builtins.input", finish)
    main([str(runs)])
    assert folder.exists(), "it has finished since the question"


@pytest.mark.parametrize("inside", ["other", ".previous"])
def test_results_inside_a_failed_run_stay(runs: Path, inside: str) -> None:
    """Another run's, or those of the same one, which is being repeated."""
    write_completed(runs / "net" / "failed" / inside, "resnet", 1, 0.9)
    main([str(runs), "model=vgg", "--yes"])
    assert f"net/failed/{inside}/resnet-0.1/seed1" in left(runs)


def test_a_hidden_folder_of_somebody_else(tmp_path: Path) -> None:
    root = tmp_path / ".debug" / "outputs"
    completed = write_completed(root, "resnet", 1, 0.9)
    main([str(root), "--yes"])
    assert completed.exists()


def test_links_lead_nowhere_else(runs: Path, tmp_path: Path) -> None:
    elsewhere = write_run(tmp_path / "elsewhere" / "run", result(config("vgg"), status="failed"))
    (runs / "link").symlink_to(elsewhere.parent)
    main([str(runs), "--yes"])
    assert elsewhere.exists()


def test_debugging_runs_are_where_no_table_has_them(tmp_path: Path, cnnzoo: Callable[..., Any]) -> None:
    outputs = Path(compose(["debug=default"]).paths.outputs)
    assert outputs == tmp_path / "outputs" / ".debug"
    write_completed(outputs, "resnet", 1, 0.1)
    assert cnnzoo("compare", "outputs").returncode == 1
    assert main([str(tmp_path / "outputs"), "--yes"]) == 0
    assert not outputs.exists()
