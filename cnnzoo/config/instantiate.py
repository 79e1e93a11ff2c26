"""Make an object from a `_target_`: the one door for networks, losses, optimizers, schedules, callbacks, loggers, data
sources, samplers and pruners.

Each place of the configuration takes one type of object, and a target is refused before it is called unless it makes
one. A class must be of that type. A function must be the user's own, or of a module that has functions for that purpose
alone, and its return annotation must name the type; a package that the user has named on the command line needs no
annotation. Everything else may load files, run programs or execute text, whatever its annotation: of torch,
`torch.fx.graph_module.reduce_graph_module(body, import_block) -> Module` is such a function.
"""

import functools
import importlib
import importlib.util
import inspect
import sys
import sysconfig
import types
import typing
from collections.abc import Callable, Iterable, Mapping, Sequence
from enum import Enum
from pathlib import Path
from typing import Any, Literal, TypeVar, Union

from cnnzoo.errors import UserError, nearest

T = TypeVar("T")
Kinds = type | tuple[type, ...]

# Keys that are not arguments; Hydra's last two make no difference to plain containers.
_OURS = ("_target_", "_args_", "_partial_", "_convert_", "_recursive_")

# What cnnzoo is built on: to import these runs nobody else's code.
_KNOWN = ("cnnzoo", "torch", "torchvision", "timm", "pytorch_lightning", "optuna")
# Modules of theirs with functions that make what a configuration asks for; no function of any other is called.
_FUNCTIONS = (
    "cnnzoo.models",
    "cnnzoo.data",
    "cnnzoo.training.schedules",
    "timm.models",
    "timm.optim",
    "torchvision.models",
)
# Functions that return networks without an annotation.
_FACTORIES = ("timm.create_model", "torchvision.models.get_model")
# Arguments of timm's functions that read a file or an address: `weights` does that for every network, and checks it.
_TIMM_FILES = ("checkpoint_path", "pretrained_cfg", "pretrained_cfg_overlay")
# Of Python itself, the one class that an argument may need.
_PYTHON = ("datetime.timedelta",)
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
            The section may repeat them: a target without such parameters goes without.
        trusted_packages: packages that the user has named, whose functions need no return annotation.

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


def refuse_unknown_packages(section: str, node: Any, trusted_packages: Sequence[str]) -> None:
    """Refuse every target in `node`, however deep, of a package that nobody here has named; nothing is imported.

    This is for configurations that come from elsewhere. Importing a module runs it.

    Raises:
        UserError: there is such a target, or one that would fetch a network's definition from elsewhere.
    """
    if isinstance(node, list):
        for index, value in enumerate(node):
            refuse_unknown_packages(f"{section}[{index}]", value, trusted_packages)
    if not isinstance(node, Mapping):
        return
    target = node.get("_target_")
    if isinstance(target, str) and not _within(target, (*_KNOWN, *_PYTHON, *trusted_packages)):
        package = target.partition(".")[0]
        remedy = (
            f" If you know {package} and trust it: trusted_packages=[{package}], or --trust {package} where a command"
            " takes options."
        )
        raise UserError(
            f"{section}._target_={target}: a run's folder may come from anybody, and so it does not make {package} run."
            f" Nothing of it was imported.{'' if package.strip() in sys.stdlib_module_names else remedy}"
        )
    if _within(str(target), ["timm"]) and any(":" in str(value) for value in (node.get("model_name"), _args(node))):
        raise UserError(
            f"{section}.model_name={node.get('model_name')}: a configuration that may come from elsewhere is no reason"
            " to load a network's definition from a folder or from the network. Expected a name of timm's own."
        )
    for key, value in node.items():
        refuse_unknown_packages(f"{section}.{key}", value, trusted_packages)


def own_packages(names: Iterable[str]) -> list[str]:
    """Those of `names` that are the user's own modules, neither Python's nor installed; nothing is imported."""
    found = []
    for name in dict.fromkeys(names):
        spec = None if _is_foreign(name) else importlib.util.find_spec(name)
        if spec and not any(map(_is_installed, [spec.origin or "", *(spec.submodule_search_locations or ())])):
            found.append(name)
    return found


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
    package = target.partition(".")[0]
    if package in sys.stdlib_module_names and target not in _PYTHON and package != "__main__":
        raise _refused(makes, section, target, f"{package} is a module of Python itself", "")
    function = _locate(section, target)
    if _is_known_to_make(makes, target, function, trusted_packages):
        return function
    package = str(getattr(function, "__module__", None) or package).partition(".")[0]
    if inspect.isclass(function):
        what, remedy = "a class of another kind", ""
    elif _is_foreign(package):
        what, remedy = f"functions of {package} can do anything, and are not called from a configuration", ""
    else:
        what = "not known to return one"
        remedy = f" If it does, and you trust all of {package}: trusted_packages=[{package}]."
    raise _refused(makes, section, target, what, remedy)


