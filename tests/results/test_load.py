"""Folders of runs as a data frame: every folder that looks like a run is accounted for."""

import fcntl
import json
import math
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from cnnzoo.errors import UserError
from cnnzoo.results.load import find_runs, load_results, setting
from cnnzoo.results.settings import is_absent
from tests.factories import (
    PUBLISHED,
    config,
    result,
    write_completed,
    write_many,
    write_run,
    write_two_networks,
    write_unfinished,
)


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    return write_two_networks(tmp_path / "outputs")


def one(folder: Path) -> Any:
    """The only run below a folder."""
    (run,) = load_results(folder).itertuples()
    return run


def test_a_run_is_a_row(tmp_path: Path) -> None:
    folder = write_completed(tmp_path, "resnet", 1, 0.91, published=PUBLISHED)
    frame = load_results(tmp_path)
    assert len(frame) == 1
    run = frame.iloc[0]
    expected = {
        "folder": str(folder),
        "status": "completed",
        "problem": "",
        "model": "resnet",
        "dataset": "cifar10",
        "seed": 1,
        "val_accuracy": 0.92,
        "test_accuracy": 0.91,
        "val_loss": 0.3,
        "test_loss": 0.32,
        "params": 272378,
        "macs": 41_000_000,
        "epochs": 180,
        "best_epoch": 160,
        "images_per_second": 2700.0,
        "peak_memory_bytes": 10**9,
        "device": "cpu",
        "precision": "32-true",
        "git_commit": "0" * 40,
        "versions": {"torch": "2.14.1", "cnnzoo": "0.1.0"},
        "published_source": "a tutorial",
        "published_test_accuracy": 0.9106,
        "published_params": 272378,
        "finished": pd.Timestamp("2026-01-01T01:00:00Z"),
        "command": "python -m cnnzoo.run model=resnet seed=1",
        "config.optimizer.lr": 0.1,
        "config.model.widths": [16, 32],
        "config.trainer.max_epochs": 180,
    }
    assert {key: run[key] for key in expected} == expected
    assert is_absent(run["test_accuracy_tta"])
    assert run["config.dataset.mean"] is None, "null is a setting"
    assert "config.seed" not in frame


GOOD = '{"config_hash": "4711", "corruption_accuracy": 0.75}'


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (GOOD, 0.75),
        (GOOD.replace("4711", "4712"), None),  # of another run
        (GOOD.replace("0.75", "75.0"), None),
        (GOOD.replace("0.75", "NaN"), None),
        (GOOD.replace("0.75", '"0.75"'), None),
        (GOOD[:-5], None),
        ("[1]", None),
        ("[" * 10_000, None),
    ],
)
def test_accuracy_on_corrupted_images(content: str, expected: float | None, tmp_path: Path) -> None:
    """A file beside the result adds a number, or nothing."""
    folder = write_completed(tmp_path, "resnet", 1, 0.91, config_hash="4711")
    (folder / "corruptions.json").write_text(content)
    run = one(tmp_path)
    assert (run.status, run.test_accuracy) == ("completed", 0.91)
    assert (None if is_absent(run.corruption_accuracy) else run.corruption_accuracy) == expected


def test_columns_of_numbers_have_types_of_numbers(runs: Path) -> None:
    write_completed(runs, "vgg", 1, 0.9, config=config("vgg") | {"new": {"section": 3}})
    frame = load_results(runs)
    assert frame["test_accuracy"].dtype == frame["config.optimizer.lr"].dtype == np.float64
    assert frame["seed"].dtype == frame["params"].dtype == frame["config.new.section"].dtype == "Int64"
    assert frame["config.new.section"].isna().sum() == 6, "a key that other runs do not have"


def test_settings_are_one_hash_over_seeds(runs: Path) -> None:
    write_completed(runs, "resnet", 4, 0.9, lr=0.2)
    frame = load_results(runs)
    assert sorted(frame.groupby(["dataset", "model", "settings"]).size()) == [1, 3, 3]


