"""Pictures of sweeps, on folders with invented figures: what is drawn, against a plain reckoning from the files."""

import csv
import itertools
import json
import math
import runpy
import statistics
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.colors import to_hex
from matplotlib.text import Annotation
from torchvision.datasets import FashionMNIST

from cnnzoo.figures import accuracy_cost, class_accuracy, learning_curves, style
from cnnzoo.figures.classes import class_names
from cnnzoo.figures.published import read_curves
from cnnzoo.figures.runs import Series, gather, main
from cnnzoo.results.configurations import Configurations
from cnnzoo.results.statistics import pareto_front
from cnnzoo.results.table import find

make_runs = runpy.run_path(str(Path(__file__).parents[1] / "benchmarks" / "make_runs.py"))
config, result, write_run = make_runs["config"], make_runs["result"], make_runs["write_run"]
PANELS = ("val_accuracy", "train_accuracy")
IMAGES, CLASSES = 200, 10


def write(root: Path, model: str, seed: int, *, lr: float = 0.1, epochs: int = 6, **values: Any) -> Path:
    """A completed run with curves and predictions."""
    draw = np.random.default_rng([len(model), seed, round(1e4 * lr)])
    settings = config(model, seed=seed, lr=lr)
    labels = draw.integers(0, CLASSES, IMAGES)
    logits = draw.normal(size=(IMAGES, CLASSES)).astype(np.float32)
    logits[np.arange(IMAGES), labels] += 2.5
    accuracy = float((logits.argmax(1) == labels).mean())
    figures = {"test_accuracy": accuracy, "val_accuracy": accuracy, "epochs": epochs} | values
    folder = write_run(root / f"{model}-{lr}" / f"seed{seed}", result(settings, **figures))
    np.savez_compressed(folder / "predictions.npz", logits=logits, labels=labels)
    rows = [[e, *map(float, draw.random(2))] for e in range(epochs)]
    (folder / "metrics.csv").write_text("\n".join(",".join(map(str, r)) for r in [["epoch", *PANELS], *rows]) + "\n")
    return folder


def unfinished(folder: Path) -> Path:
    (folder / "result.json").unlink()
    return folder


def column(folder: Path, name: str) -> list[float]:
    with (folder / "metrics.csv").open() as file:
        return [float(row[name]) for row in csv.DictReader(file)]


@pytest.fixture
def sweep(tmp_path: Path) -> Path:
    """Two networks, three seeds each."""
    for model, seed in itertools.product(("resnet", "densenet"), (1, 2, 3)):
        write(tmp_path / "runs", model, seed)
    return tmp_path / "runs"


@pytest.fixture
def series(tmp_path: Path) -> Callable[..., list[Series]]:
    """What is drawn of the runs in a folder on CIFAR-10."""

    def read(*where: Any, published: Path | None = None) -> list[Series]:
        configurations = Configurations()
        _, runs = find([str(word) for word in where], configurations)
        return gather(runs, configurations, tmp_path / "weights", published)[0]["cifar10"]

    return read


@pytest.fixture
def call(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, list[str], str]]:
    """Runs the command; returns its exit code, the names of what it wrote to `pictures`, and stderr."""

    def run(*words: Any) -> tuple[int, list[str], str]:
        code = main([*map(str, words), "--out", str(tmp_path / "pictures")])
        out, err = capsys.readouterr()
        return code, [str(Path(line).relative_to(tmp_path / "pictures")) for line in out.splitlines()], err

    return run


def lines(axes: Any, colour: str, linestyle: str = "-") -> list[Any]:
    return [
        line for line in axes.lines if to_hex(line.get_color()) == colour and line.get_linestyle() == linestyle
    ]  # fmt: skip


def notes(figure: Any) -> str:
    return " ".join(figure.legends[0].get_title().get_text().split())


# learning curves


def test_curves_are_means_and_bands_standard_deviations(sweep, series):
    found = series(sweep)
    figure = learning_curves.learning_curves(found)
    assert figure is not None
    for axes, key in zip(figure.axes, PANELS, strict=True):
        assert len(axes.collections) == 2
        for one, colour in zip(found, style.COLOURS, strict=False):
            columns = [column(sweep / f"{one.name}-0.1" / f"seed{seed}", key) for seed in (1, 2, 3)]
            mean = [100 * statistics.fmean(values) for values in zip(*columns, strict=True)]
            std = [100 * statistics.stdev(values) for values in zip(*columns, strict=True)]
            (line,) = lines(axes, colour)
            assert list(line.get_xdata()) == [1, 2, 3, 4, 5, 6]
            assert line.get_ydata() == pytest.approx(mean)
            (band,) = [band for band in axes.collections if to_hex(band.get_facecolor()[0]) == colour]
            edge = {(round(x), y) for x, y in band.get_paths()[0].vertices}
            for epoch in range(6):
                heights = [y for x, y in edge if x == epoch + 1]
                assert min(heights) == pytest.approx(mean[epoch] - std[epoch])
                assert max(heights) == pytest.approx(mean[epoch] + std[epoch])
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == [one.name for one in found]
    assert "means over 3 seeds, bands ± 1 standard deviation" in notes(figure)


