"""What YAML files can ask for, as `${cnnzoo.NAME:…}`; found without torch.

`nothing:`, an empty section, whatever else files put into it; `abspath:PATH`, `basename:PATH`; `class_count:FOLDER`,
the classes of a folder of images; `huggingface_path:PATH` and `huggingface_classes:SOURCE`, of a data set in that
format; `cuda_devices:DEFAULT`, their number; and what a run asks of a cluster:
`gpus_per_run:`, 1 where there is a CUDA device, else 0, and `cpus_per_run:`, 1 where there is one, else every core.
With all cores a run's sums are the same ones, to the last bit, whichever launcher it comes through.
"""

import os
import subprocess
from collections.abc import Callable, Mapping
from functools import cache
from inspect import signature
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from cnnzoo.config import huggingface
from cnnzoo.config.folder_layout import class_folders
from cnnzoo.errors import UserError


def register() -> None:
    """Make the resolvers known to OmegaConf, under names that no other application uses."""
    functions: dict[str, Callable[..., Any]] = {
        "nothing": lambda: OmegaConf.create({}),
        "abspath": _abspath,
        "basename": lambda path: Path(_abspath(path)).name,
        "class_count": lambda path: len(class_folders(Path(_abspath(path)))),
        "huggingface_path": huggingface.location,
        "huggingface_classes": _huggingface_classes,
        "cuda_devices": lambda default: len(cuda_devices()) or default,
        "gpus_per_run": lambda: min(1, len(cuda_devices())),
        "cpus_per_run": _cpus_per_run,
    }
    for name, function in functions.items():
        OmegaConf.register_new_resolver(f"cnnzoo.{name}", function, replace=True)


def _abspath(path: str | None) -> str:
    if not path:
        raise UserError("The path of a folder is empty: expected one, such as dataset.root=FOLDER.")
    return str(Path(path).expanduser().absolute())


def _huggingface_classes(source: Mapping[str, Any]) -> int:
    names = signature(huggingface.read).parameters
    return len(huggingface.read(**{name: source[name] for name in names}).classes)


def _cpus_per_run() -> int:
    import joblib  # slow to import

    return 1 if cuda_devices() else int(joblib.cpu_count())


@cache
def cuda_devices() -> tuple[str, ...]:
    """Names for CUDA_VISIBLE_DEVICES: those in that variable, else the numbers of what nvidia-smi lists."""
    if (visible := os.environ.get("CUDA_VISIBLE_DEVICES")) is not None:
        return tuple(name.strip() for name in visible.split(",") if name.strip() not in ("", "-1"))
    try:
        answer = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, timeout=60, check=True)
    except (OSError, subprocess.SubprocessError):
        return ()
    lines = answer.stdout.splitlines()
    devices = [line for line in lines if line.startswith("GPU ")]  # parts of a device (MIG) are indented
    return tuple(str(index) for index, _ in enumerate(devices))
