"""Targets: what is called, what is refused before it is called, and what is said about arguments."""

import functools
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.optim import Optimizer

from cnnzoo.config import instantiate
from cnnzoo.errors import UserError


def touch(path: str) -> None:
    """A function without an annotation of use, that leaves a trace."""
    Path(path).touch()


def annotated(path: str) -> nn.Module:
    touch(path)
    return nn.Identity()


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
    {"_target_": "torch.nn.Sequential", "_args_": [{"_target_": f"{HERE}.touch", "path": "{}"}]},
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
    with pytest.raises(UserError, match=r"model.*expected a class of torch's Module"):
        make(_filled(node, str(trace)))
    assert list(tmp_path.iterdir()) == before


def test_result_of_another_type() -> None:
    with pytest.raises(UserError, match="made a str; expected torch's Module"):
        make({"_target_": f"{HERE}.liar"})


def test_trusted_packages() -> None:
    node = {"_target_": f"{HERE}.unannotated"}
    with pytest.raises(UserError, match=rf"trusted_packages=\[{HERE.partition('.')[0]}\]"):
        make(node)
    assert isinstance(make(node, trusted_packages=[HERE]), nn.Linear)


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
    ({"_target_": "torch.nn.Liner"}, "has no Liner. Did you mean 'Linear'"),
    ({"_target_": "torch.nnn.Linear"}, "torch has no nnn. Did you mean 'nn'"),
    ({"_target_": "nowhere.Net"}, "needs the module nowhere.*PYTHONPATH"),
    ({"_target_": "math.pi"}, "a float; expected a class or a function"),
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