def test_a_mean_ends_with_its_shortest_run(tmp_path, series):
    folders = [write(tmp_path / "runs", "resnet", seed, epochs=epochs) for seed, epochs in ((1, 4), (2, 6), (3, 9))]
    figure = learning_curves.learning_curves(series(tmp_path / "runs"))
    assert figure is not None
    mean, *rest = sorted(lines(figure.axes[0], style.COLOURS[0]), key=lambda line: -line.get_linewidth())
    assert list(mean.get_xdata()) == [1, 2, 3, 4]
    assert sorted(max(line.get_xdata()) for line in rest) == [6, 9]
    for line, folder in zip(sorted(rest, key=lambda line: max(line.get_xdata())), folders[1:], strict=True):
        assert line.get_ydata() == pytest.approx([100 * value for value in column(folder, "val_accuracy")[3:]])
    assert "seeds that trained for longer" in notes(figure)


def test_unfinished_runs_are_lines_of_their_own(sweep, series, call):
    begun = [unfinished(write(sweep, "resnet", 7, epochs=2)), unfinished(write(sweep, "googlenet", 1, epochs=3))]
    with (begun[0] / "metrics.csv").open("a") as file:
        file.write("2,0.5")  # a line that is being written
    found = series(sweep)
    assert [one.name for one in found][2:] == ["googlenet"]
    resnet = next(i for i, one in enumerate(found) if one.name == "resnet")
    figure = learning_curves.learning_curves(found)
    assert figure is not None
    for i, folder, done in ((resnet, begun[0], 2), (2, begun[1], 3)):
        dotted = [
            line for line in figure.axes[0].lines if line.is_dashed() and to_hex(line.get_color()) == style.COLOURS[i]
        ]
        assert [len(line.get_xdata()) for line in dotted] == [done]
        assert dotted[0].get_ydata() == pytest.approx([100 * value for value in column(folder, "val_accuracy")[:done]])
    (mean,) = lines(figure.axes[0], style.COLOURS[resnet])
    assert len(mean.get_xdata()) == 6, "the unfinished run is no part of the mean"
    assert "googlenet (epoch 3 of 180)" in [text.get_text() for text in figure.legends[0].get_texts()]
    assert call(sweep, "model=googlenet")[1] == ["cifar10/learning_curves.png"], "nothing else is known of it"


def write_events(folder: Path, **tags: list[float]) -> Path:
    from tensorboard.compat.proto.event_pb2 import Event
    from tensorboard.compat.proto.summary_pb2 import Summary
    from tensorboard.summary.writer.event_file_writer import EventFileWriter

    folder.mkdir(parents=True)
    writer = EventFileWriter(str(folder))
    for tag, values in tags.items():
        for i, value in enumerate(values):
            summary = Summary(value=[Summary.Value(tag=tag, simple_value=value)])
            writer.add_event(Event(step=351 * (i + 1), summary=summary))
    writer.close()
    return folder


def test_published_curves_stand_beside(tmp_path, series, call):
    folder = write(tmp_path / "runs", "resnet", 1, epochs=3)
    write(tmp_path / "runs", "densenet", 1, epochs=3)
    settings = json.loads((folder / "config.yaml").read_text())
    settings["published"] = {"weights": {"file": "uvadlc_tutorial5/ResNet.ckpt"}}
    (folder / "config.yaml").write_text(json.dumps(settings))
    assert all(one.published is None for one in series(tmp_path / "runs")), "they are not at hand"

    values = [0.5 + i / 64 for i in range(20)]
    write_events(tmp_path / "weights/uvadlc_tutorial5/tensorboards/ResNet", val_acc=values, train_acc=values[::-1])
    for where in (None, tmp_path / "weights/uvadlc_tutorial5/tensorboards"):
        found = series(tmp_path / "runs", published=where)
        colour = style.COLOURS[[one.name for one in found].index("resnet")]
        figure = learning_curves.learning_curves(found)
        assert figure is not None
        for axes, expected in zip(figure.axes, (values, values[::-1]), strict=True):
            (line,) = lines(axes, colour, "--")
            assert list(line.get_xdata()) == list(range(1, 21))
            assert line.get_ydata() == pytest.approx([100 * value for value in expected], rel=1e-6)  # float32
            assert axes.get_xscale() == "log", "3 epochs beside 20"
        assert "ResNet, published, 20 epochs" in [text.get_text() for text in figure.legends[0].get_texts()]

    write_events(tmp_path / "others/ResNet", loss=[1.0])
    code, _, err = call(tmp_path / "runs", "--published", tmp_path / "others")
    assert code == 0
    assert f"no TensorBoard event file with val_acc and train_acc: {tmp_path}/others/ResNet" in err
    code, _, err = call(tmp_path / "runs", "model=densenet", "--published", tmp_path / "others")
    assert code == 0
    assert "no run here is of a network with published weights" in err


