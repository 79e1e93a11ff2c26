"""What can be typed, what is refused and how, and which runs are the same run."""

import json
import os
import subprocess
import sys

import pytest
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.utils import create_config_search_path
from hydra.core.override_parser.overrides_parser import OverridesParser

from cnnzoo.config import CONF_DIR, compose
from cnnzoo.errors import UserError
from cnnzoo.results.record import config_hash, identity, run_folder

# what is typed, and what the answer must name: the wrong word, then what would be right
MISTAKES = [
    ("model=densnet", ["model=densnet", "'densenet'"]),
    ("experiment=uvadlc/rsnet", ["experiment=uvadlc/rsnet", "'uvadlc/resnet'"]),
    ("dataset=cifar", ["dataset=cifar", "'cifar10'"]),
    ("modle=densenet", ["modle", "'model'"]),
    ("model.blocks_per_grp=[1,1,1]", ["blocks_per_grp", "'blocks_per_group'"]),
    ("trainer.max_epoch=3", ["trainer.max_epoch", "'max_epochs'"]),
    ("+model.shortcutt=none", ["model.shortcutt", "'shortcut'"]),
    ("model.shortcut=projektion", ["model.shortcut", "projection", "zero_pad"]),
    ("model.widths=16", ["model.widths=16", "a list"]),
    ("model.widths=[16,32,sixty]", ["model.widths", "a whole number"]),
    ("~model.activation", ["model lacks activation"]),
    ("model._target_=cnnzoo.models.resnet.ResNett", ["ResNett", "'ResNet'"]),
    ("model._target_=cnnzoo.models.resnext.ResNet", ["cnnzoo.models.resnext"]),
    ("trainer.max_epochs=many", ["trainer.max_epochs=many", "a number"]),
    ("trainer.max_epochs=0", ["trainer.max_epochs=0", "at least 1"]),
    ("trainer.compile=perhaps", ["trainer.compile=perhaps", "auto, true or false"]),
    ("trainer.precision=bf16", ["trainer.precision=bf16", "bf16-mixed"]),
    ("optimizer.lr=fast", ["optimizer.lr=fast", "a number"]),
    ("optimizer.lr=-1", ["optimizer.lr=-1", "at least 0"]),
    ("optimizer.weight_decay=little", ["optimizer.weight_decay=little", "a number"]),
    ("scheduler.interval=week", ["scheduler.interval", "'epoch' or 'step'"]),
    ("seed=-1", ["seed=-1", "at least 0"]),
    ("seed=x", ["seed=x", "Integer"]),
    ("dataset.batch_size=0", ["dataset.batch_size=0", "at least 1"]),
    ("dataset.mean=[0.5]", ["dataset.mean", "3 channel"]),
    ("dataset.std=[0,1,1]", ["dataset.std", "positive"]),
    ("augmentation.flip=2", ["augmentation.flip=2.0", "at most 1"]),
    ("augmentation.scale=[1.0,0.8]", ["augmentation.scale", "smaller one first"]),
    ("augmentation.ratio=null", ["augmentation.scale and augmentation.ratio"]),
    ("augmentation.padding=4", ["augmentation.padding", "set one"]),
    ("densenet", ["densenet", "KEY=VALUE"]),
]


@pytest.mark.parametrize(("typed", "expected"), MISTAKES, ids=[typed for typed, _ in MISTAKES])
def test_a_mistake_is_named_with_what_would_be_right(typed, expected):
    with pytest.raises(UserError) as error:
        compose([typed])
    for words in expected:
        assert words in str(error.value)


def test_a_mistake_ends_the_command_with_one_message_and_no_traceback(cnnzoo):
    for arguments in (["run", "model=densnet"], ["run", "--cfg", "job", "optimizer.lr=fast"]):
        answer = cnnzoo(*arguments)
        assert answer.returncode == 1
        assert answer.stdout == ""
        assert answer.stderr.startswith("error: ")
        assert "Traceback" not in answer.stderr


def test_traceback_on_request(cnnzoo, monkeypatch):
    monkeypatch.setenv("HYDRA_FULL_ERROR", "1")
    answer = cnnzoo("run", "model=densnet")
    assert answer.returncode == 1
    assert "Traceback" in answer.stderr


def test_composing_and_help_import_no_torch(tmp_path):
    code = """
import sys, runpy
sys.argv = ["cnnzoo", *sys.argv[1:]]
try:
    runpy.run_module("cnnzoo", run_name="__main__", alter_sys=True)
except SystemExit as end:
    assert not end.code, end.code
assert "torch" not in sys.modules and "pytorch_lightning" not in sys.modules
"""
    for arguments in (
        ["run", "--cfg", "job"], ["run", "--help"], ["evaluate", "--help"], ["summary", "--help"],
        ["compare", "--help"], ["--help"], ["-sc", "install=bash"], ["-sc", "query=bash"],
    ):  # fmt: skip
        answer = subprocess.run(
            [sys.executable, "-c", code, *arguments], cwd=tmp_path, capture_output=True, text=True,
            env=os.environ | {"COMP_LINE": "cnnzoo run model=densenet_", "COMP_POINT": "26"},
        )  # fmt: skip
        assert answer.returncode == 0, (arguments, answer.stderr)
    assert answer.stdout.split() == ["model=densenet_bc"]  # tab completion


