"""Make an object from a `_target_`: the one door for networks, losses, optimizers, schedules, callbacks, loggers, data
sources, samplers and pruners.

Each place of the configuration takes one type of object. A target is called only if it is a class of that type, or a
function that is known to return one, by its return annotation or because its package is trusted.
"""

import functools
import importlib
import inspect
import sys
import types
import typing
from collections.abc import Callable, Iterable, Mapping, Sequence
from enum import Enum
from typing import Any, Literal, TypeVar, Union

from cnnzoo.errors import UserError, nearest

T = TypeVar("T")
Kinds = type | tuple[type, ...]

# Keys that are not arguments; Hydra's last two make no difference to plain containers.
_OURS = ("_target_", "_args_", "_partial_", "_convert_", "_recursive_")

# Functions that return networks without an annotation.
_FACTORIES = ("timm.create_model", "torchvision.models.get_model")
_EXTRAS = ("timm", "wandb", "mlflow", "optuna")  # packages that are optional dependencies of the same name
# What a `_target_` inside another one's arguments may make, besides the outer one's type.
_NESTED = (
    ("torch.nn", "Module"),
    ("torch.optim", "Optimizer"),
    ("torch.optim.lr_scheduler", "LRScheduler"),
    ("pytorch_lightning", "Callback"),
    ("pytorch_lightning.profilers", "Profiler"),
    ("pytorch_lightning.strategies", "Strategy"),
    ("datetime", "timedelta"),
)


def instantiate(
    makes: type[T] | tuple[type[T], ...],
    section: str,
    node: Mapping[str, Any],
    *args: Any,
    offered: Mapping[str, Any] | None = None,
    trusted_packages: Sequence[str] = (),
) -> T:
    """Call the `_target_` of a configuration's section with `args` and the section's other keys.

    Args:
        makes: the type of object that belongs here.
        section: the section's dotted name, for messages.
        node: resolved, in plain containers.
        offered: arguments that the target gets if it has parameters of these names and the section does not set them.
        trusted_packages: packages whose functions need no return annotation.

    Raises:
        UserError: there is no such target, it does not make such an object, or it refuses the arguments.
    """
    function = _checked(makes, section, node, trusted_packages)
    result = _call(function, makes, section, node, args, offered or {}, trusted_packages)
    if not isinstance(result, makes):
        raise UserError(
            f"{section}._target_={node['_target_']} made a {type(result).__name__}; expected {_name(makes)}."
        )
    return result


def _checked(
    makes: Kinds, section: str, node: Mapping[str, Any], trusted_packages: Sequence[str]
) -> Callable[..., Any]:
    """The callable that `node` names, if it makes what it should."""
    if not isinstance(node, Mapping) or "_target_" not in node:
        raise UserError(f"{section}: expected a _target_, the dotted path of {_name(makes)}, and its arguments.")
    target = node["_target_"]
    if not isinstance(target, str) or "." not in target:
        raise UserError(
            f"{section}._target_={target}: expected the dotted path of a class or function,"
            " such as torchvision.models.resnet18."
        )
    function = _locate(section, target)
    if _is_known_to_make(makes, target, function, trusted_packages):
        return function
    what = "a class of another kind" if inspect.isclass(function) else "not known to return one"
    package = target.partition(".")[0]
    raise UserError(
        f"{section}._target_={target}: {what}; expected a class of {_name(makes)}, or a function whose return"
        f" annotation names one. It was not called. If it does return one: trusted_packages=[{package}]."
    )


def _is_known_to_make(makes: Kinds, target: str, function: Callable[..., Any], trusted_packages: Sequence[str]) -> bool:
    if inspect.isclass(function):
        return issubclass(function, makes)
    module = getattr(function, "__module__", None) or ""
    if target in _FACTORIES or any(f"{module}.".startswith(f"{package}.") for package in trusted_packages):
        return True
    try:
        returned = typing.get_type_hints(function).get("return")
    except Exception:  # an annotation that cannot be evaluated is none
        return False
    return inspect.isclass(returned) and issubclass(returned, makes)