def test_the_authors_curves_end_in_the_published_figures(published_weights):
    """180 epochs; the best validation accuracy is the one of the published table."""
    folder = published_weights / "uvadlc_tutorial5" / "tensorboards"
    if not folder.is_dir():
        pytest.skip("the authors' TensorBoard files are not there")
    for name, best in (("GoogleNet", 0.9042), ("ResNet", 0.9184), ("ResNetPreAct", 0.9180), ("DenseNet", 0.9072)):
        curves = read_curves(folder / name)
        assert list(curves["val_accuracy"]) == list(curves["train_accuracy"]) == list(range(1, 181))
        assert max(curves["val_accuracy"].values()) == pytest.approx(best, abs=5e-5)


# accuracy against cost


def beaten(points: list[tuple[float, float]]) -> list[bool]:
    """By brute force: whether some other point costs no more and is no less accurate, and better in one of the two."""
    return [
        any(c <= cost and a >= accuracy and (c, a) != (cost, accuracy) for c, a in points) for cost, accuracy in points
    ]


def test_pareto_front_by_brute_force():
    draw = np.random.default_rng(0)
    for n in (1, 2, 5, 20):
        for _ in range(50):
            points = [(float(c), float(a)) for c, a in draw.integers(0, 8, (n, 2))]  # with many ties
            front = pareto_front(*zip(*points, strict=True))
            assert sorted(front) == [i for i, worse in enumerate(beaten(points)) if not worse]
            assert [points[i] for i in front] == sorted(points[i] for i in front)


PUBLISHED = {"source": "a tutorial", "test_accuracy": 0.97, "params": 260_000, "epochs": 180}


def test_points_are_means_with_standard_errors_and_the_front_is_marked(tmp_path, series):
    accuracies = {"a": (0.7, 0.72, 0.71), "b": (0.8, 0.82, 0.84), "c": (0.75, 0.75, 0.76), "d": (0.9,)}
    params = {"a": 100_000, "b": 250_000, "c": 300_000, "d": 400_000}
    for model, shares in accuracies.items():
        for seed, share in enumerate(shares):
            beside = PUBLISHED if model == "b" else None
            write(
                tmp_path / "runs", model, seed, test_accuracy=share, params=params[model], macs=7, published=beside,
                train_seconds=7200 * (seed + 1),
            )  # fmt: skip
    figure = accuracy_cost.accuracy_cost(series(tmp_path / "runs"))
    assert figure is not None
    assert [axes.get_xlabel() for axes in figure.axes] == ["parameters", "MACs", "training time (h)"]
    first, second, third = figure.axes
    means = {model: 100 * statistics.fmean(shares) for model, shares in accuracies.items()}
    marks = {tuple(line.get_xydata()[0]) for line in first.lines if len(line.get_xdata()) == 1}
    expected = {(params[model], mean) for model, mean in means.items()} | {(260_000, 97.0)}
    assert np.array(sorted(marks)) == pytest.approx(np.array(sorted(expected)))
    bars = {bar[0][0][0]: bar[0][:, 1] for bars in first.collections for bar in [bars.get_segments()]}
    for model in "abc":
        error = 100 * statistics.stdev(accuracies[model]) / math.sqrt(3)
        assert bars[params[model]] == pytest.approx([means[model] - error, means[model] + error])
    assert params["d"] not in bars, "a single run has no error"
    (front,) = [line for line in first.lines if line.get_drawstyle() == "steps-post"]
    assert front.get_xydata()[:-1] == pytest.approx(np.array([(params[m], means[m]) for m in "abd"]))
    (front,) = [line for line in second.lines if line.get_drawstyle() == "steps-post"]
    assert front.get_xydata()[:-1] == pytest.approx(np.array([(7, means["d"])])), "all cost the same"
    assert {round(line.get_xdata()[0], 6) for line in third.lines if len(line.get_xdata()) == 1} == {2.0, 4.0}
    assert "b: 6 epochs here, 180 published" in notes(figure)