@pytest.mark.parametrize("file", sorted((CONF_DIR / "experiment").rglob("*.yaml")), ids=lambda file: file.stem)
def test_every_experiment_composes_and_its_head_is_its_command(file):
    name = str(file.relative_to(CONF_DIR / "experiment").with_suffix(""))
    compose([f"experiment={name}"])
    head = file.read_text().split("\n")[:2]
    assert head[0] == "# @package _global_"
    assert head[1].startswith("# python -m cnnzoo.run ")
    assert f"experiment={name}" in head[1]


@pytest.mark.parametrize("group", ["optimizer", "scheduler", "augmentation", "trainer", "logger", "callbacks", "debug"])
def test_every_choice_composes(group):
    for file in (CONF_DIR / group).glob("*.yaml"):
        compose([f"{group}={file.stem}"])


def test_the_default_is_the_published_protocol(config):
    """FACTS of the tutorial: AdamW 1e-3 / 1e-4, batch 128, 180 epochs, a tenth at 100 and 150, seed 42."""
    cfg = config("model=densenet", "optimizer=adam")
    assert cfg["optimizer"] == {"_target_": "torch.optim.AdamW", "lr": 1e-3, "weight_decay": 1e-4}
    assert (cfg["trainer"]["max_epochs"], cfg["scheduler"]["milestones"], cfg["scheduler"]["gamma"]) == (
        180, [100, 150], 0.1,
    )  # fmt: skip
    assert (cfg["dataset"]["batch_size"], cfg["dataset"]["drop_last"], cfg["seed"]) == (128, True, 42)
    assert cfg["augmentation"] == {
        "flip": 0.5, "flip_mode": "random", "scale": [0.8, 1.0], "ratio": [0.9, 1.1], "padding": 0,
        "padding_mode": "constant",
    }  # fmt: skip
    sgd = config("experiment=uvadlc/resnet")["optimizer"]
    assert (sgd["lr"], sgd["momentum"], sgd["weight_decay"]) == (0.1, 0.9, 1e-4)


def test_each_data_set_names_its_augmentation_and_the_command_line_wins(config):
    assert config("dataset=digits")["augmentation"]["flip"] == 0
    assert config("dataset=digits", "augmentation=flip_crop")["augmentation"]["flip"] == 0.5
    assert config("experiment=uvadlc/resnet", "augmentation=none")["augmentation"]["flip"] == 0


def test_published_figures_stay_with_their_network_and_data(config):
    assert config("experiment=uvadlc/resnet", "seed=3")["published"]["test_accuracy"] == 0.9106
    assert config("experiment=uvadlc/resnet", "model=densenet")["published"] is None
    assert config("experiment=uvadlc/resnet", "dataset=digits")["published"] is None


def test_globs_find_choices_in_folders(cnnzoo):
    """`experiment=glob(uvadlc/*)` is a row each; one that finds nothing is a mistake, not a sweep of no jobs."""
    loader = ConfigLoaderImpl(create_config_search_path(str(CONF_DIR)))
    (override,) = OverridesParser.create(loader).parse_overrides(["experiment=glob(uvadlc/*)"])
    assert list(override.sweep_string_iterator()) == [
        "uvadlc/densenet", "uvadlc/googlenet", "uvadlc/preact_resnet", "uvadlc/resnet",
    ]  # fmt: skip
    answer = cnnzoo("run", "-m", "experiment=glob(nowhere/*)")
    assert answer.returncode == 1
    assert "matches no choice" in answer.stderr


def test_a_foreign_target_drops_the_arguments_of_the_network_it_replaces(config):
    cfg = config("model._target_=torchvision.models.resnet18", "+model.zero_init_residual=true")
    assert cfg["model"] == {
        "_target_": "torchvision.models.resnet18", "num_classes": 10, "zero_init_residual": True,
    }  # fmt: skip
    assert cfg["name"] == "resnet18"


def test_the_same_configuration_is_the_same_run(config, tmp_path):
    one = config("model=densenet")
    same = config("model=densenet", f"paths.data={tmp_path}", "logger=none", "trainer.progress_bar=false", "rerun=true")
    assert config_hash(one) == config_hash(same)
    assert run_folder(one) == run_folder(same)
    json.dumps(identity(one))  # plain values only


@pytest.mark.parametrize(
    "override",
    ["seed=0", "optimizer.lr=0.01", "trainer.max_epochs=3", "dataset.split_seed=1", "augmentation=none",
     "trainer.precision=32-true", "callbacks=ema", "loss.label_smoothing=0.1", "model.growth_rate=12"],
)  # fmt: skip
def test_what_changes_the_result_changes_the_run(config, override):
    one, other = config("model=densenet"), config("model=densenet", override)
    assert run_folder(one) != run_folder(other)
