"""Checks of a composed configuration that types alone cannot do; run for every command, `--cfg job` included.

`model.*` are the constructor's arguments behind `_target_`. They are checked against its signature as it stands in
the source file, read without importing it: the constructor's module would bring torch along, which costs seconds.
"""

import ast
import importlib.util
import math
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from cnnzoo.errors import UserError, nearest

# A keyword is required unless the signature gives a default.
Signature = dict[str, tuple[ast.expr | None, bool]]


def check(cfg: Mapping[str, Any]) -> None:
    """Raises UserError for values of the right type that cannot work; `cfg` is resolved, in plain containers."""
    _check_call("model", cfg["model"])
    _check_val_size(cfg["dataset"]["val_size"])  # before the source's own arguments, which may hold it too
    _check_call("dataset.source", cfg["dataset"]["source"])
    _check_numbers("optimizer", cfg["optimizer"], text_keys=())
    _check_groups(cfg["optimizer"].get("groups"))
    _check_numbers("scheduler", cfg["scheduler"], text_keys=("interval", "mode", "anneal_strategy", "threshold_mode"))
    if cfg["scheduler"].get("_target_") and cfg["scheduler"].get("interval") not in ("epoch", "step"):
        raise UserError(f"scheduler.interval={cfg['scheduler'].get('interval')!r}: expected 'epoch' or 'step'.")

    def at_least(key: str, minimum: float, maximum: float = float("inf")) -> None:
        value: Any = cfg
        for part in key.split("."):
            value = value[part]
        if value is not None and not minimum <= value <= maximum:
            upper = f" and at most {maximum:g}" if maximum < float("inf") else ""
            raise UserError(f"{key}={value}: expected at least {minimum:g}{upper}.")

    _check_epochs(cfg["trainer"], validates=cfg["dataset"]["val_size"] != 0)
    at_least("trainer.limit_train_batches", 1)
    at_least("trainer.limit_val_batches", 1)
    at_least("trainer.accumulate_grad_batches", 1)
    at_least("trainer.check_val_every_n_epoch", 1)
    at_least("dataset.batch_size", 1)
    at_least("dataset.eval_batch_size", 1)
    at_least("dataset.channels", 1)
    at_least("dataset.workers", 0)
    at_least("dataset.num_classes", 2)
    at_least("image_size", 1)
    at_least("seed", 0, 2**32 - 1)
    at_least("augmentation.flip", 0, 1)
    at_least("augmentation.padding", 0)
    at_least("loss.label_smoothing", 0, 1)
    _check_augmentation(cfg["augmentation"], cfg["dataset"]["image_size"])
    _check_choice("tta", cfg["tta"], TTA)
    if cfg["trainer"]["compile"] not in ("auto", True, False):
        raise UserError(f"trainer.compile={cfg['trainer']['compile']}: expected auto, true or false.")
    _check_choice("trainer.compile_mode", cfg["trainer"]["compile_mode"], COMPILE_MODES)
    if cfg["dataset"]["resident"] not in ("auto", True, False):
        raise UserError(f"dataset.resident={cfg['dataset']['resident']}: expected auto, true or false.")
    _check_statistics(cfg["dataset"])
    _check_choice("trainer.precision", cfg["trainer"]["precision"], PRECISIONS)


PRECISIONS = ("auto", "32-true", "bf16-mixed", "16-mixed", "64-true")
COMPILE_MODES = ("default", "reduce-overhead", "max-autotune", "max-autotune-no-cudagraphs")
FLIP_MODES = ("random", "alternating")
PADDING_MODES = ("constant", "reflect")
TTA = ("none", "mirror", "mirror_translate")


def _check_choice(key: str, value: str, choices: Sequence[str]) -> None:
    if value not in choices:
        raise UserError(f"{key}={value}: expected one of {', '.join(choices)}.{nearest(value, choices)}")


def _check_epochs(trainer: Mapping[str, Any], validates: bool) -> None:
    epochs = trainer["max_epochs"]
    if isinstance(epochs, bool) or not isinstance(epochs, int | float):
        raise UserError(f"trainer.max_epochs={epochs}: expected a number.")
    if not 1 <= epochs < math.inf:
        raise UserError(f"trainer.max_epochs={epochs}: expected at least 1.")
    if validates and trainer["check_val_every_n_epoch"] > math.ceil(epochs):
        raise UserError(
            f"trainer.check_val_every_n_epoch={trainer['check_val_every_n_epoch']}: expected at most the"
            f" {math.ceil(epochs)} epochs of the run. dataset.val_size=0 trains without validation."
        )
    every = trainer["checkpoint_every_n_epochs"]
    if every < 1 or math.ceil(epochs) % every:
        raise UserError(
            f"trainer.checkpoint_every_n_epochs={every}: expected a divisor of the {math.ceil(epochs)} epochs, so that"
            " the last one is kept."
        )


