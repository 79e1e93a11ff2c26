"""Runs with invented curves and predictions, and what the figures show of them."""

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cnnzoo.figures.series import Series, load_series
from cnnzoo.results.load import find_runs
from tests.factories import config, result, write_run

IMAGES, CLASSES = 200, 10


@pytest.fixture(scope="session")
def write() -> Callable[..., Path]:
    """`write(root, model, seed, lr=0.1, epochs=6, **values)`: a completed run."""

    def write_drawable(
        root: Path, model: str, seed: int, *, lr: float = 0.1, epochs: int = 6, dataset: str = "cifar10", **values: Any
    ) -> Path:
        draw = np.random.default_rng([len(model), seed, round(1e4 * lr)])
        labels = draw.integers(0, CLASSES, IMAGES)
        logits = draw.normal(size=(IMAGES, CLASSES)).astype(np.float32)
        logits[np.arange(IMAGES), labels] += 2.5
        accuracy = float((logits.argmax(1) == labels).mean())
        metrics = {"test_accuracy": accuracy, "val_accuracy": accuracy, "epochs": epochs} | values
        outcome = result(config(model, dataset, seed, lr), **metrics)
        folder = write_run(root / f"{model}-{lr}" / f"seed{seed}", outcome)
        np.savez_compressed(folder / "predictions.npz", logits=logits, labels=labels)
        rows = "".join(f"{epoch},{draw.random()},{draw.random()}\n" for epoch in range(epochs))
        (folder / "metrics.csv").write_text(f"epoch,val_accuracy,train_accuracy\n{rows}")
        return folder

    return write_drawable


@pytest.fixture(scope="session")
def write_unfinished(write: Callable[..., Path]) -> Callable[..., Path]:
    """`write_unfinished(root, model, seed, ...)`: a run that has no result yet."""

    def write_without_result(*args: Any, **kwargs: Any) -> Path:
        folder = write(*args, **kwargs)
        (folder / "result.json").unlink()
        return folder

    return write_without_result


@pytest.fixture
def sweep(tmp_path: Path, write: Callable[..., Path]) -> Path:
    """Two networks, three seeds each."""
    for model, seed in itertools.product(("resnet", "densenet"), (1, 2, 3)):
        write(tmp_path / "runs", model, seed)
    return tmp_path / "runs"


@pytest.fixture
def load(tmp_path: Path) -> Callable[..., Any]:
    """`load(*where, published=None)`: series, rows and notes of the runs in a folder; `tmp_path` has the weights."""

    def read(*where: Any, published: Path | None = None) -> Any:
        return load_series(find_runs([str(word) for word in where])[1], tmp_path / "weights", published)

    return read


@pytest.fixture
def series(load: Callable[..., Any]) -> Callable[..., list[Series]]:
    """`series(*where, published=None)`: what is drawn of the runs in a folder."""
    return lambda *where, **kwargs: load(*where, **kwargs)[0]


@pytest.fixture
def write_events() -> Callable[..., Path]:
    """`write_events(folder, **tags)`: a TensorBoard event file with these scalars, 351 steps an epoch."""
    from tensorboard.compat.proto.event_pb2 import Event
    from tensorboard.compat.proto.summary_pb2 import Summary
    from tensorboard.summary.writer.event_file_writer import EventFileWriter

    def write_file(folder: Path, **tags: list[float]) -> Path:
        folder.mkdir(parents=True)
        writer = EventFileWriter(str(folder))
        for tag, values in tags.items():
            for i, value in enumerate(values):
                summary = Summary(value=[Summary.Value(tag=tag, simple_value=value)])
                writer.add_event(Event(step=351 * (i + 1), summary=summary))
        writer.close()
        return folder

    return write_file
