"""What can be typed, what is refused and how."""

from collections.abc import Callable
from pathlib import Path

import pytest

from cnnzoo.config import CONF_DIR, Config, compose
from cnnzoo.config.compose import from_dict
from cnnzoo.config.schema import BenchConfig, TrainerConfig
from cnnzoo.errors import UserError

Compose = Callable[..., Config]

# what is typed, and what the message must name: the wrong word, then what would be right
MISTAKES = [
    ("model=densnet", ["model=densnet", "'densenet'"]),
    ("experiment=uvadlc/rsnet", ["experiment=uvadlc/rsnet", "'uvadlc/resnet'"]),
    ("dataset=cifar", ["dataset=cifar", "'cifar10'"]),
    ("modle=densenet", ["modle", "'model'"]),
    ("lr=0.1", ["lr: no such key", "'optimizer.lr'"]),
    ("epochs=3", ["'trainer.max_epochs'"]),
    ("model.blocks_per_grp=[1,1,1]", ["blocks_per_grp", "'blocks_per_group'", "+model.blocks_per_grp=VALUE"]),
    ("trainer.max_epoch=3", ["trainer.max_epoch", "'max_epochs'"]),
    ("trainer.max_epochs=many", ["trainer.max_epochs=many", "a number"]),
    ("trainer.max_epochs=0", ["trainer.max_epochs=0", "at least 1"]),
    ("trainer.compile=perhaps", ["trainer.compile=perhaps", "auto, true or false"]),
    ("trainer.precision=bf16", ["trainer.precision=bf16", "'bf16-mixed'"]),
    ("trainer.max_epochs=0.5", ["trainer.max_epochs=0.5", "at least 1"]),
    ("trainer.compile_mode=fast", ["trainer.compile_mode=fast", "max-autotune"]),
    ("trainer.gradient_clip_val=-1", ["trainer.gradient_clip_val=-1", "positive"]),
    ("trainer.checkpoint_every_n_epochs=7", ["a divisor of the 180 epochs"]),
    ("trainer.check_val_every_n_epoch=181", ["at most the 180 epochs", "dataset.val_size=0"]),
    ("seed=-1", ["seed=-1", "at least 0"]),
    ("seed=x", ["seed=x", "a whole number"]),
    ("tta=mirrors", ["tta=mirrors", "'mirror'"]),
    ("warmup.epochs=-1", ["warmup.epochs=-1", "at least 0"]),
    ("warmup.epochs=200", ["warmup.epochs=200", "180"]),
    ("dataset.batch_size=0", ["dataset.batch_size=0", "at least 1"]),
    ("dataset.val_size=-1", ["dataset.val_size=-1", "at least 0"]),
    ("dataset.val_size=1.5", ["dataset.val_size=1.5", "a share"]),
    ("dataset.val_size=some", ["dataset.val_size=some", "a number"]),
    ("dataset.mean=[0.5]", ["dataset.mean", "3 channel"]),
    ("dataset.mean=[inf,0,0]", ["dataset.mean", "finite"]),
    ("dataset.std=[0,1,1]", ["dataset.std", "positive"]),
    ("augmentation.flip=2", ["augmentation.flip=2.0", "at most 1"]),
    ("augmentation.scale=[1.0,0.8]", ["augmentation.scale", "smaller one first"]),
    ("augmentation.ratio=null", ["augmentation.scale and augmentation.ratio"]),
    ("augmentation.padding=4", ["augmentation.padding", "set one"]),
    ("augmentation.flip_mode=alternate", ["augmentation.flip_mode=alternate", "'alternating'"]),
    ("augmentation.padding_mode=mirror", ["augmentation.padding_mode=mirror", "reflect"]),
    ("augmentation.mixup=-1", ["augmentation.mixup=-1", "at least 0"]),
    ("densenet", ["densenet", "KEY=VALUE"]),
    # nothing would read these
    ("+nonsense=1", ["nonsense: nothing reads this key"]),
    ("+trainer.overfit_batches=1", ["trainer.overfit_batches", "+trainer.extra."]),
    ("+dataset.lables=3", ["dataset.lables: nothing reads"]),
    ("dataset=image_folder", ["dataset.root=… is missing"]),
    ("dataset.source=???", ["dataset.source=… is missing"]),
]


@pytest.mark.parametrize(("typed", "expected"), MISTAKES, ids=[typed for typed, _ in MISTAKES])
def test_mistakes(typed: str, expected: list[str]) -> None:
    with pytest.raises(UserError) as error:
        compose([typed])
    for words in expected:
        assert words in str(error.value)


@pytest.mark.parametrize("file", sorted((CONF_DIR / "experiment").rglob("*.yaml")), ids=lambda file: file.stem)
def test_experiment_head(file: Path) -> None:
    """Every experiment composes, and its file begins with its command."""
    name = str(file.relative_to(CONF_DIR / "experiment").with_suffix(""))
    compose([f"experiment={name}"])
    head = file.read_text().split("\n")[:2]
    assert head[0] == "# @package _global_"
    assert head[1].startswith("# python -m cnnzoo.run ")
    assert f"experiment={name}" in head[1]


GROUPS = ["optimizer", "scheduler", "augmentation", "trainer", "loss", "logger", "callbacks", "debug"]


@pytest.mark.parametrize("group", GROUPS)
def test_every_choice_composes(group: str) -> None:
    for file in (CONF_DIR / group).glob("[!_]*.yaml"):
        compose([f"{group}={file.stem}"])