def _check_augmentation(augmentation: Mapping[str, Any], image_size: int) -> None:
    scale, ratio = augmentation["scale"], augmentation["ratio"]
    for name, bounds in (("scale", scale), ("ratio", ratio)):
        if bounds is not None and not (len(bounds) == 2 and 0 < bounds[0] <= bounds[1]):
            raise UserError(f"augmentation.{name}={bounds}: expected two positive numbers, the smaller one first.")
    if (scale is None) != (ratio is None):
        raise UserError("augmentation.scale and augmentation.ratio describe one crop: set both, or both to null.")
    if scale is not None and scale[1] > 1:
        raise UserError(f"augmentation.scale={scale}: a share of the image's area, at most 1.")
    _check_choice("augmentation.flip_mode", augmentation["flip_mode"], FLIP_MODES)
    _check_choice("augmentation.padding_mode", augmentation["padding_mode"], PADDING_MODES)
    if augmentation["padding_mode"] == "reflect" and augmentation["padding"] >= image_size:
        raise UserError(
            f"augmentation.padding={augmentation['padding']}: an image of {image_size} pixels a side can be mirrored by"
            f" {image_size - 1} at most."
        )
    if scale is not None and augmentation["padding"]:
        raise UserError("augmentation.padding and augmentation.scale are two kinds of random crop: set one of them.")


def _check_val_size(size: Any) -> None:
    count = isinstance(size, int) and not isinstance(size, bool) and size >= 0
    share = isinstance(size, float) and 0 < size < 1
    if not (count or share):
        raise UserError(
            f"dataset.val_size={size}: expected a number of images (0: no validation), or a share of them below 1."
        )


def _check_statistics(dataset: Mapping[str, Any]) -> None:
    for name in ("mean", "std"):
        values = dataset[name]
        if values is not None and len(values) != dataset["channels"]:
            raise UserError(
                f"dataset.{name}={values}: expected one number for each of the {dataset['channels']} channel(s)."
            )
    if dataset["std"] is not None and min(dataset["std"]) <= 0:
        raise UserError(f"dataset.std={dataset['std']}: expected positive numbers.")


def _check_numbers(section: str, node: Mapping[str, Any], text_keys: tuple[str, ...]) -> None:
    """Optimizers and schedulers take numbers and flags; a text is a slip of the keyboard."""
    for key, value in node.items():
        if isinstance(value, str) and key != "_target_" and key not in text_keys:
            raise UserError(f"{section}.{key}={value}: expected a number, got a text.")
    if "lr" in node and (isinstance(node["lr"], bool) or not isinstance(node["lr"], int | float) or node["lr"] < 0):
        raise UserError(f"{section}.lr={node['lr']}: expected a number of at least 0.")


def _check_groups(groups: Any) -> None:
    if groups is None:
        return
    if not isinstance(groups, Mapping) or not all(isinstance(group, Mapping) for group in groups.values()):
        raise UserError(
            f"optimizer.groups={groups}: expected a name and settings for each group,"
            " such as {norms: {modules: [BatchNorm2d], weight_decay: 0.0}}."
        )
    for name, group in groups.items():
        section = f"optimizer.groups.{name}"
        if not {"names", "modules", "ndim"} & group.keys():
            raise UserError(f"{section}: names, modules or ndim say which parameters it takes; one of them is needed.")
        _check_numbers(section, group, text_keys=("names", "modules"))
        frozen_after = group.get("frozen_after", 1)
        if isinstance(frozen_after, bool) or not isinstance(frozen_after, int) or frozen_after < 1:
            raise UserError(f"{section}.frozen_after={frozen_after}: expected a whole number of epochs, at least 1.")


def _check_call(section: str, node: Mapping[str, Any]) -> None:
    target = node.get("_target_")
    if not isinstance(target, str) or "." not in target:
        raise UserError(
            f"{section}._target_={target}: expected the dotted path of a class or function,"
            " such as torchvision.models.resnet18."
        )
    signature = source_signature(target)
    if signature is None:  # not one of ours: its own code will speak when the run starts
        return
    arguments = {key: value for key, value in node.items() if not key.startswith("_")}
    for key, value in arguments.items():
        if key not in signature:
            raise UserError(
                f"{section}.{key}: {target} has no such argument.{nearest(key, signature)}"
                f" It takes {', '.join(signature)}."
            )
        annotation = signature[key][0]
        if annotation is not None and not _fits(value, annotation, _module_of(target)):
            raise UserError(f"{section}.{key}={value}: expected {_describe(annotation, _module_of(target))}.")
    missing = [key for key, (_, required) in signature.items() if required and key not in arguments]
    if missing:
        raise UserError(f"{section} lacks {', '.join(missing)}, which {target} requires.")