def test_several_folders_and_filters(runs: Path, tmp_path: Path) -> None:
    write_completed(tmp_path / "more", "vgg", 1, 0.9)
    assert len(load_results([runs, str(tmp_path / "more")])) == 7
    assert set(load_results(runs, ["model=dense*", "seed=1,2"])["seed"]) == {1, 2}
    assert load_results(tmp_path / "more" / "vgg-0.1" / "seed1")["model"].tolist() == ["vgg"]


def test_no_runs_are_an_empty_frame_with_all_columns(tmp_path: Path) -> None:
    frame = load_results(tmp_path)
    assert frame.empty
    assert {"folder", "status", "test_accuracy", "published_test_accuracy"} <= set(frame)


def test_a_folder_given_twice_or_linked_counts_once(runs: Path) -> None:
    (runs / "again").symlink_to(runs / "resnet-0.1")
    (runs / "resnet-0.1" / "up").symlink_to(runs)
    assert len(load_results([runs, runs, runs / "resnet-0.1"])) == 6


@pytest.mark.parametrize("where", [".", "resnet-0.1", "resnet-0.1/seed1"])
def test_a_link_upwards_leads_nowhere(runs: Path, where: str) -> None:
    """Else a folder that somebody sent could have the whole disk searched."""
    before = len(load_results(runs))
    write_completed(runs.parent / "elsewhere" / "seed1", "resnet", 1, 0.9)
    (runs / where / "up").symlink_to(runs.parent)
    assert len(load_results(runs)) == before


def test_a_link_to_itself_hides_nothing(runs: Path) -> None:
    (runs / "loop").symlink_to(runs / "loop")
    (runs / "resnet-0.1" / "seed1" / "loop").symlink_to("loop")
    frame = load_results(runs)
    assert frame["status"].tolist() == ["completed"] * 6


