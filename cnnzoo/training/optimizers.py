"""The optimizer of a configuration, with settings of their own for groups of parameters.

optimizer:
  _target_: torch.optim.SGD
  lr: 0.1
  groups:
    norms: {modules: [BatchNorm2d], weight_decay: 0.0}
    biases: {names: "*.bias", lr: 0.2}
    first: {names: [stem.*], frozen_after: 3}

A group takes the parameters that match all of its selectors and no later group: `names`, shell patterns of dotted names
as in `model.state_dict()`; `modules`, class names of the layers that hold them; `ndim`, numbers of dimensions. Its
other keys replace the optimizer's own settings, which the remaining parameters keep. `frozen_after`: the group is
trained for so many epochs and then left as it is; 0: never trained.
"""

from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any

from torch import nn
from torch.optim import Optimizer

from cnnzoo.config import instantiate
from cnnzoo.errors import UserError

SELECTORS = ("names", "modules", "ndim")


def build_optimizer(model: nn.Module, node: Mapping[str, Any], trusted_packages: Sequence[str] = ()) -> Optimizer:
    """Return the optimizer that the section `optimizer`, `node`, describes, for the trainable parameters of `model`.

    Raises:
        UserError: it refuses its arguments, or a group has no parameters or a setting that the optimizer lacks.
    """
    settings = {key: value for key, value in node.items() if key != "groups"}
    remaining = {name: p for name, p in model.named_parameters() if p.requires_grad}
    groups: list[dict[str, Any]] = []
    for name, group in reversed(_checked_groups(node.get("groups")).items()):
        taken = [key for key in remaining if _matches(model, key, group)]
        if not taken:
            selectors = ", ".join(f"{key}={group[key]}" for key in SELECTORS if key in group)
            raise UserError(
                f"optimizer.groups.{name} ({selectors}) takes none of the parameters"
                f" {'that are left' if groups else 'there are'}: {_truncate_list(list(remaining))}."
                " `python -m cnnzoo.summary` with the same model shows layers and their names."
            )
        options = {key: value for key, value in group.items() if key not in SELECTORS}
        groups.append({"params": [remaining.pop(key) for key in taken], **options})
        # Made for its checks alone: an optimizer does not look into the settings of its groups.
        alone = settings | {key: value for key, value in options.items() if key != "frozen_after"}
        instantiate(
            Optimizer, f"optimizer.groups.{name}", alone, groups[-1]["params"], trusted_packages=trusted_packages
        )
    parameters: Sequence[Any] = list(remaining.values())
    if groups:
        # keep the default group first: metrics.csv reports the rate of param_groups[0]
        parameters = [*([{"params": parameters}] if parameters else []), *groups]
    return instantiate(Optimizer, "optimizer", settings, parameters, trusted_packages=trusted_packages)


def freeze_finished_groups(optimizer: Optimizer, epoch: int) -> None:
    """Stop training the groups whose `frozen_after` epochs are over when `epoch`, counted from 0, begins."""
    for group in optimizer.param_groups:
        frozen_after = group.get("frozen_after")
        if frozen_after is not None and epoch >= frozen_after:
            for parameter in group["params"]:
                parameter.requires_grad_(False)
                parameter.grad = None  # optimizers skip parameters without a gradient


def _checked_groups(groups: Any) -> dict[str, dict[str, Any]]:
    groups = groups or {}
    if not isinstance(groups, dict) or not all(isinstance(group, dict) for group in groups.values()):
        raise UserError(
            f"optimizer.groups={groups}: expected a name and settings for each group,"
            " such as {norms: {modules: [BatchNorm2d], weight_decay: 0.0}}."
        )
    for name, group in groups.items():
        if not group.keys() & set(SELECTORS):
            raise UserError(
                f"optimizer.groups.{name}: expected names, modules or ndim, which select the group's parameters."
            )
        frozen_after = group.get("frozen_after", 0)
        if isinstance(frozen_after, bool) or not isinstance(frozen_after, int) or frozen_after < 0:
            raise UserError(
                f"optimizer.groups.{name}.frozen_after={frozen_after}: expected a whole number of epochs, at least 0."
            )
    return groups


def _matches(model: nn.Module, name: str, group: Mapping[str, Any]) -> bool:
    module = type(model.get_submodule(name.rpartition(".")[0])).__name__
    ndim = model.get_parameter(name).ndim
    return (
        any(fnmatchcase(name, pattern) for pattern in _as_list(group.get("names", "*")))
        and module in _as_list(group.get("modules", module))
        and ndim in _as_list(group.get("ndim", ndim))
    )


def _as_list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _truncate_list(names: list[str], most: int = 12) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")