def source_signature(target: str) -> Signature | None:
    """Keyword arguments of one of cnnzoo's own classes or functions; None for code from elsewhere.

    Raises:
        UserError: the module is cnnzoo's own and holds no such name.
    """
    if not target.startswith("cnnzoo."):
        return None
    module, _, name = target.rpartition(".")
    tree = _parse(module)
    if tree is None:
        raise UserError(f"_target_={target}: there is no module {module}.")
    for node in tree.body:
        if isinstance(node, ast.FunctionDef) and node.name == name:
            return _keywords(node, skip=0)
        if isinstance(node, ast.ClassDef) and node.name == name:
            for item in node.body:
                if isinstance(item, ast.FunctionDef) and item.name == "__init__":
                    return _keywords(item, skip=1)
    names = [node.name for node in tree.body if isinstance(node, ast.ClassDef | ast.FunctionDef)]
    raise UserError(f"_target_={target}: {module} has no {name}.{nearest(name, names)}")


def _keywords(function: ast.FunctionDef, skip: int) -> Signature:
    positional, keyword_only = function.args.args[skip:], function.args.kwonlyargs
    without_default = len(positional) - len(function.args.defaults)
    signature: Signature = {arg.arg: (arg.annotation, i < without_default) for i, arg in enumerate(positional)}
    for arg, default in zip(keyword_only, function.args.kw_defaults, strict=True):
        signature[arg.arg] = (arg.annotation, default is None)
    return signature


def _module_of(target: str) -> str:
    return target.rpartition(".")[0]


@cache
def _parse(module: str) -> ast.Module | None:
    package = importlib.util.find_spec("cnnzoo")
    assert package is not None
    assert package.submodule_search_locations is not None
    path = Path(package.submodule_search_locations[0], *module.split(".")[1:])
    for file in (path.with_suffix(".py"), path / "__init__.py"):
        if file.is_file():
            return ast.parse(file.read_text(encoding="utf-8"))
    return None


def _alias(name: str, module: str) -> tuple[ast.expr, str] | None:
    """What a type alias such as `Activation` stands for, and the module that says so; imports are followed."""
    tree = _parse(module)
    for node in tree.body if tree else ():
        if isinstance(node, ast.Assign) and any(isinstance(t, ast.Name) and t.id == name for t in node.targets):
            return node.value, module
        if isinstance(node, ast.ImportFrom) and node.module and any(a.name == name for a in node.names):
            return _alias(name, node.module) if node.module.startswith("cnnzoo.") else None
    return None


_PLAIN = {"int": "a whole number", "float": "a number", "bool": "true or false", "str": "a text"}


def _fits(value: Any, annotation: ast.expr, module: str) -> bool:
    """Whether a plain value fits an annotation; annotations beyond the few that configurations need always fit."""
    match annotation:
        case ast.BinOp(left=left, op=ast.BitOr(), right=right):
            return _fits(value, left, module) or _fits(value, right, module)
        case ast.Constant(value=None):
            return value is None
        case ast.Name(id="int"):
            return isinstance(value, int) and not isinstance(value, bool)
        case ast.Name(id="float"):
            return isinstance(value, int | float) and not isinstance(value, bool)
        case ast.Name(id="bool"):
            return isinstance(value, bool)
        case ast.Name(id="str"):
            return isinstance(value, str)
        case ast.Subscript(value=ast.Name(id="Literal"), slice=choices):
            return value in [c.value for c in _literals(choices)]
        case ast.Subscript(value=ast.Name(id="Sequence" | "list"), slice=item):
            return isinstance(value, list) and all(_fits(v, item, module) for v in value)
        case ast.Name(id=name):
            alias = _alias(name, module)
            return _fits(value, *alias) if alias else True
        case _:
            return True


def _describe(annotation: ast.expr, module: str) -> str:
    match annotation:
        case ast.BinOp(left=left, op=ast.BitOr(), right=right):
            return f"{_describe(left, module)} or {_describe(right, module)}"
        case ast.Constant(value=None):
            return "null"
        case ast.Subscript(value=ast.Name(id="Literal"), slice=choices):
            return "one of " + ", ".join(str(c.value) for c in _literals(choices))
        case ast.Subscript(value=ast.Name(id="Sequence" | "list"), slice=item):
            return f"a list, each entry {_describe(item, module)}"
        case ast.Name(id=name) if name in _PLAIN:
            return _PLAIN[name]
        case ast.Name(id=name) if alias := _alias(name, module):
            return _describe(*alias)
        case _:
            return ast.unparse(annotation)


def _literals(choices: ast.expr) -> list[ast.Constant]:
    nodes = choices.elts if isinstance(choices, ast.Tuple) else [choices]
    return [node for node in nodes if isinstance(node, ast.Constant)]
