"""Targets: what is called, what is refused before it is called, and what is said about arguments."""

import functools
import os  # noqa: F401  what a target might be found through
import pickle
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.optim import Optimizer

from cnnzoo.config import instantiate
from cnnzoo.config.instantiate import own_packages, refuse_unknown_packages
from cnnzoo.errors import UserError


def touch(path: str) -> None:
    """A function without an annotation of use, that leaves a trace."""
    Path(path).touch()


def annotated(path: str) -> nn.Module:
    touch(path)
    return nn.Identity()


def own() -> nn.Linear:
    return nn.Linear(1, 1)


def liar() -> nn.Module:
    return "not a module"  # type: ignore[return-value]


def unannotated(width: int = 1):  # type: ignore[no-untyped-def]
    return nn.Linear(width, width)


class Net(nn.Module):
    def __init__(self, widths: list[int], norm: Any = None, dropout: float = 0.0, num_classes: int = 10) -> None:
        super().__init__()
        self.widths, self.norm, self.num_classes = widths, norm, num_classes


class Exits(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        raise ValueError("needs more\nlines.")


class Leaves(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        sys.exit(0)


HERE = __name__


def make(node: Any, **kwargs: Any) -> nn.Module:
    return instantiate(nn.Module, "model", node, **kwargs)


def test_class_and_annotated_function() -> None:
    layer = make({"_target_": "torch.nn.Linear", "in_features": 2, "out_features": 3})
    assert isinstance(layer, nn.Linear)
    assert isinstance(make({"_target_": "torchvision.models.resnet18", "num_classes": 3}), nn.Module)


def test_text_for_an_enumeration() -> None:
    """The names of torchvision's weights; here of none, as there is nothing to download."""
    with pytest.raises(UserError, match="NO_SUCH_WEIGHTS"):
        make({"_target_": "torchvision.models.resnet18", "weights": "NO_SUCH_WEIGHTS"})


def test_arguments_that_are_offered() -> None:
    net = make({"_target_": f"{HERE}.Net", "widths": [1]}, offered={"num_classes": 7, "unknown": 1})
    assert isinstance(net, Net)
    assert net.num_classes == 7
    own = make({"_target_": f"{HERE}.Net", "widths": [1], "num_classes": 3}, offered={"num_classes": 7})
    assert isinstance(own, Net)
    assert own.num_classes == 3


def test_what_is_offered_need_not_be_taken() -> None:
    """A section may repeat it, as the configuration of another network does that `_target_` has replaced."""
    node = {"_target_": "torch.nn.Flatten", "num_classes": 7}
    assert isinstance(make(node, offered={"num_classes": 7}), nn.Flatten)
    with pytest.raises(UserError, match=r"num_classes: torch\.nn\.Flatten has no such argument"):
        make(node, offered={"num_classes": 8})
    with pytest.raises(UserError, match=r"num_classes: torch\.nn\.Flatten has no such argument"):
        make(node)
    passed_on = make({"_target_": "torchvision.models.resnet18", "num_classes": 3}, offered={"num_classes": 3})
    assert passed_on.get_parameter("fc.bias").shape == (3,), "`**kwargs` takes everything"


REFUSED = [
    {"_target_": "os.system", "command": "touch {}"},
    {"_target_": "subprocess.run", "args": ["touch", "{}"]},
    {"_target_": "shutil.rmtree", "path": "{}"},
    {"_target_": "torch.load", "f": "{}", "weights_only": False},
    {"_target_": "pandas.read_pickle", "filepath_or_buffer": "{}"},
    {"_target_": "torch.hub.load", "repo_or_dir": "{}", "model": "x", "source": "local"},
    {"_target_": "pathlib.Path.unlink", "self": "{}"},
    {"_target_": "builtins.open", "file": "{}", "mode": "w"},
    {"_target_": "builtins.exec", "_args_": ["open('{}', 'w')"]},
    {"_target_": f"{HERE}.touch", "path": "{}"},
    {"_target_": f"{HERE}.touch", "path": "{}", "_partial_": True},
    {"_target_": f"{HERE}.Path", "_args_": ["{}"]},
    {"_target_": "torch.optim.SGD", "params": []},
    # found through another module
    {"_target_": "logging.os.system", "command": "touch {}"},
    {"_target_": "torch.serialization.os.system", "command": "touch {}"},
    {"_target_": f"{HERE}.functools.partial", "_args_": [{"_target_": "os.system", "_partial_": True}]},
    # annotated as what the place takes, and it executes text
    {
        "_target_": "torch.fx.graph_module.reduce_graph_module",
        "body": {"_code": "def forward(self): pass"},
        "import_block": "open('{}', 'w')\n",
    },
    {"_target_": "torch.jit.load", "f": "{}"},
    {"_target_": "torch.nn.Module.load_state_dict"},
    {"_target_": "torch.nn.Linear.__init__.__globals__.get"},
    {"_target_": "torch.utils.bottleneck.__main__.main"},
    {"_target_": "pytorch_lightning.LightningModule.load_from_checkpoint", "checkpoint_path": "{}"},
    {"_target_": "cnnzoo.trained.load_model", "run": "{}"},
    {"_target_": "cnnzoo.io.write_atomically", "path": "{}", "content": "x"},
    {"_target_": "hydra.utils.instantiate", "config": {"_target_": "os.system", "command": "touch {}"}},
    {"_target_": "torch.nn.Sequential", "_args_": [{"_target_": f"{HERE}.touch", "path": "{}"}]},
    {"_target_": "torch.nn.Sequential", "_args_": {"_target_": f"{HERE}.touch", "path": "{}"}},
    {"_target_": f"{HERE}.Net", "widths": [{"_target_": f"{HERE}.touch", "path": "{}"}]},
    {"_target_": f"{HERE}.Net", "widths": [], "norm": {"deep": [{"_target_": "os.system", "command": "touch {}"}]}},
    {"_target_": f"{HERE}.Net", "widths": [], "norm": {"_target_": "os.system", "_partial_": True}},
]


def _filled(node: Any, path: str) -> Any:
    if isinstance(node, dict):
        return {key: _filled(value, path) for key, value in node.items()}
    if isinstance(node, list):
        return [_filled(value, path) for value in node]
    return node.replace("{}", path) if isinstance(node, str) else node


@pytest.mark.parametrize("node", REFUSED, ids=lambda node: node["_target_"].rpartition(".")[2])
def test_refused_before_it_is_called(node: dict[str, Any], tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    kept = tmp_path / "kept"
    kept.mkdir()
    before = list(tmp_path.iterdir())
    with pytest.raises(UserError, match=r"model.*(expected a class of torch's Module|public class).*It was not called"):
        make(_filled(node, str(trace)))
    assert list(tmp_path.iterdir()) == before


@pytest.mark.parametrize(
    "node",
    [
        {"_target_": "timm.create_model", "model_name": "resnet18", "checkpoint_path": "{}"},
        {"_target_": "timm.create_model", "_args_": ["resnet18", True, {"file": "{}"}]},
        {"_target_": "timm.models.resnet18", "pretrained": True, "pretrained_cfg_overlay": {"file": "{}"}},
    ],
)
def test_files_of_timm_are_not_read(node: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"(checkpoint_path|pretrained_cfg\w*): reads a file .* weights=FILE"):
        make(_filled(node, str(tmp_path / "file")))


def test_functions_that_make_what_a_place_takes() -> None:
    """Those of the networks' own modules; and one's own, where it is annotated."""
    assert isinstance(make({"_target_": "timm.models.resnet18"}), nn.Module)
    block = {"in_channels": 1, "out_channels": 2, "momentum": 0.1}
    assert isinstance(make({"_target_": "cnnzoo.models.airbench.block"} | block), nn.Module)
    assert isinstance(make({"_target_": f"{HERE}.own"}), nn.Linear)


def test_result_of_another_type() -> None:
    with pytest.raises(UserError, match="made a str; expected torch's Module"):
        make({"_target_": f"{HERE}.liar"})


def test_trusted_packages() -> None:
    node = {"_target_": f"{HERE}.unannotated"}
    with pytest.raises(UserError, match=rf"trusted_packages=\[{HERE.partition('.')[0]}\]"):
        make(node)
    assert isinstance(make(node, trusted_packages=[HERE]), nn.Linear)


def test_a_trusted_package_is_not_what_it_imports(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="posix"):
        make({"_target_": f"{HERE}.os.system", "command": f"touch {tmp_path}/trace"}, trusted_packages=[HERE])
    assert not (tmp_path / "trace").exists()


def test_module_that_ends_the_process_when_it_is_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "leaves_at_once.py").write_text("raise SystemExit(0)")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(UserError, match="cannot be imported: SystemExit"):
        make({"_target_": "leaves_at_once.Net"})


def test_packages_that_nobody_here_has_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Refused before they are imported, however deep."""
    (tmp_path / "foreign_one.py").write_text("raise AssertionError('imported')")
    monkeypatch.syspath_prepend(tmp_path)
    foreign = {"_target_": "foreign_one.Net"}
    for node in (foreign, {"x": [[foreign]]}, {"_target_": "torch.nn.Sequential", "_args_": [{"y": foreign}]}):
        with pytest.raises(UserError, match=r"foreign_one\.Net.*Nothing of it was imported.*trusted_packages="):
            refuse_unknown_packages("model", node, [])
        refuse_unknown_packages("model", node, ["foreign_one"])
    for target in ("torchx.nn.Linear", "cnnzoo_models.Net", "os.system", "", "."):
        with pytest.raises(UserError, match="Nothing of it was imported"):
            refuse_unknown_packages("model", {"_target_": target}, ["foreign_one", "torchx.n", "xtorch"])
    assert own_packages(["foreign_one", "foreign_one", "os", "torch", "numpy", "nowhere"]) == ["foreign_one"]


def test_nested_and_partial() -> None:
    norm = {"_target_": "torch.nn.BatchNorm2d", "_partial_": True, "momentum": 0.3}
    net = make({"_target_": f"{HERE}.Net", "widths": [1], "norm": norm})
    assert isinstance(net, Net)
    assert isinstance(net.norm, functools.partial)
    assert net.norm(4).momentum == 0.3
    both = make({"_target_": "torch.nn.Sequential", "_args_": [{"_target_": "torch.nn.ReLU"}]})
    assert isinstance(both[0], nn.ReLU)  # type: ignore[index]


MISTAKES = [
    ({}, "expected a _target_"),
    ({"_target_": 3}, "_target_=3: expected the dotted path"),
    ({"_target_": "Adam"}, "_target_=Adam: expected the dotted path"),
    ({"_target_": "a..b"}, "not a dotted path"),
    ({"_target_": ["os.system"]}, "expected the dotted path"),
    ({"_target_": "${oc.env:HOME}.x"}, "not a dotted path"),
    ({"_target_": "sys.modules.get"}, "sys is a module of Python itself"),
    ({"_target_": "torch.nn.functional.F"}, "has no F"),
    ({"_target_": "torch.float32.to_complex"}, "leads through a dtype"),
    ({"_target_": "torch.nn.ReLU", 1: 2}, "model.1: expected a name"),
    ({"_target_": f"{HERE}.Leaves"}, "failed: SystemExit"),
    ({"_target_": "torch.nn.Liner"}, "has no Liner. Did you mean 'Linear'"),
    ({"_target_": "torch.nnn.Linear"}, "torch has no nnn. Did you mean 'nn'"),
    ({"_target_": "nowhere.Net"}, "needs the module nowhere.*PYTHONPATH"),
    ({"_target_": "torch.pi"}, "a float; expected a class or a function"),
    ({"_target_": f"{HERE}.Net", "width": [1]}, "model.width: .* no such argument. Did you mean 'widths'"),
    ({"_target_": f"{HERE}.Net"}, "model lacks widths"),
    ({"_target_": f"{HERE}.Net", "widths": 3}, "model.widths=3: .* expects a list, each entry a whole number"),
    ({"_target_": f"{HERE}.Net", "widths": [1, "two"]}, "model.widths"),
    ({"_target_": f"{HERE}.Net", "widths": [1], "dropout": "a lot"}, "model.dropout=a lot: .* expects a number"),
    ({"_target_": f"{HERE}.Exits"}, "failed: ValueError: needs more"),
    ({"_target_": "cnnzoo.models.resnet.ResNett"}, "has no ResNett. Did you mean 'ResNet'"),
]


@pytest.mark.parametrize(("node", "message"), MISTAKES, ids=[message for _, message in MISTAKES])
def test_mistakes(node: Any, message: str) -> None:
    with pytest.raises(UserError, match=message):
        make(node)


def test_numbers_for_optimizers() -> None:
    parameters = [nn.Parameter(torch.zeros(1))]
    with pytest.raises(UserError, match=r"optimizer\.lr=fast: .*a number"):
        instantiate(Optimizer, "optimizer", {"_target_": "torch.optim.SGD", "lr": "fast"}, parameters)
    with pytest.raises(UserError, match="Invalid learning rate"):
        instantiate(Optimizer, "optimizer", {"_target_": "torch.optim.SGD", "lr": -1.0}, parameters)
    made = instantiate(
        Optimizer, "optimizer", {"_target_": "torch.optim.Adam", "lr": 1, "betas": [0.8, 0.9]}, parameters
    )
    assert made.param_groups[0]["betas"] == (0.8, 0.9)


def test_pickles_are_not_read(tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> tuple[Any, ...]:
            return (touch, (str(tmp_path / "trace"),))

    file = tmp_path / "evil.pkl"
    file.write_bytes(pickle.dumps(Evil.__reduce__(Evil())[0]))
    with pytest.raises(UserError):
        make({"_target_": "pandas.read_pickle", "filepath_or_buffer": str(file)})
