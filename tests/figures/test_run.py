"""Figures of one run: what they show is what the network computes."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from PIL import Image

from cnnzoo.config import run_folder
from cnnzoo.errors import UserError
from cnnzoo.figures import run as figures
from cnnzoo.figures import run_plots
from cnnzoo.figures.style import look
from cnnzoo.run import run
from cnnzoo.trained import load_model

NAMES = ["curves", "confusion", "reliability", "gallery", "filters", "maps", "grad_cam"]


@pytest.fixture
def trained(config: Callable[..., Any]) -> Path:
    """The folder of a finished run on digits."""
    small = config(
        "dataset=digits", "image_size=16", "model=resnet", "model.blocks_per_group=[1,1]", "model.widths=[8,16]",
        "trainer.max_epochs=1", "trainer.progress_bar=false", "logger=none",
    )  # fmt: skip
    run(small)
    return run_folder(small)


def test_all_figures_are_written(trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("torchcam")
    assert figures.main([str(trained), "--out", str(tmp_path), "--formats", "png,svg"]) == 0
    answer = capsys.readouterr()
    assert answer.err == ""
    assert answer.out.splitlines() == [str(tmp_path / f"{name}.{kind}") for name in NAMES for kind in ("png", "svg")]
    for name in NAMES:
        assert Image.open(tmp_path / f"{name}.png").width > 500


def test_what_is_missing_is_left_out_and_said(trained: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (trained / "predictions.npz").unlink()
    (trained / "metrics.csv").unlink()
    found, notes = figures.draw(trained)
    assert [*found] == ["filters"]
    assert [note.partition(" is left out: ")[0] for note in notes] == ["curves", "confusion", "reliability", "gallery"]


def test_images_of_ones_own_and_another_layer(trained: Path, tmp_path: Path) -> None:
    pytest.importorskip("torchcam")
    Image.fromarray(np.arange(600, dtype=np.uint8).reshape(20, 30)).save(tmp_path / "own.png")
    found, _ = figures.draw(trained, [tmp_path / "own.png"], layer="blocks.0")
    assert "blocks.0: 8 of 8 channels, 16×16" in str(found["maps"].get_suptitle())
    (tmp_path / "text.png").write_text("none")
    with pytest.raises(UserError, match=r"--images: .*text\.png"):
        figures.draw(trained, [tmp_path / "text.png"])


@pytest.mark.parametrize(
    ("layer", "message"), [("block", r"no such layer. Did you mean 'blocks'"), ("linear", r"no map of places")]
)
def test_layers_that_cannot_be_shown(layer: str, message: str, trained: Path) -> None:
    model = load_model(trained)
    names = [name for name, module in model.network.named_modules() if isinstance(module, torch.nn.Linear)]
    with pytest.raises(UserError, match=message):
        figures.layer_maps(
            model,
            torch.zeros(1, 1, 16, 16, dtype=torch.uint8),
            names[0] if layer == "linear" else figures._checked(layer, model.network),
        )


def test_grad_cam_is_the_papers_formula(trained: Path) -> None:
    """ReLU of the maps, weighted by the mean gradient of the predicted class's logit, scaled to 0..1."""
    pytest.importorskip("torchcam")
    model = load_model(trained)
    layer = figures.default_layer(model)
    assert layer is not None
    images = torch.randint(0, 256, (3, 1, 16, 16), dtype=torch.uint8, generator=torch.manual_seed(0))
    maps, predicted, shares = figures.grad_cam(model, images, layer)
    kept: list[torch.Tensor] = []
    hook = model.network.get_submodule(layer).register_forward_hook(lambda _, __, output: kept.append(output))
    logits = model(model.preprocess(images))
    hook.remove()
    (gradient,) = torch.autograd.grad(logits.amax(dim=1).sum(), kept)
    expected = (gradient.mean(dim=(2, 3), keepdim=True) * kept[0]).sum(dim=1).relu()
    expected = expected - expected.amin(dim=(1, 2), keepdim=True)
    expected = expected / expected.amax(dim=(1, 2), keepdim=True).clamp(min=1e-12)
    np.testing.assert_allclose(maps, expected.detach(), atol=1e-3)
    assert predicted.tolist() == logits.argmax(dim=1).tolist()
    np.testing.assert_allclose(shares, logits.softmax(dim=1).amax(dim=1).detach(), atol=1e-5)


def test_gallery_takes_the_surest_mistakes() -> None:
    logits = np.array([[5.0, 0], [0, 1], [3, 0], [0, 9], [2, 0]])
    right, wrong = run_plots.examples(logits, np.array([0, 1, 1, 0, 1]), 2)
    assert (right.tolist(), wrong.tolist()) == ([0, 1], [3, 2])


def test_many_classes_and_no_mistakes() -> None:
    labels = np.arange(200)
    with look():
        assert isinstance(run_plots.confusion(np.eye(200), labels, [f"$class {i}$" for i in labels]), Figure)
        right, wrong = run_plots.examples(np.eye(200), labels, 20)
        pictures = np.zeros((20, 8, 8, 3), dtype=np.uint8)
        figure = run_plots.gallery(pictures, np.eye(200), labels, right, wrong, [*map(str, labels)])
    assert len(wrong) == 0
    assert isinstance(figure, Figure)


def test_network_without_convolutions_gets_the_other_figures(config: Callable[..., Any]) -> None:
    flat = config("dataset=digits", "model=mlp", "trainer.max_epochs=1", "trainer.progress_bar=false", "logger=none")
    run(flat)
    found, notes = figures.draw(run_folder(flat))
    assert [*found] == ["curves", "confusion", "reliability", "gallery"]
    assert notes == [
        "filters is left out: the network has no convolution.",
        "maps and grad_cam are left out: this network has no layer whose output is still an image",
    ]
