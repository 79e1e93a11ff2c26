"""Networks from configurations: what is offered to them, lazy layers, and messages."""

import sys

import pytest
import torch
from torch import nn

from cnnzoo.config import compose
from cnnzoo.errors import UserError
from cnnzoo.nn.build import build_model, input_shape
from cnnzoo.nn.profile import count_parameters


class Lazy(nn.Sequential):
    def __init__(self, num_classes: int) -> None:
        super().__init__(nn.Flatten(), nn.LazyLinear(num_classes))


class Offered(nn.Linear):
    def __init__(self, in_channels: int, num_classes: int, image_size: int) -> None:
        super().__init__(in_channels * image_size**2, num_classes)


def test_input_shape() -> None:
    assert input_shape(compose(["dataset=mnist", "image_size=20"])) == (1, 20, 20)


def test_data_sets_sizes_are_offered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nn, "Offered", Offered, raising=False)
    net = build_model(compose(["dataset=cifar100", "model._target_=torch.nn.Offered", "image_size=8"]))
    assert net.weight.shape == (100, 3 * 8 * 8)
    net = build_model(compose(["model._target_=torch.nn.Offered", "model.in_channels=1", "image_size=8"]))
    assert net.weight.shape == (10, 8 * 8)  # what is set is set


def test_a_network_that_takes_nothing_of_the_data_set(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only its own arguments are typed; what the replaced network had is no concern of the user's."""

    class Own(nn.Module):
        def __init__(self, width: int = 8) -> None:
            super().__init__()
            self.width = width

    monkeypatch.setattr(nn, "Own", Own, raising=False)
    assert build_model(compose(["model._target_=torch.nn.Own"])).width == 8
    assert build_model(compose(["model._target_=torch.nn.Own", "+model.width=3"])).width == 3


def test_lazy_layers_take_their_sizes_from_the_data_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nn, "Lazy", Lazy, raising=False)
    net = build_model(compose(["dataset=cifar10", "model._target_=torch.nn.Lazy"]))
    assert count_parameters(net) == 3 * 32 * 32 * 10 + 10
    assert net.training


def test_seed_determines_the_initial_weights() -> None:
    first, again, other = (
        (torch.manual_seed(seed), build_model(compose(["model=mlp"])).state_dict())[1] for seed in (1, 1, 2)
    )
    assert all(torch.equal(first[key], again[key]) for key in first)
    assert not torch.equal(first["net.1.weight"], other["net.1.weight"])


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["model._target_=torchvision.models.resnet81"], "torchvision.models has no resnet81. Did you mean 'resnet18'"),
        (["model._target_=elsewhere.Net"], "needs the module elsewhere"),
        (["model._target_=timm.create_model"], "pip install 'cnnzoo[timm]'"),
        (["model._target_=torchvision.models.resnet18", "+model.depth=3"], "unexpected keyword argument 'depth'"),
        (["model._target_=collections.Counter"], "expected a class of torch's Module"),
        (["model=resnet", "model.widths=[16,32]"], "widths=[16, 32], shortcut='projection'"),
        (["model=resnet", "model.activation=rely"], "expects one of relu, leakyrelu, tanh, gelu"),
    ],
)
def test_networks_that_cannot_be_built(overrides: list[str], message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "timm", None)  # as if it were not installed
    with pytest.raises(UserError) as error:
        build_model(compose(overrides))
    assert message in str(error.value)
