"""The CUDA devices that this process may use, found without torch, and the resolvers that a launcher's YAML needs."""

import os
import subprocess
from functools import cache

from omegaconf import OmegaConf


@cache
def cuda_devices() -> tuple[str, ...]:
    """Names for CUDA_VISIBLE_DEVICES: that variable's own, else numbers of what nvidia-smi lists."""
    if (visible := os.environ.get("CUDA_VISIBLE_DEVICES")) is not None:
        return tuple(name.strip() for name in visible.split(",") if name.strip() not in ("", "-1"))
    try:
        answer = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, timeout=60, check=True)
    except (OSError, subprocess.SubprocessError):
        return ()
    return tuple(str(index) for index, _ in enumerate(filter(_is_device, answer.stdout.splitlines())))


def _is_device(line: str) -> bool:
    return line.startswith("GPU ")  # the parts of a device that is cut into several are indented


def register() -> None:
    """`${cuda_devices:2}`: their number, 2 where there are none. `${a_cuda_device:}`: 1 where there is one, else 0."""
    OmegaConf.register_new_resolver("cuda_devices", lambda default: len(cuda_devices()) or default, replace=True)
    OmegaConf.register_new_resolver("a_cuda_device", lambda: min(1, len(cuda_devices())), replace=True)
