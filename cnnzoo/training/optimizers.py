"""The optimizer of a configuration, with settings of their own for groups of parameters.

optimizer:
  _target_: torch.optim.SGD
  lr: 0.1
  groups:
    norms: {modules: [BatchNorm2d], weight_decay: 0.0}
    biases: {names: "*.bias", lr: 0.2}
    first: {names: [stem.*], frozen_after: 3}

A group takes the parameters that fit all of its selectors and no group after it: `names`, shell patterns of dotted
names as `model.state_dict()` has them; `modules`, class names of the layers that hold them; `ndim`, numbers of
dimensions. Its other keys replace the optimizer's own settings; what no group takes keeps those. `frozen_after`: the
group is trained for so many epochs and then left as it is.
"""

from collections.abc import Mapping
from fnmatch import fnmatchcase
from typing import Any

from torch import nn
from torch.optim import Optimizer

from cnnzoo.config.targets import call_target
from cnnzoo.errors import UserError, nearest

SELECTORS = ("names", "modules", "ndim")


def build_optimizer(model: nn.Module, node: Mapping[str, Any]) -> Optimizer:
    """The optimizer that the section `optimizer`, `node`, describes, for the trainable parameters of `model`.

    Raises:
        UserError: it refuses its arguments, or a group has no parameters or a setting that the optimizer does not know.
    """
    settings = {key: value for key, value in node.items() if key != "groups"}
    left = {name: p for name, p in model.named_parameters() if p.requires_grad}
    groups: list[dict[str, Any]] = []
    for name, group in reversed((node.get("groups") or {}).items()):
        taken = [key for key in left if _fits(model, key, group)]
        if not taken:
            selectors = ", ".join(f"{key}={group[key]}" for key in SELECTORS if key in group)
            raise UserError(
                f"optimizer.groups.{name} ({selectors}) takes none of the parameters"
                f" {'that are left' if groups else 'there are'}: {_some(list(left))}."
                " `python -m cnnzoo.summary` with the same model shows layers and their names."
            )
        options = {key: value for key, value in group.items() if key not in SELECTORS}
        groups.append({"params": [left.pop(key) for key in taken], **options})
    if not groups:
        return call_target("optimizer", settings, list(left.values()))
    if left:
        groups.insert(0, {"params": list(left.values())})  # first, for its rate is the one that is logged
    optimizer = call_target("optimizer", settings, groups)
    for name, group in (node.get("groups") or {}).items():
        for key in group:
            if key not in (*optimizer.defaults, *SELECTORS, "frozen_after"):
                raise UserError(
                    f"optimizer.groups.{name}.{key}: {node['_target_']} has no such setting."
                    f"{nearest(key, optimizer.defaults)}"
                )
    return optimizer


def freeze(optimizer: Optimizer, epoch: int) -> None:
    """Ends the training of the groups whose `frozen_after` epochs are over when `epoch`, counted from 0, begins."""
    for group in optimizer.param_groups:
        if epoch >= (group.get("frozen_after") or float("inf")):
            for parameter in group["params"]:
                parameter.requires_grad_(False)
                parameter.grad = None  # optimizers leave alone what has no gradient


def _fits(model: nn.Module, name: str, group: Mapping[str, Any]) -> bool:
    module = type(model.get_submodule(name.rpartition(".")[0])).__name__
    ndim = model.get_parameter(name).ndim
    return (
        any(fnmatchcase(name, pattern) for pattern in _listed(group.get("names", "*")))
        and module in _listed(group.get("modules", module))
        and ndim in _listed(group.get("ndim", ndim))
    )


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _some(names: list[str], most: int = 12) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")