def labels(figure: Any) -> list[list[Annotation]]:
    return [[text for text in axes.texts if isinstance(text, Annotation)] for axes in figure.axes]


@pytest.mark.parametrize("count", [4, 9])
def test_labels_do_not_overlap(tmp_path, series, count):
    for i in range(count):
        accuracy = 0.9 + 0.004 * (i % 3)
        write(tmp_path / "runs", f"net{i}", 1, test_accuracy=accuracy, params=100_000 + 9_000 * i)
    with style.look():
        figure = accuracy_cost.accuracy_cost(series(tmp_path / "runs"))
        assert figure is not None
        figure.draw_without_rendering()
        for axes, found in zip(figure.axes, labels(figure), strict=True):
            assert len(found) == count
            boxes = [super(Annotation, text).get_window_extent() for text in found]
            assert not any(a.overlaps(b) for a, b in itertools.combinations(boxes, 2))
            inside = axes.get_window_extent()
            assert all(inside.containsx(box.x0) and inside.containsx(box.x1) for box in boxes)


def test_of_forty_configurations_the_best_are_named(tmp_path, series, call):
    for i in range(40):
        write(tmp_path / "runs", "resnet", 1, lr=round(0.01 * (i + 1), 2), params=1000 - i, test_accuracy=0.5 + i / 100)
    found = series(tmp_path / "runs")
    assert [one.figures["test_accuracy_mean"] for one in found if one.figures][:2] == [0.89, 0.88], "the table's order"
    curves = learning_curves.learning_curves(found)
    assert curves is not None
    named = [text.get_text() for text in curves.legends[0].get_texts()]
    assert named == [*(one.name for one in found[:10]), "30 others"]
    assert "first 10 of 40 configurations" in notes(curves)
    cost = accuracy_cost.accuracy_cost(found)
    assert cost is not None
    assert [label.get_text() for label in labels(cost)[0]] == [str(i) for i in range(1, 11)]
    assert call(tmp_path / "runs")[0] == 0


# accuracy of each class


def test_class_accuracies_by_counting(sweep, series):
    found = series(sweep)
    figure = class_accuracy.class_accuracy(found)
    assert figure is not None
    drawn = figure.axes[0].collections[0].get_array()
    for row, one in enumerate(found):
        shares = []
        for seed in (1, 2, 3):
            with np.load(sweep / f"{one.name}-0.1" / f"seed{seed}" / "predictions.npz") as arrays:
                pairs = list(zip(arrays["logits"].argmax(1).tolist(), arrays["labels"].tolist(), strict=True))
            right = [sum(p == t == c for p, t in pairs) for c in range(CLASSES)]
            shares.append([right[c] / sum(t == c for _, t in pairs) for c in range(CLASSES)])
        expected = [100 * statistics.fmean(values) for values in zip(*shares, strict=True)]
        assert drawn[row].tolist() == pytest.approx(expected)
        written = [text.get_text() for text in figure.axes[0].texts if text.get_position()[1] == row]
        overall = 100 * one.figures["test_accuracy_mean"] if one.figures else 0
        assert written == [f"{value:.1f}" for value in [*expected, overall]]
    ticks = [label.get_text() for label in figure.axes[0].get_xticklabels()]
    assert ticks[2:4] == ["bird", "cat"]
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == [one.name for one in found]


def test_a_class_without_test_images_is_left_white(tmp_path, series):
    folder = write(tmp_path / "runs", "resnet", 1, test_accuracy=0.75)
    np.savez(folder / "predictions.npz", logits=np.eye(10)[[0, 1, 3, 4]], labels=np.array([0, 1, 3, 3]))
    figure = class_accuracy.class_accuracy(series(tmp_path / "runs"))
    assert figure is not None
    drawn = np.ma.filled(figure.axes[0].collections[0].get_array(), np.nan)[0]
    assert drawn[[0, 1, 3]].tolist() == [100, 100, 50]
    assert np.isnan(np.delete(drawn, [0, 1, 3])).all()


def test_a_hundred_classes_stand_by_accuracy():
    shares = np.random.default_rng(0).random((2, 100))
    one = Series("resnet", {"test_accuracy_mean": 0.5}, classes=shares, class_names=[str(i) for i in range(100)])
    figure = class_accuracy.class_accuracy([one])
    assert figure is not None
    drawn = figure.axes[0].collections[0].get_array()[0].tolist()
    assert drawn == pytest.approx(sorted(100 * (a + b) / 2 for a, b in shares.T.tolist()))


