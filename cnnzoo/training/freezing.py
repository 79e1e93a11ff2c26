"""Parameters that are not trained, by patterns of their names: the setting `freeze`."""

from collections.abc import Sequence
from fnmatch import fnmatchcase

from torch import nn

from cnnzoo.errors import UserError, nearest


def freeze_parameters(model: nn.Module, patterns: Sequence[str]) -> list[str]:
    """Exclude the parameters whose dotted names match a shell pattern from training.

    Returns:
        The names of the modules whose running statistics are to stay fixed as well: all of their parameters are frozen,
        or, if they have none, a pattern matches their statistics.

    Raises:
        UserError: a pattern matches no parameter, or nothing is left to train.
    """
    names = dict(model.named_parameters())
    for pattern in patterns:
        if not any(fnmatchcase(name, pattern) for name in names):
            modules = [f"{name}.*" for name, module in model.named_modules() if name]
            raise UserError(
                f"freeze: {pattern} matches none of the network's parameters.{nearest(pattern, [*names, *modules])}"
                " `python -m cnnzoo.summary` with the same model lists layers and their names."
            )

    def matches(name: str) -> bool:
        return any(fnmatchcase(name, pattern) for pattern in patterns)

    for name, parameter in names.items():
        if matches(name):
            parameter.requires_grad_(False)
    if patterns and not any(parameter.requires_grad for parameter in names.values()):
        raise UserError(f"freeze={list(patterns)} leaves no parameter to train.")
    fixed = []
    for key, _ in model.named_buffers():
        module, _, buffer = key.rpartition(".")
        if buffer == "running_mean":
            own = [f"{module}.{name}".lstrip(".") for name, _ in model.get_submodule(module).named_parameters()]
            if all(map(matches, own or [key])):
                fixed.append(module)
    return fixed