def _call(
    function: Callable[..., Any],
    makes: Kinds,
    section: str,
    node: Mapping[str, Any],
    args: Sequence[Any],
    offered: Mapping[str, Any],
    trusted_packages: Sequence[str],
) -> Any:
    def made(key: str, value: Any) -> Any:
        """`value` with every `_target_` in it, however deep, made into its object under the same rule."""
        if isinstance(value, Mapping) and "_target_" in value:
            return _nested(makes, key, value, trusted_packages)
        if isinstance(value, Mapping):
            return {name: made(f"{key}.{name}", item) for name, item in value.items()}
        if isinstance(value, list):
            return [made(f"{key}[{index}]", item) for index, item in enumerate(value)]
        return value

    kwargs = {key: made(f"{section}.{key}", value) for key, value in node.items() if key not in _OURS}
    args = [*args, *made(f"{section}._args_", list(node.get("_args_", ())))]
    _check_arguments(function, section, node, args, kwargs, offered)
    if (parameters := _parameters(function)) is not None:
        kwargs |= {key: value for key, value in offered.items() if key in parameters and key not in kwargs}
    if node.get("_partial_"):
        return functools.partial(function, *args, **kwargs)
    try:
        return function(*args, **kwargs)
    except UserError:
        raise
    except Exception as error:
        raise UserError(_failure(section, node, error)) from error


def _check_arguments(
    function: Callable[..., Any],
    section: str,
    node: Mapping[str, Any],
    args: Sequence[Any],
    kwargs: Mapping[str, Any],
    offered: Mapping[str, Any],
) -> None:
    """Compare arguments with a signature."""
    target, parameters, hints = node["_target_"], _parameters(function), _hints(function)
    if parameters is None:
        return
    named = [key for key, p in parameters.items() if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]
    open_ended = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
    for key, value in kwargs.items():
        if key not in named and not open_ended:
            raise UserError(
                f"{section}.{key}: {target} has no such argument.{nearest(key, named)} It takes {', '.join(named)}."
            )
        if key in hints and not _fits(value, hints[key], exact=target.startswith("cnnzoo.")):
            raise UserError(f"{section}.{key}={value}: {target} expects {_describe(hints[key])}.")
    required = [key for key in named[len(args) :] if parameters[key].default is inspect.Parameter.empty]
    missing = [key for key in required if key not in kwargs and key not in offered]
    if missing and not node.get("_partial_"):
        raise UserError(
            f"{section} lacks {', '.join(missing)}, which {target} requires: +{section}.{missing[0]}=VALUE."
        )


def _nested(makes: Kinds, section: str, node: Mapping[str, Any], trusted_packages: Sequence[str]) -> Any:
    # Importing the target imports what it derives from, so a type whose module is not there yet cannot be meant.
    _locate(section, str(node["_target_"]))
    kinds = [getattr(sys.modules[module], name) for module, name in _NESTED if module in sys.modules]
    allowed = (*(makes if isinstance(makes, tuple) else (makes,)), *kinds)
    return _call(_checked(allowed, section, node, trusted_packages), allowed, section, node, (), {}, trusted_packages)


def _locate(section: str, target: str) -> Callable[..., Any]:
    """Import what a dotted path names."""
    parts = target.split(".")
    if not all(part.isidentifier() for part in parts):
        raise UserError(f"{section}._target_={target}: not a dotted path such as torchvision.models.resnet18.")
    for count in range(len(parts) - 1, 0, -1):
        name = ".".join(parts[:count])
        try:
            found: Any = importlib.import_module(name)
        except ModuleNotFoundError as error:
            if error.name is not None and f"{name}.".startswith(f"{error.name}.") and count > 1:
                continue  # the last part may be a class
            raise UserError(_missing_module(section, target, error.name)) from error
        except Exception as error:  # whatever a module does while it is imported
            raise UserError(
                f"{section}._target_={target} cannot be imported: {type(error).__name__}: {error}"
            ) from error
        for part in parts[count:]:
            if not hasattr(found, part):
                where = getattr(found, "__name__", name)
                raise UserError(f"{section}._target_={target}: {where} has no {part}.{nearest(part, vars(found))}")
            found = getattr(found, part)
        if not callable(found):
            raise UserError(f"{section}._target_={target}: a {type(found).__name__}; expected a class or a function.")
        return found  # type: ignore[no-any-return]
    raise UserError(_missing_module(section, target, parts[0]))


