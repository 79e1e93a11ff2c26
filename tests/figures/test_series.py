"""What is read of a sweep's runs, and the notes on what is left out."""

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from cnnzoo.figures.series import Series
from tests.factories import config, result, write_run

Load = Callable[..., Any]
Read = Callable[..., list[Series]]
Write = Callable[..., Path]


def test_curves_are_those_of_metrics_csv(sweep: Path, series: Read) -> None:
    for one in series(sweep):
        assert len(one.completed) == 3
        for seed, curves in enumerate(one.completed, 1):
            with (sweep / f"{one.name}-0.1" / f"seed{seed}" / "metrics.csv").open() as file:
                rows = list(csv.DictReader(file))
            assert curves.index.tolist() == [1, 2, 3, 4, 5, 6]
            for column in ("val_accuracy", "train_accuracy"):
                assert curves[column].tolist() == [float(row[column]) for row in rows]


def test_epochs_without_validation(tmp_path: Path, write: Write, series: Read) -> None:
    folder = write(tmp_path / "runs", "resnet", 1)
    (folder / "metrics.csv").write_text("epoch,val_accuracy,train_accuracy\n0,,0.5\n1,0.5,0.625\n")
    (curves,) = series(tmp_path / "runs")[0].completed
    assert curves["val_accuracy"].dropna().to_dict() == {2: 0.5}
    assert curves["train_accuracy"].to_dict() == {1: 0.5, 2: 0.625}


def test_class_accuracies_by_counting(sweep: Path, series: Read) -> None:
    for one in series(sweep):
        assert one.class_accuracy.columns.tolist()[2:4] == ["bird", "cat"]
        for seed, shares in enumerate(one.class_accuracy.to_numpy(), 1):
            with np.load(sweep / f"{one.name}-0.1" / f"seed{seed}" / "predictions.npz") as arrays:
                pairs = list(zip(arrays["logits"].argmax(1).tolist(), arrays["labels"].tolist(), strict=True))
            right = [sum(p == t == c for p, t in pairs) for c in range(10)]
            assert shares.tolist() == pytest.approx([right[c] / sum(t == c for _, t in pairs) for c in range(10)])


def test_class_without_test_images(tmp_path: Path, write: Write, series: Read) -> None:
    folder = write(tmp_path / "runs", "resnet", 1, test_accuracy=0.75)
    np.savez(folder / "predictions.npz", logits=np.eye(10)[[0, 1, 3, 4]], labels=np.array([0, 1, 3, 3]))
    shares = series(tmp_path / "runs")[0].class_accuracy.iloc[0].to_numpy()
    assert shares[[0, 1, 3]].tolist() == [1, 1, 0.5]
    assert np.isnan(np.delete(shares, [0, 1, 3])).all()


def test_order_is_the_comparisons(tmp_path: Path, write: Write, write_unfinished: Write, load: Load) -> None:
    runs = tmp_path / "runs"
    write_unfinished(runs, "zfnet", 1)
    write_unfinished(runs, "alexnet", 1)
    write_unfinished(runs, "resnet", 2, lr=0.2)
    write(runs, "resnet", 1, lr=0.3, test_accuracy=0.5)
    write(runs, "resnet", 1, lr=0.2, test_accuracy=0.6)
    write(runs, "resnet", 1, lr=0.1, test_accuracy=0.7)
    series, rows, _ = load(runs)
    completed = ["resnet (lr=0.1)", "resnet (lr=0.2)", "resnet (lr=0.3)"]
    assert [one.name for one in series] == [*completed, "alexnet", "zfnet"]
    assert rows["label"].tolist() == completed
    assert [one.test_accuracy for one in series[:3]] == [0.7, 0.6, 0.5]
    assert [len(one.begun) for one in series] == [0, 1, 0, 1, 1], "an unfinished seed belongs to its configuration"
    assert {one.max_epochs for one in series} == {180}


def test_begun_rows_have_the_same_names_everywhere(
    tmp_path: Path, write: Write, write_unfinished: Write, load: Load
) -> None:
    write(tmp_path / "runs", "resnet", 1, lr=0.1)
    write_unfinished(tmp_path / "runs", "resnet", 1, lr=0.2)
    series, rows, _ = load(tmp_path / "runs")
    assert [one.name for one in series] == ["resnet (lr=0.1)", "resnet (lr=0.2)"]
    assert rows["label"].tolist() == ["resnet (lr=0.1)"]


def test_line_that_is_being_written_does_not_count(tmp_path: Path, write_unfinished: Write, series: Read) -> None:
    with (write_unfinished(tmp_path / "runs", "resnet", 1, epochs=2) / "metrics.csv").open("a") as file:
        file.write("2,0.5")
    assert series(tmp_path / "runs")[0].begun[0].index.tolist() == [1, 2]