def _refused(makes: Kinds, section: str, target: str, what: str, remedy: str) -> UserError:
    return UserError(
        f"{section}._target_={target}: {what}; expected a class of {_name(makes)}, or a function of your own whose"
        f" return annotation names one. It was not called.{remedy}"
    )


def _is_known_to_make(makes: Kinds, target: str, function: Callable[..., Any], trusted_packages: Sequence[str]) -> bool:
    if inspect.isclass(function):
        return issubclass(function, makes)
    module = str(getattr(function, "__module__", None) or "")
    if target in _FACTORIES or _within(module, trusted_packages):
        return True
    if not (inspect.isfunction(function) and _within(module, _FUNCTIONS)) and not _is_own(module):
        return False
    try:
        returned = typing.get_type_hints(function).get("return")
    except Exception:  # an annotation that cannot be evaluated is none
        return False
    return inspect.isclass(returned) and issubclass(returned, makes)


def _within(path: str, packages: Iterable[str]) -> bool:
    return any(f"{path}.".startswith(f"{package}.") for package in packages)


def _is_foreign(package: str) -> bool:
    """Whether a package is Python's, or one that cnnzoo is built on."""
    return package in _KNOWN or (package in sys.stdlib_module_names and package != "__main__")


def _is_own(module: str) -> bool:
    """Whether an imported module is the user's own."""
    if module == "__main__":
        return True
    file = getattr(sys.modules.get(module), "__file__", None)
    return file is not None and not _is_foreign(module.partition(".")[0]) and not _is_installed(file)


def _is_installed(path: str) -> bool:
    """Whether a file is Python's, or an installed package's."""
    return not {"site-packages", "dist-packages"}.isdisjoint(Path(path).parts) or (
        Path(path).is_relative_to(sysconfig.get_path("stdlib")) or path in ("built-in", "frozen")
    )


def _args(node: Mapping[str, Any]) -> list[Any]:
    args = node.get("_args_", [])
    return args if isinstance(args, list) else [args]


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

    if odd := [key for key in node if not isinstance(key, str)]:
        raise UserError(f"{section}.{odd[0]}: expected a name; the arguments of {node['_target_']} have names.")
    kwargs = {key: made(f"{section}.{key}", value) for key, value in node.items() if key not in _OURS}
    args = [*args, *made(f"{section}._args_", _args(node))]
    if (parameters := _parameters(function)) is not None and not _is_open_ended(parameters):
        kwargs = {key: value for key, value in kwargs.items() if key in parameters or offered.get(key) != value}
    _check_arguments(function, section, node, args, kwargs, offered)
    if parameters is not None:
        kwargs |= {key: value for key, value in offered.items() if key in parameters and key not in kwargs}
    if node.get("_partial_"):
        return functools.partial(function, *args, **kwargs)
    try:
        return function(*args, **kwargs)
    except UserError:
        raise
    except (Exception, SystemExit) as error:
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
    positional = [key for key, p in parameters.items() if p.kind is p.POSITIONAL_OR_KEYWORD][: len(args)]
    if _within(target, ["timm"]) and (files := {*kwargs, *positional} & set(_TIMM_FILES)):
        raise UserError(
            f"{section}.{min(files)}: reads a file or an address without a check."
            " weights=FILE starts a training from a file's weights, and checks them."
        )
    named = [key for key, p in parameters.items() if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]
    open_ended = _is_open_ended(parameters)
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
    if private := [part for part in parts[1:] if part.startswith("_")]:
        raise UserError(
            f"{section}._target_={target}: {private[0]} is private; expected a public class or function. It was not"
            " called."
        )
    for count in range(len(parts) - 1, 0, -1):
        name = ".".join(parts[:count])
        try:
            found: Any = importlib.import_module(name)
        except ModuleNotFoundError as error:
            if error.name is not None and f"{name}.".startswith(f"{error.name}.") and count > 1:
                continue  # the last part may be a class
            raise UserError(_missing_module(section, target, error.name)) from error
        except (Exception, SystemExit) as error:  # whatever a module does while it is imported
            raise UserError(
                f"{section}._target_={target} cannot be imported: {type(error).__name__}: {error}"
            ) from error
        for part in parts[count:]:
            if not isinstance(found, types.ModuleType | type):
                what = type(found).__name__
                raise UserError(f"{section}._target_={target}: leads through a {what}; expected modules and classes.")
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


def _failure(section: str, node: Mapping[str, Any], error: BaseException) -> str:
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


def _is_open_ended(parameters: Mapping[str, inspect.Parameter]) -> bool:
    """Whether there is a `**kwargs`."""
    return any(p.kind is p.VAR_KEYWORD for p in parameters.values())


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
    return " or ".join(dict.fromkeys(f"{kind.__module__.partition('.')[0]}'s {kind.__name__}" for kind in kinds))
