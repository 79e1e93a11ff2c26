"""Build the network that a configuration describes."""

import torch
from torch import nn

from cnnzoo.config import Config, instantiate
from cnnzoo.nn.profile import profile


def input_shape(config: Config) -> tuple[int, int, int]:
    """Return `(C, H, W)` of the images that enter the network."""
    return config.dataset.channels, config.image_size, config.image_size


def build_model(config: Config) -> nn.Module:
    """Return the network that `config.model` describes; its initial weights follow torch's global seed.

    Its `_target_` is offered `in_channels`, `num_classes` and `image_size` of the data, if it has such arguments.

    Raises:
        UserError: `_target_` cannot be imported, does not make a module, or refuses its arguments.
    """
    offered = {
        "in_channels": config.dataset.channels,
        "num_classes": config.dataset.num_classes,
        "image_size": config.image_size,
    }
    net = instantiate(nn.Module, "model", config.model, offered=offered, trusted_packages=config.trusted_packages)
    if any(nn.parameter.is_lazy(p) for p in net.parameters()):
        profile(net, input_shape(config))  # on a copy, for its message if an image does not fit
        with torch.no_grad():  # lazy layers take their sizes, and draw their weights, at the first image
            net.eval()(torch.zeros(1, *input_shape(config)))
        net.train()
    return net
