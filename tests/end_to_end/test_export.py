"""The command `export`: other programs get the logits of the run."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from cnnzoo import export
from cnnzoo.config import run_folder
from cnnzoo.results.run_folder import read_result
from cnnzoo.run import run
from cnnzoo.trained import TrainedModel, load_model


@pytest.fixture
def trained(small: Callable[..., Any]) -> Path:
    """The folder of a finished run."""
    config = small()
    run(config)
    return run_folder(config)


def first_images(model: TrainedModel) -> tuple[torch.Tensor, torch.Tensor]:
    images = export._test_images(model)[:5]
    with torch.inference_mode():
        return images, model(model.normalize(images))


def test_onnx(trained: Path, tmp_path: Path) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    (path,) = export.export(trained, "onnx", tmp_path)
    session = onnxruntime.InferenceSession(path)
    images, expected = first_images(load_model(trained))
    for count in (1, 5):  # any number of images
        (logits,) = session.run(None, {"images": images[:count].numpy()})
        np.testing.assert_allclose(logits, expected[:count], atol=1e-4)
    (entry,) = session.get_inputs()
    assert (entry.name, entry.type, entry.shape[1:]) == ("images", "tensor(float)", [1, 16, 16])
    assert [output.name for output in session.get_outputs()] == ["logits"]
    metadata = session.get_modelmeta().custom_metadata_map
    assert json.loads(metadata["classes"]) == [str(digit) for digit in range(10)]
    assert metadata["config_hash"] == (read_result(trained) or {})["config_hash"]


def test_torch_export(trained: Path, tmp_path: Path) -> None:
    (path,) = export.export(trained, "torch_export", tmp_path)
    images, expected = first_images(load_model(trained))
    module = torch.export.load(path).module()  # our own file
    torch.testing.assert_close(module(images[:3]), expected[:3], atol=1e-4, rtol=0)


def test_the_model_cards_own_code_gives_the_logits(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    card, *_ = paths = export.export(trained, "safetensors", tmp_path / "out")
    assert [path.name for path in paths] == ["README.md", "config.json", "model.safetensors"]
    text = card.read_text()
    result = read_result(trained) or {}
    assert f"{100 * result['test_accuracy']:.2f} %" in text
    assert result["config_hash"] in text
    monkeypatch.chdir(tmp_path / "out")
    code = text.split("```python\n")[1].split("```")[0]
    images, expected = first_images(load_model(trained))
    names: dict[str, Any] = {"given": images}
    exec(code.replace('torch.rand(1, *config["input_size"])', "given"), names)
    torch.testing.assert_close(names["logits"], expected, atol=1e-4, rtol=0)


def test_logits_are_those_of_the_runs_own_test(trained: Path) -> None:
    _, expected = first_images(load_model(trained))
    with np.load(trained / "predictions.npz") as predictions:
        np.testing.assert_allclose(predictions["logits"][:5], expected, atol=1e-4)


def test_what_answers_otherwise_is_not_written(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(export, "TOLERANCE", -1.0)
    assert export.main([str(trained), "--format", "torch_export", "--out", str(tmp_path / "out")]) == 1
    assert "logits differ by at most" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_onnx_needs_its_extra(
    trained: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "onnx", None)
    assert export.main([str(trained), "--format", "onnx"]) == 1
    assert "pip install 'cnnzoo[export]'" in capsys.readouterr().err


def test_unfinished_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert export.main([str(tmp_path), "--format", "onnx"]) == 1
    assert "is not the folder of a finished run" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize("network", ["resnet", "googlenet", "densenet"])
def test_networks_of_the_table_on_real_images(
    network: str, config: Callable[..., Any], cifar10: Path, tmp_path: Path
) -> None:
    """Trained for a few steps, so that batch norm has statistics of its own; 1,000 test images of CIFAR-10."""
    pytest.importorskip("onnxruntime")
    short = config(
        f"model={network}", "trainer.max_epochs=1", "trainer.limit_train_batches=20", "trainer.limit_val_batches=1",
        "trainer.progress_bar=false", "logger=none", "scheduler=none",
    )  # fmt: skip
    run(short)
    for format in export.FORMATS:
        export.export(run_folder(short), format, tmp_path)  # raises above 1e-4