def test_an_unreadable_folder_is_named(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    locked = write_completed(runs, "vgg", 1, 0.9).parent
    scandir = os.scandir

    def refuse(folder: str) -> Any:
        if folder == str(locked):
            raise PermissionError(13, "Permission denied", folder)
        return scandir(folder)

    monkeypatch.setattr(os, "scandir", refuse)
    frame = load_results(runs)
    assert frame.loc[frame["status"] == "damaged", ["folder", "problem"]].to_numpy().tolist() == [
        [str(locked), "the folder cannot be read (permissions?)"]
    ]
    assert (frame["status"] == "completed").sum() == 6


def _nested(depth: int) -> Any:
    return [_nested(depth - 1)] if depth else []


DAMAGED = {
    "cut off": (json.dumps(result(config()))[:100], "cut off or not JSON"),
    "foreign": ("[1, 2]", "not one of cnnzoo's"),
    "foreign mapping": ('{"accuracy": 1}', "not one of cnnzoo's"),
    "empty": ("", "cut off or not JSON"),
    "not UTF-8": ('{"status": "\udcff"}', "cut off or not JSON"),
    "deep": ("[" * 100_000, "nested too deeply"),
    "large": (" " * (2**24 + 1), "cannot be read: larger than 16.0 MiB"),
    "long number": ('{"status": ' + "9" * 5000 + "}", "cut off or not JSON"),
}
WRONG_VALUES: dict[str, tuple[dict[str, Any], str]] = {
    "older": ({"schema_version": 0}, "schema_version 0, this cnnzoo reads 1: run it again with rerun=true"),
    "newer": ({"schema_version": 9}, "schema_version 9, this cnnzoo reads 1: upgrade cnnzoo"),
    "unversioned": ({"schema_version": None}, "schema_version None, this cnnzoo reads 1"),
    "odd version": ({"schema_version": [1]}, "schema_version [1], this cnnzoo reads 1"),
    "status": ({"status": "done"}, "status 'done', expected 'completed', 'pruned' or 'failed'"),
    "odd status": ({"status": ["completed"]}, "status ['completed'], expected"),
    "percent": ({"test_accuracy": 91.06}, "test_accuracy=91.06, expected a share between 0 and 1"),
    "nan": ({"test_accuracy": math.nan}, "test_accuracy=nan, expected a share between 0 and 1"),
    "infinite": ({"params": math.inf}, "params=inf, expected a number"),
    "huge": ({"macs": 10**30}, "expected a number"),
    "list": ({"params": [1]}, "params=[1], expected a number"),
    "bool": ({"epochs": True}, "epochs=True, expected a number"),
    "text": ({"train_seconds": "3"}, "train_seconds='3', expected a number"),
    "model": ({"model": 5}, "model=5, expected a text"),
    "seed": ({"seed": "1"}, "seed='1', expected a number"),
    "fraction": ({"params": 1.5}, "params=1.5, expected a whole number"),
    "nan for a whole number": ({"macs": math.nan}, "macs=nan, expected a whole number"),
    "published": ({"published": {"test_accuracy": "x"}}, "published_test_accuracy='x', expected a number"),
    "published list": ({"published": [1]}, "published=[1], expected a mapping"),
    "published percent": ({"published": {"val_accuracy": 91}}, "published_val_accuracy=91, expected a share"),
    "versions": ({"versions": "2.11"}, "versions='2.11', expected a mapping"),
    "config": ({"config": [1]}, "config=[1], expected a mapping"),
    "long name": ({"dataset": "x" * 300}, "expected a text of at most 255 characters"),
    "long text": ({"config": {"a": "x" * 20_000}}, "result.json cannot be used: a text is longer than 10,000"),
    "long key": ({"config": {"x" * 20_000: 1}}, "result.json cannot be used: a text is longer than 10,000"),
    "many settings": (
        {"config": dict.fromkeys(map(str, range(20_000)))},
        "result.json cannot be used: more than 10,000",
    ),
    "many versions": ({"versions": dict.fromkeys(map(str, range(20_000)))}, "more than 10,000 values"),
    "deep settings": ({"config": {"a": _nested(300)}}, "result.json cannot be used: nested deeper than 50 levels"),
    "no accuracy": ({"val_accuracy": None, "test_accuracy": None}, "neither val_accuracy nor test_accuracy"),
}


def test_damaged_and_foreign_files_are_named(runs: Path) -> None:
    expected = {}
    for name, (text, problem) in DAMAGED.items():
        (runs / name).mkdir()
        (runs / name / "result.json").write_bytes(text.encode(errors="surrogateescape"))
        expected[name] = problem
    for name, (values, problem) in WRONG_VALUES.items():
        folder = write_run(runs / f"{name} value", result(config()))
        (folder / "result.json").write_text(json.dumps(result(config()) | values))
        expected[f"{name} value"] = problem
    frame = load_results(runs)
    assert (frame["status"] == "completed").sum() == 6, "the others are as they were"
    found = {Path(run["folder"]).name: run for run in frame[frame["status"] != "completed"].to_dict("records")}
    assert found.keys() == expected.keys()
    for name, problem in expected.items():
        assert found[name]["status"] == "damaged", name
        assert problem in found[name]["problem"], name


@pytest.mark.parametrize("name", ["result.json", "config.yaml", ".lock"])
@pytest.mark.parametrize("kind", ["pipe", "device", "folder", "link to itself", "link to nothing"])
def test_what_is_no_file_stops_nothing(name: str, kind: str, runs: Path) -> None:
    make: dict[str, Callable[[Path], object]] = {
        "pipe": os.mkfifo,
        "device": lambda path: path.symlink_to("/dev/zero"),
        "folder": Path.mkdir,
        "link to itself": lambda path: path.symlink_to(path),
        "link to nothing": lambda path: path.symlink_to("nothing"),
    }
    folder = write_unfinished(runs / "bad", config("vgg"))
    (folder / name).unlink(missing_ok=True)
    make[kind](folder / name)
    program = f"from cnnzoo import load_results; print(*load_results({str(runs)!r})['status'])"
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert ended.stdout.split() == ["unfinished" if name == ".lock" else "damaged", *["completed"] * 6]


YAML = {
    "aliases": "a0: &a0 [x,x]\n" + "".join(f"a{i + 1}: &a{i + 1} [{','.join([f'*a{i}'] * 10)}]\n" for i in range(9)),
    "a list in itself": "a: &a [*a]",
    "a mapping in itself": "&a {a: *a}",
    "deep": "a: " + "[" * 300 + "]" * 300,
    "code": "!!python/object/apply:os.getcwd []",
    "NUL": "\0",
    "large": "a: 1\n" * 100_000,
    "a list as a key": "? [1]\n: 1",
    "huge seed": "seed: " + "9" * 40,
    "infinite seed": "seed: .inf",
    "long name": f"name: {'x' * 300}",
    "model": "model: 1",
}


@pytest.mark.parametrize("text", YAML.values(), ids=YAML.keys())
def test_odd_configurations_stop_nothing(text: str, runs: Path) -> None:
    (runs / "bad").mkdir()
    head = {"name": "x", "dataset": "{name: y}", "seed": "1"}
    lines = [f"{key}: {value}" for key, value in head.items() if f"{key}:" not in text]
    (runs / "bad" / "config.yaml").write_text(text if text[0] in "&!\0" else "\n".join([*lines, text]))
    frame = load_results(runs)
    assert frame["status"].tolist() == ["unfinished" if text == "model: 1" else "damaged", *["completed"] * 6]


def test_settings_that_json_does_not_have_become_texts(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text(
        "{name: x, dataset: {name: y}, seed: 1, model: {a: 2020-01-01, 3: !!set {b}}}"
    )
    run = load_results(tmp_path).iloc[0]
    assert (run["config.model.a"], run["config.model.3"]) == ("2020-01-01", "{'b'}")


def test_texts_that_are_no_path(runs: Path) -> None:
    for text in ("x" * 5000, "\0"):
        with pytest.raises(UserError, match="there is no such folder"):
            find_runs([text])
    assert len(find_runs([str(runs), f"model=resnet,{','.join('abc' * 2000)}"])[1]) == 3


def test_odd_values_that_matter_to_no_row_are_read(tmp_path: Path) -> None:
    odd: dict[str, Any] = {
        "device": ["a"],
        "precision": 16,
        "finished": "yesterday",
        "versions": {"torch": 2},
        "val_loss": math.nan,
        "command": 3,
    }
    run = one(write_completed(tmp_path, "resnet", 1, 0.9, **odd))
    assert (run.status, run.device, run.precision, run.versions) == ("completed", "['a']", "16", {"torch": "2"})
    assert run.command == "3"
    assert is_absent(run.val_loss)
    assert is_absent(run.finished) or run.finished is pd.NaT


def test_lone_surrogates_are_replaced(tmp_path: Path) -> None:
    write_completed(tmp_path, "resnet", 1, 0.9, device="\ud800 GPU 😀")
    assert one(tmp_path).device == "? GPU 😀"


def test_a_folder_whose_name_is_not_utf8(tmp_path: Path) -> None:
    folder = Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9"))
    write_completed(folder, "resnet", 1, 0.9)
    assert Path(one(tmp_path).folder).is_dir()


def test_failed_running_unfinished_and_pruned(tmp_path: Path) -> None:
    failed = result(config("vgg", seed=2), status="failed", error="RuntimeError: CUDA out of memory\nsecond line")
    write_run(tmp_path / "a", failed)
    write_unfinished(tmp_path / "b", config("nin", seed=3, lr=0.5))
    write_run(tmp_path / "c", result(config("nin"), status="pruned"))
    going = write_run(tmp_path / "d", failed)
    with (going / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        frame = load_results(tmp_path)
    assert frame["status"].tolist() == ["failed", "unfinished", "pruned", "running"]
    assert frame["model"].tolist() == ["vgg", "nin", "nin", "vgg"]
    assert frame["seed"].tolist() == [2, 3, 1, 2]
    assert frame["config.optimizer.lr"].tolist() == [0.1, 0.5, 0.1, 0.1]
    assert frame["problem"].tolist() == [failed["error"], "", "", ""]
    assert frame["command"].iloc[0] == "python -m cnnzoo.run model=vgg seed=2"
    assert load_results(tmp_path)["status"].iloc[3] == "failed", "the lock goes with its process"


def test_an_unfinished_run_has_the_settings_of_its_completed_others(runs: Path) -> None:
    write_unfinished(runs / "open", config("resnet", seed=9))
    frame = load_results(runs, ["model=resnet"])
    assert set(frame["status"]) == {"completed", "unfinished"}
    assert frame["settings"].nunique() == 1


def test_a_run_that_began_without_a_configuration(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / ".lock").touch()
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "config.yaml").write_text("model: {x: ]")
    (tmp_path / "c").mkdir()
    (tmp_path / "c" / "config.yaml").write_text("services: {web: 1}")
    frame = load_results(tmp_path)
    assert frame["status"].tolist() == ["unfinished", "damaged", "damaged"]
    assert frame["problem"].tolist() == ["", *["config.yaml is not one of cnnzoo's, or cut off"] * 2]


def test_settings_come_from_the_configuration_if_the_result_has_none(tmp_path: Path) -> None:
    expected = {}
    for lr in (0.1, 0.2):
        folder = write_completed(tmp_path, "resnet", 1, 0.9, lr=lr)
        expected[lr] = one(folder).settings
        outcome = json.loads((folder / "result.json").read_text())
        del outcome["config"]
        (folder / "result.json").write_text(json.dumps(outcome))
    frame = load_results(tmp_path)
    assert dict(zip(frame["config.optimizer.lr"], frame["settings"], strict=True)) == expected


def test_filters_name_what_there_is(runs: Path) -> None:
    for wrong, message in (
        ("model=resnat", "model=resnat: no run has that. Did you mean 'resnet'? There is model=densenet,resnet."),
        ("optimizer.lrr=1", "no run has the key 'optimizer.lrr'. Did you mean 'optimizer.lr'?"),
        ("resnet", "resnet: expected a filter"),
    ):
        with pytest.raises(UserError) as error:
            load_results(runs, [wrong])
        assert message in str(error.value)


@pytest.mark.parametrize(
    ("filters", "count"),
    [
        (["optimizer=SGD"], 6),
        (["optimizer._target_=SGD"], 6),
        (["config.optimizer.lr=1e-1"], 6),
        (["augmentation.scale=[0.8,1.0]", "seed=2,3"], 4),
        (["device=cpu", "status=completed"], 6),
        (["trainer.gradient_clip_val=null"], 6),
    ],
)
def test_filters(runs: Path, filters: list[str], count: int) -> None:
    assert len(load_results(runs, filters)) == count


def test_filters_keep_runs_whose_value_is_not_known_yet(runs: Path) -> None:
    for model in ("resnet", "vgg"):
        write_unfinished(runs / f"open-{model}", config(model, seed=9))
    (runs / "damaged").mkdir()
    (runs / "damaged" / "result.json").touch()

    def found(text: str) -> set[str]:
        return {Path(folder).name for folder in load_results(runs, [text])["folder"] if "seed" not in folder}

    assert found("model=resnet") == {"open-resnet", "damaged"}
    assert found("device=cpu") == {"open-resnet", "open-vgg", "damaged"}


def test_setting_of_a_section_is_its_class(runs: Path) -> None:
    frame = load_results(runs, ["seed=1"])
    assert setting(frame, "optimizer") == ["SGD", "SGD"]
    assert setting(frame, "model") == ["densenet", "resnet"]
    assert all(map(is_absent, setting(frame, "nonsense")))


def test_folders_of_a_command_line(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(runs)
    write_completed(runs / "lr=0.1", "vgg", 1, 0.9)
    folders, frame = find_runs(["lr=0.1", "model=vgg", "."])
    assert folders == ["lr=0.1", "."]
    assert len(frame) == 1
    for where, message in (
        (["model=vgg"], "no folder given"),
        (["nowhere"], "nowhere: there is no such folder"),
        (["resnet-0.1/seed1/checkpoints"], "no runs there"),
    ):
        with pytest.raises(UserError, match=message):
            find_runs(where)


def test_ten_thousand_runs_are_read_in_seconds(tmp_path: Path) -> None:
    """A tenth of them here, in a tenth of five seconds, where a busy machine may take four times as long."""
    write_many(tmp_path, 1000)
    begin = time.perf_counter()
    frame = load_results(tmp_path)
    assert time.perf_counter() - begin < 2
    assert len(frame) == 1000