def test_default_is_the_published_protocol(config: Compose) -> None:
    """FACTS of the tutorial: AdamW 1e-3 / 1e-4, batch 128, 180 epochs, a tenth at 100 and 150, seed 42."""
    cfg = config("model=densenet", "optimizer=adam")
    assert cfg.optimizer == {"_target_": "torch.optim.AdamW", "lr": 1e-3, "weight_decay": 1e-4}
    assert cfg.trainer.max_epochs == 180
    assert (cfg.scheduler["milestones"], cfg.scheduler["gamma"]) == ([100, 150], 0.1)
    assert (cfg.dataset.batch_size, cfg.dataset.drop_last, cfg.seed) == (128, True, 42)
    augmentation = cfg.augmentation
    assert (augmentation.flip, augmentation.scale, augmentation.ratio) == (0.5, [0.8, 1.0], [0.9, 1.1])
    assert (augmentation.padding, augmentation.mixup, augmentation.cutmix) == (0, 0, 0)
    sgd = config("experiment=uvadlc/resnet").optimizer
    assert (sgd["lr"], sgd["momentum"], sgd["weight_decay"]) == (0.1, 0.9, 1e-4)


def test_augmentation_follows_the_data_set_and_the_command_line(config: Compose) -> None:
    assert config("dataset=digits").augmentation.flip == 0
    assert config("dataset=digits", "augmentation=flip_crop").augmentation.flip == 0.5
    assert config("experiment=uvadlc/resnet", "augmentation=none").augmentation.flip == 0


def test_published_figures_belong_to_network_and_data(config: Compose) -> None:
    published = config("experiment=uvadlc/resnet", "seed=3").published
    assert published is not None
    assert published.test_accuracy == 0.9106
    assert config("experiment=uvadlc/resnet", "model=densenet").published is None
    assert config("experiment=uvadlc/resnet", "dataset=digits").published is None


def test_names(config: Compose) -> None:
    assert config("model=densenet").name == "densenet"
    assert config("model=densenet", "name=mine").name == "mine"
    assert config("model=torchvision", "model.name=resnet34").name == "resnet34"
    assert config("model._target_=somewhere.Net").name == "Net"


def test_foreign_target_drops_the_replaced_networks_arguments(config: Compose) -> None:
    cfg = config("model._target_=torchvision.models.resnet18", "+model.zero_init_residual=true")
    expected = {"_target_": "torchvision.models.resnet18", "num_classes": 10, "zero_init_residual": True}
    assert cfg.model == expected


def test_foreign_loss_drops_the_replaced_losss_arguments(config: Compose) -> None:
    assert config("loss._target_=own.Focal", "+loss.gamma=2").loss == {"_target_": "own.Focal", "gamma": 2}


def test_config_names(config: Compose) -> None:
    assert isinstance(config(name="bench"), BenchConfig)


@pytest.mark.parametrize("key", ["name", "dataset.name"])
@pytest.mark.parametrize("name", ["../../x", "/abs", ".", "..", "", ".x", "a/../b", "a//b", "a/", "x" * 300, "a\x1bb"])
def test_names_stay_in_their_folder(key: str, name: str) -> None:
    with pytest.raises(UserError, match=rf"(?s){key}='.*expected a name for files.*{key}=NAME"):
        compose([f"{key}='{name}'"])


def test_unusual_names(config: Compose) -> None:
    for name in ("a/b", "résumé [1]", "a..b", "x" * 200, "-"):
        assert config(f"name='{name}'").name == name


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("file", "../../x"),
        ("file", "/x"),
        ("url", "file:///etc/passwd"),
        ("url", "ftp://x"),
        ("url", "x"),
        ("sha256", "0"),
        ("sha256", "0" * 63 + "X"),
    ],
)
def test_published_files(key: str, value: str) -> None:
    with pytest.raises(UserError, match=rf"published\.weights\.{key}=.*(expected|lies below)"):
        compose(["experiment=uvadlc/resnet", f"published.weights.{key}='{value}'"])


def test_what_is_typed_is_trusted(config: Compose, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "typed_one.py").touch()
    (tmp_path / "typed_two").mkdir()
    assert config("trusted_packages=[some]", "model._target_=typed_one.Net").trusted_packages == ["some", "typed_one"]
    assert config("+callbacks.x={_target_: typed_two.Callback}").trusted_packages == ["typed_two"]
    typed = ("model._target_=os.system", "loss._target_=torch.nn.Linear", "+callbacks.x._target_=numpy.load")
    assert config(*typed).trusted_packages == []


def test_from_dict_keeps_interpolations_as_text(monkeypatch: pytest.MonkeyPatch, config: Compose) -> None:
    from dataclasses import asdict

    monkeypatch.setenv("SECRET", "told")
    values = asdict(config("seed=3"))
    values["callbacks"] = {"x": {"_target_": "${oc.env:SECRET}"}}
    assert from_dict(Config, values).callbacks["x"]["_target_"] == "${oc.env:SECRET}"
    values["unknown"] = 1
    with pytest.raises(UserError, match="unknown: no such key"):
        from_dict(Config, values)
    with pytest.raises(UserError, match=r"trainer\.max_epochs=-1"):
        from_dict(TrainerConfig, values["trainer"] | {"max_epochs": -1})