def test_class_names_are_torchvisions(cifar10, tmp_path):
    def torchvision(name: str) -> dict[str, Any]:
        return {"source": {"_target_": "cnnzoo.data.sources.torchvision_set", "name": name}}

    assert list(class_names(torchvision("FashionMNIST"), 10)) == FashionMNIST.classes
    meta = np.load(cifar10 / "cifar-10-batches-py" / "batches.meta", allow_pickle=True)
    assert list(class_names(torchvision("CIFAR10"), 10)) == meta["label_names"]
    assert list(class_names(torchvision("MNIST"), 10)) == [str(digit) for digit in range(10)]
    for name in ("wolf", "dog"):
        (tmp_path / "mine" / name).mkdir(parents=True)
    mine = {"source": {"_target_": "cnnzoo.data.image_folder.image_folder", "root": str(tmp_path / "mine")}}
    assert class_names(mine, 2) == ["dog", "wolf"]
    mine["source"]["root"] = "/not/on/this/machine"
    assert class_names(mine, 2) == ["0", "1"]


# the command


def test_the_command(sweep, tmp_path, call):
    code, written, err = call(sweep, "--formats", "png,pdf")
    names = ("learning_curves", "accuracy_cost", "class_accuracy")
    assert (code, err) == (0, "")
    assert written == [f"cifar10/{name}.{suffix}" for name in names for suffix in ("png", "pdf")]
    for path in (tmp_path / "pictures" / name for name in written):
        assert path.read_bytes().startswith(b"\x89PNG" if path.suffix == ".png" else b"%PDF")
    assert len(list((tmp_path / "pictures" / "cifar10").iterdir())) == 6, "nothing else is left there"


def test_damaged_files_are_named_and_the_rest_is_drawn(sweep, call):
    write_run(sweep / "failed", result(config("vgg"), status="failed", error="ValueError: no"))
    (sweep / "resnet-0.1/seed1/metrics.csv").write_text("epoch,val_accuracy,train_accuracy\n0,0.1,zero\n")
    (sweep / "resnet-0.1/seed2/metrics.csv").write_text("epoch,loss\n0,0.1\n")
    (sweep / "resnet-0.1/seed3/metrics.csv").unlink()
    (sweep / "resnet-0.1/seed1/predictions.npz").write_bytes(b"PK\x03\x04 cut off")
    np.savez(sweep / "resnet-0.1/seed2/predictions.npz", logits=np.ones((4, 3)), labels=np.array([-1, 0, 1, 2]))
    code, written, err = call(sweep)
    assert code == 0
    assert len(written) == 3
    for words in (
        f"1 run failed, not shown: {sweep}/failed (ValueError: no)",
        f"metrics.csv is damaged: {sweep}/resnet-0.1/seed1",
        f"metrics.csv lacks columns: {sweep}/resnet-0.1/seed2",
        f"no metrics.csv: {sweep}/resnet-0.1/seed3",
        f"predictions.npz is damaged: {sweep}/resnet-0.1/seed1",
        f"the labels in predictions.npz are no class numbers: {sweep}/resnet-0.1/seed2",
    ):
        assert words in err


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
def test_mistakes(words, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    write(tmp_path / "one", "resnet", 1)
    unfinished(write_run(tmp_path / "open" / "seed1", result(config())))
    assert main(words) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert message in err


def test_a_picture_is_whole_or_not_there(tmp_path, call, monkeypatch):
    write(tmp_path / "runs", "resnet", 1)
    (path,) = [tmp_path / "pictures" / name for name in call(tmp_path / "runs")[1] if "curves" in name]
    before = path.read_bytes()

    def full_disk(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", full_disk)
    code, _, err = call(tmp_path / "runs")
    assert code == 1
    assert "No space left" in err
    assert path.read_bytes() == before
    assert len(list(path.parent.iterdir())) == 3


def test_reads_without_torch(sweep, cnnzoo, tmp_path):
    script = "import sys; from cnnzoo.figures.runs import main; main(sys.argv[1:]); sys.exit('torch' in sys.modules)"
    words = [sys.executable, "-c", script, str(sweep), "--out", str(tmp_path)]
    assert subprocess.run(words, check=False, stdout=subprocess.DEVNULL).returncode == 0
    answer = cnnzoo("figures", "runs", str(sweep))
    assert answer.returncode == 0, answer.stderr
    assert str(tmp_path / "outputs/figures/cifar10/accuracy_cost.png") in answer.stdout
    assert cnnzoo("figures", "runs", str(tmp_path / "nowhere")).returncode == 1
