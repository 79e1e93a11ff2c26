"""From `cfg.model` to a network, with messages for what can go wrong on the way."""

import importlib

import hydra
import torch
from hydra.errors import InstantiationException
from omegaconf import DictConfig
from torch import nn

from cnnzoo.errors import UserError, nearest
from cnnzoo.models.profile import profile

_EXTRAS = ("timm",)  # packages with networks that are optional dependencies of the same name


def input_shape(cfg: DictConfig) -> tuple[int, int, int]:
    """`(C, H, W)` of the images that enter the network."""
    return cfg.dataset.channels, cfg.image_size, cfg.image_size


def build_model(cfg: DictConfig) -> nn.Module:
    """The network that `cfg.model` describes; its initial weights follow torch's global seed.

    Raises:
        UserError: `_target_` cannot be imported, refuses its arguments, or does not make a module.
    """
    try:
        net = hydra.utils.instantiate(cfg.model, _convert_="all")
    except InstantiationException as error:
        raise UserError(_explain(cfg.model, error)) from error
    if not isinstance(net, nn.Module):
        raise UserError(
            f"model._target_={cfg.model._target_} made a {type(net).__name__}; expected a torch.nn.Module: name the"
            " class of a network, or a function that returns one."
        )
    if any(nn.parameter.is_lazy(p) for p in net.parameters()):
        profile(net, input_shape(cfg))  # tries on a copy, for the message
        with torch.no_grad():  # lazy layers take their sizes, and draw their weights, at the first image
            net.eval()(torch.zeros(1, *input_shape(cfg)))
        net.train()
    return net


def _explain(model: DictConfig, error: BaseException) -> str:
    chain = [error]
    while (cause := chain[-1].__cause__) is not None:
        chain.append(cause)
    raised = [e for e in chain if not isinstance(e, InstantiationException)]  # by the network's code, outermost first
    target = str(model._target_)
    if isinstance(raised[-1], ModuleNotFoundError) and raised[-1].name:
        parent, _, last = raised[-1].name.rpartition(".")
        if parent:
            return f"model._target_={target}: {parent} has no {last}.{_nearest_in(parent, last)}"
        if last in _EXTRAS:
            return f"model._target_={target} needs {last}: pip install 'cnnzoo[{last}]'"
        return (
            f"model._target_={target} needs the module {last}, which Python does not find:"
            " install its package, or put its folder on PYTHONPATH."
        )
    if isinstance(raised[0], ImportError):
        return f"model._target_={target} cannot be imported: {type(raised[-1]).__name__}: {raised[-1]}"
    arguments = ", ".join(f"{key}={model[key]!r}" for key in map(str, model) if not key.startswith("_"))
    return (
        f"{target}({arguments}) failed: {type(raised[0]).__name__}: {raised[0]}."
        " model.KEY=VALUE sets an argument, +model.KEY=VALUE adds one, ~model.KEY takes one away."
    )


def _nearest_in(module: str, name: str) -> str:
    try:
        return nearest(name, vars(importlib.import_module(module)))
    except ImportError:
        return ""
