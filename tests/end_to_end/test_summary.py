"""The command `summary`: its formats, and what reaches stdout."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torchvision

from cnnzoo import summary
from cnnzoo.config import compose
from cnnzoo.nn.build import build_model
from cnnzoo.nn.profile import profile

Summary = Callable[..., str]


@pytest.fixture
def run_summary(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Summary:
    """The command in this process, from an empty folder; returns stdout."""

    def run(*arguments: str) -> str:
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr(sys, "argv", ["summary", *arguments])
        summary.main()
        assert not list(tmp_path.iterdir())  # a summary writes no files
        return capsys.readouterr().out

    return run


def test_json(run_summary: Summary) -> None:
    result = json.loads(run_summary("model=resnet", "dataset=digits", "format=json"))
    assert list(result) == [
        "model",
        "dataset",
        "input_shape",
        "layers",
        "params",
        "trainable_params",
        "non_trainable_params",
        "buffers",
        "macs",
    ]
    assert (result["model"], result["dataset"], result["input_shape"]) == ("resnet", "digits", [1, 32, 32])
    assert result["params"] == 272_378 - 2 * 9 * 16  # the first convolution has one channel instead of three
    assert result["layers"][0] == {
        "name": "input_net.0",
        "type": "Conv2d",
        "output_shape": [16, 32, 32],
        "params": 9 * 16,
        "macs": 9 * 16 * 32 * 32,
    }
    assert sum(layer["macs"] for layer in result["layers"]) == result["macs"]


def test_nothing_but_json_on_stdout(
    cnnzoo: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "noisy.py").write_text(
        "from torch import nn\n"
        "class Noisy(nn.Sequential):\n"
        "    def __init__(self):\n"
        "        print('built')\n"
        "        super().__init__(nn.Flatten(), nn.Linear(3072, 10))\n"
        "    def forward(self, x):\n"
        "        print('called')\n"
        "        return super().forward(x)\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    answer = cnnzoo("summary", "model._target_=noisy.Noisy", "~model.num_classes", "format=json")
    assert answer.returncode == 0, answer.stderr
    assert json.loads(answer.stdout)["params"] == 30_730
    assert answer.stderr.split() == ["built", "called"]


def test_table_in_a_pipe_is_not_cut(run_summary: Summary) -> None:
    out = run_summary("model._target_=torchvision.models.vit_b_32", "image_size=224")
    name = "encoder.layers.encoder_layer_10.self_attention.out_proj"
    assert any(
        name in line and "NonDynamicallyQuantizableLinear" in line and "590,592" in line for line in out.split("\n")
    )
    published = torchvision.models.ViT_B_32_Weights.IMAGENET1K_V1.meta["num_params"]
    assert f"{published - 990 * 769:,}" in out  # 10 classes instead of 1,000
    assert "3×224×224" in out


def test_names_are_not_markup(run_summary: Summary) -> None:
    assert run_summary("name='[/] :smile: [red]x[/red]'").startswith("[/] :smile: [red]x[/red] on cifar10:")


def test_markdown(run_summary: Summary) -> None:
    lines = run_summary("format=md").split("\n")
    assert "272,378" in "".join(lines)
    table = [line for line in lines if line.startswith("|")]
    assert len({line.count("|") for line in table}) == 1
    assert len(table) == 2 + len(profile(build_model(compose()), (3, 32, 32)).layers)


def test_unknown_format(run_summary: Summary, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        run_summary("format=jsn")
    assert stop.value.code == 1
    out, err = capsys.readouterr()
    assert "Did you mean 'json'?" in err
    assert not out
