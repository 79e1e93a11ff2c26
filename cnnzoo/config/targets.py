"""Calling what a `_target_` names, with messages for what can go wrong."""

import importlib
import inspect
from collections.abc import Callable, Mapping
from typing import Any

from cnnzoo.errors import UserError, nearest


def call_target(section: str, node: Mapping[str, Any], *args: Any) -> Any:
    """Calls the `_target_` of a configuration's section with `args` and the section's other keys.

    Raises:
        UserError: there is no such target, or it refuses the arguments.
    """
    target = node["_target_"]
    kwargs = {key: value for key, value in node.items() if key != "_target_"}
    function = _find(section, target)
    accepted = inspect.signature(function).parameters
    if not any(p.kind is p.VAR_KEYWORD for p in accepted.values()):
        for key in kwargs:
            if key not in accepted:
                raise UserError(f"{section}.{key}: {target} has no such argument.{nearest(key, accepted)}")
    try:
        return function(*args, **kwargs)
    except (TypeError, ValueError) as error:
        raise UserError(f"{section}: {target} refuses its arguments: {error}") from error


def _find(section: str, target: str) -> Callable[..., Any]:
    module_name, _, name = target.rpartition(".")
    try:
        module = importlib.import_module(module_name)
    except ImportError as error:
        raise UserError(f"{section}._target_={target}: {module_name} cannot be imported ({error}).") from error
    function = getattr(module, name, None)
    if not callable(function):
        raise UserError(f"{section}._target_={target}: {module_name} has no {name}.{nearest(name, vars(module))}")
    return function