def _missing_module(section: str, target: str, module: str | None) -> str:
    package = (module or target).partition(".")[0]
    if package in _EXTRAS:
        return f"{section}._target_={target} needs {package}: pip install 'cnnzoo[{package}]'"
    return (
        f"{section}._target_={target} needs the module {module}, which Python does not find:"
        " install its package, or put its folder on PYTHONPATH."
    )


def _failure(section: str, node: Mapping[str, Any], error: Exception) -> str:
    arguments = ", ".join(f"{key}={value!r}" for key, value in node.items() if not key.startswith("_"))
    return (
        f"{section}: {node['_target_']}({arguments}) failed: {type(error).__name__}: {str(error).rstrip('.')}."
        f" {section}.KEY=VALUE sets an argument, +{section}.KEY=VALUE adds one, ~{section}.KEY takes one away."
    )


def _parameters(function: Callable[..., Any]) -> Mapping[str, inspect.Parameter] | None:
    try:
        return inspect.signature(function).parameters
    except (TypeError, ValueError):  # built in, without a signature
        return None


def _hints(function: Callable[..., Any]) -> dict[str, Any]:
    try:
        return typing.get_type_hints(function.__init__ if inspect.isclass(function) else function)
    except Exception:
        return {}


_WORDS: dict[Any, str] = {int: "a whole number", float: "a number", bool: "true or false", str: "a text"}
_WORDS |= {types.NoneType: "null", None: "null"}


def _fits(value: Any, hint: Any, exact: bool) -> bool:
    """Whether a plain value fits a type hint; hints beyond those that YAML values can meet always fit.

    `exact`: a whole number is one. Other packages' annotations are not always that precise.
    """
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (Union, types.UnionType):
        return any(_fits(value, argument, exact) for argument in arguments)
    if origin is Literal:
        return value in arguments
    if isinstance(origin, type) and issubclass(origin, Iterable) and not issubclass(origin, Mapping):
        items = {argument for argument in arguments if argument is not Ellipsis}
        if not isinstance(value, list | tuple):
            return not isinstance(value, int | float | str | bool | None)
        return len(items) != 1 or all(_fits(item, next(iter(items)), exact) for item in value)
    if hint is None or hint is types.NoneType:
        return value is None
    if hint is bool:
        return isinstance(value, bool)
    if hint in (int, float):
        kinds = (int,) if hint is int and exact else (int, float)
        return isinstance(value, kinds) and not isinstance(value, bool)
    if hint is str:
        return isinstance(value, str)
    if inspect.isclass(hint) and issubclass(hint, Enum):
        return True  # torchvision's take names, such as weights=DEFAULT
    if inspect.isclass(hint) and isinstance(value, int | float | str | bool | None):
        return isinstance(value, hint)
    return True


def _describe(hint: Any) -> str:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (Union, types.UnionType):
        return " or ".join(map(_describe, arguments))
    if origin is Literal:
        return "one of " + ", ".join(map(str, arguments))
    if isinstance(origin, type) and issubclass(origin, Iterable) and arguments:
        return f"a list, each entry {_describe(arguments[0])}"
    return _WORDS.get(hint) or str(getattr(hint, "__name__", hint))


def _name(makes: Kinds) -> str:
    kinds = makes if isinstance(makes, tuple) else (makes,)
    return " or ".join(f"{kind.__module__.partition('.')[0]}'s {kind.__name__}" for kind in kinds)
