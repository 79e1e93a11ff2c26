"""The loss surface against a slow computation that moves one filter after the other."""

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from cnnzoo.config import run_folder
from cnnzoo.data.dataset import load_dataset
from cnnzoo.data.loaders import eval_loader
from cnnzoo.figures import surface
from cnnzoo.run import run
from cnnzoo.trained import load_model


@pytest.fixture
def trained(config: Callable[..., Any]) -> Path:
    """The folder of a finished run on digits."""
    small = config(
        "dataset=digits", "image_size=16", "model=resnet", "model.blocks_per_group=[1,1]", "model.widths=[8,16]",
        "trainer.max_epochs=2", "trainer.progress_bar=false", "logger=none",
    )  # fmt: skip
    run(small)
    return run_folder(small)


def test_losses_are_those_of_moved_weights(trained: Path) -> None:
    name, losses = surface.run_surface(trained, span=0.8, steps=3, images=100, seed=3)
    assert name == "resnet"
    model = load_model(trained)
    dataset = load_dataset(model.config.dataset)
    images, labels = next(iter(eval_loader(dataset, dataset.train, model.config)))
    for row, y in enumerate((-0.8, 0.0, 0.8)):
        for column, x in enumerate((-0.8, 0.0, 0.8)):
            moved = copy.deepcopy(model.network)
            for share, seed in ((x, 6), (y, 7)):
                generator = torch.Generator().manual_seed(seed)
                for own, weight in zip(model.network.parameters(), moved.parameters(), strict=True):
                    drawn = torch.randn(own.shape, generator=generator)
                    if own.ndim > 1:
                        for i in range(len(own)):
                            weight.data[i] += share * drawn[i] * own.data[i].norm() / drawn[i].norm()
            with torch.inference_mode():
                expected = F.cross_entropy(moved(images[:100]), labels[:100]).item()
            assert losses[row, column] == pytest.approx(expected, rel=1e-4)
    assert losses[1, 1] == losses.min()  # where training has ended


def test_goes_on_where_it_was_interrupted(trained: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = {"span": 0.5, "steps": 3, "images": 20, "seed": 0}
    _, whole = surface.run_surface(trained, **settings)  # type: ignore[arg-type]
    kept = trained / "figures" / "surface.npz"
    kept.unlink()
    computed = surface.loss_at
    calls: list[Any] = []

    def interrupted(*args: Any) -> float:
        calls.append(args)
        if len(calls) == 5:
            raise KeyboardInterrupt
        return computed(*args)

    monkeypatch.setattr(surface, "loss_at", interrupted)
    with pytest.raises(KeyboardInterrupt):
        surface.run_surface(trained, **settings)  # type: ignore[arg-type]
    _, resumed = surface.run_surface(trained, **settings)  # type: ignore[arg-type]
    assert len(calls) == 5 + 6  # the first row is not computed again
    np.testing.assert_array_equal(resumed, whole)
    surface.run_surface(trained, **settings)  # type: ignore[arg-type]
    assert len(calls) == 11
    surface.run_surface(trained, **settings | {"seed": 1})  # type: ignore[arg-type]
    assert len(calls) == 20  # other settings begin anew


def test_command(trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = [str(trained), str(trained), "--steps", "3", "--images", "20", "--out", str(tmp_path)]
    assert surface.main(words) == 0
    header, _, row, again, _, path = capsys.readouterr().out.splitlines()
    assert [cell.strip() for cell in header.split("|")[1:-1]] == [
        "network",
        "loss at the weights",
        "highest loss",
        "not convex, % of points",
    ]
    losses = np.load(trained / "figures" / "surface.npz")["losses"]
    assert [cell.strip() for cell in row.split("|")[2:4]] == [f"{losses[1, 1]:.3g}", f"{losses.max():.3g}"]
    assert (again, path) == (row, str(tmp_path / "surface.png"))
    assert (tmp_path / "surface.png").stat().st_size > 10_000


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--steps", "1"], "--steps 1: expected at least 2"),
        (["--images", "0"], "--images 0: expected at least 1"),
        (["--span", "nan"], "--span nan: expected a positive number"),
        ([], "is not the folder of a finished run"),
    ],
)
def test_mistakes(words: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert surface.main([str(tmp_path), *words]) == 1
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("loss", "share"),
    [
        (lambda x, y: x**2 + y**2, 0),
        (lambda x, y: x**2 - y**2, 1),
        (lambda x, y: x**2 + 3 * x * y + y**2, 1),  # a saddle, with both axes curving upwards
        (lambda x, y: x**2 + 1.9 * x * y + y**2, 0),
        (lambda x, y: x**3 + 0.1 * y**2, 0.5),  # where x < 0
    ],
)
def test_share_of_points_that_are_not_convex(loss: Callable[[Any, Any], Any], share: float) -> None:
    ticks = np.linspace(-1, 1, 10)
    assert surface.nonconvex_share(loss(*np.meshgrid(ticks, ticks))) == share


def test_infinite_losses_are_drawn_at_the_edge() -> None:
    losses = np.ones((4, 4))
    losses[0, 0], losses[3, 3] = np.inf, 1e12
    surface.draw([losses, losses], ["one", "other"], 1.0)