def test_damaged_files_are_named(sweep: Path, load: Load) -> None:
    write_run(sweep / "failed", result(config("vgg"), status="failed", error="ValueError: no"))
    (sweep / "resnet-0.1/seed1/metrics.csv").write_text("epoch,val_accuracy,train_accuracy\n0,0.1,zero\n")
    (sweep / "resnet-0.1/seed2/metrics.csv").write_text("epoch,loss\n0,0.1\n")
    (sweep / "resnet-0.1/seed3/metrics.csv").unlink()
    (sweep / "densenet-0.1/seed1/metrics.csv").write_text("epoch,val_accuracy,train_accuracy\n,0.1,0.2\n")
    (sweep / "densenet-0.1/seed2/metrics.csv").write_text("epoch,val_accuracy,train_accuracy\n")
    (sweep / "resnet-0.1/seed1/predictions.npz").write_bytes(b"PK\x03\x04 cut off")
    np.savez(sweep / "resnet-0.1/seed2/predictions.npz", logits=np.ones((4, 3)), labels=np.array([-1, 0, 1, 2]))
    result_json = sweep / "resnet-0.1/seed3/result.json"
    result_json.write_text(json.dumps(json.loads(result_json.read_text()) | {"test_accuracy": 0.25}))
    np.savez(sweep / "resnet-0.1/seed3/predictions.npz", logits=np.ones((4, 3)), labels=np.array([0, 1, 2, 9**9]))
    series, _, notes = load(sweep)
    assert {one.name: (len(one.completed), len(one.class_accuracy)) for one in series} == {
        "resnet": (0, 0),
        "densenet": (1, 3),
    }
    assert set(notes) == {
        f"1 run failed, not shown: {sweep}/failed (ValueError: no)",
        f"left out, metrics.csv is damaged: {sweep}/resnet-0.1/seed1",
        f"left out, metrics.csv lacks columns: {sweep}/densenet-0.1/seed1; {sweep}/resnet-0.1/seed2",
        f"left out, no metrics.csv: {sweep}/resnet-0.1/seed3",
        f"left out, no epoch done: {sweep}/densenet-0.1/seed2",
        f"left out, predictions.npz is damaged: {sweep}/resnet-0.1/seed1",
        "left out, the labels in predictions.npz are no class numbers:"
        f" {sweep}/resnet-0.1/seed2; {sweep}/resnet-0.1/seed3",
    }


def name_weights(run: Path, file: str = "uvadlc_tutorial5/ResNet.ckpt") -> None:
    """Name published weights in a run's configuration."""
    settings = json.loads((run / "config.yaml").read_text())
    settings["published"] = {"weights": {"file": file}}
    (run / "config.yaml").write_text(json.dumps(settings))


@pytest.mark.parametrize("place", ["weights/uvadlc_tutorial5/tensorboards", "weights/tensorboards", "elsewhere"])
def test_published_curves_are_found(place: str, tmp_path: Path, write: Write, write_events: Write, load: Load) -> None:
    name_weights(write(tmp_path / "runs", "resnet", 1))
    write(tmp_path / "runs", "densenet", 1)
    write_events(tmp_path / place / "ResNet", val_acc=[0.25, 0.5], train_acc=[0.5, 0.75])
    series, _, notes = load(tmp_path / "runs", published=tmp_path / "elsewhere" if place == "elsewhere" else None)
    published = {one.name: one.published for one in series}
    assert published["densenet"] is None
    name, curves = published["resnet"]
    assert name == "ResNet"
    pd.testing.assert_frame_equal(
        curves, pd.DataFrame({"val_accuracy": [0.25, 0.5], "train_accuracy": [0.5, 0.75]}, index=[1, 2])
    )
    assert not any("published curves" in note for note in notes)


def test_missing_published_curves_are_named_in_one_line(tmp_path: Path, write: Write, load: Load) -> None:
    name_weights(write(tmp_path / "runs", "resnet", 1))
    name_weights(write(tmp_path / "runs", "densenet", 1), "uvadlc_tutorial5/DenseNet.ckpt")
    series, _, notes = load(tmp_path / "runs")
    assert [one.published for one in series] == [None, None]
    (note,) = [note for note in notes if "published curves" in note]
    assert note.startswith("left out, published curves not found (--published DIR names the folder that they are in): ")
    for name in ("ResNet", "DenseNet"):
        collection, without = (f"{tmp_path}/weights/{p}tensorboards/{name}" for p in ("uvadlc_tutorial5/", ""))
        assert f"{collection} or {without}" in note


def test_rows_of_a_search_share_one_published_curve(
    tmp_path: Path, write: Write, write_events: Write, series: Read
) -> None:
    for lr in (0.1, 0.2):
        name_weights(write(tmp_path / "runs", "resnet", 1, lr=lr))
    write_events(tmp_path / "weights/tensorboards/ResNet", val_acc=[0.25], train_acc=[0.5])
    assert [one.published is None for one in series(tmp_path / "runs")] == [False, True]


def test_published_folder_without_use(tmp_path: Path, write: Write, write_events: Write, load: Load) -> None:
    runs, others = tmp_path / "runs", tmp_path / "others"
    name_weights(write(runs, "resnet", 1))
    write(runs, "densenet", 1)
    write_events(others / "ResNet", loss=[1.0])
    message = f"left out, no TensorBoard event file with val_acc and train_acc: {others}/ResNet"
    assert message in load(runs, published=others)[2]
    message = f"--published {others}: no run here is of a network with published weights"
    assert message in load(runs, "model=densenet", published=others)[2]
