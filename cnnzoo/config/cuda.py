"""The CUDA devices that this process may use, found without torch, and the resolvers that a launcher's YAML needs.

Where there is none, the processor is the one device, and a run has all of it: its sums are then the same ones, to the
last bit, whichever launcher it comes through.
"""

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


def cores_a_run() -> int:
    """1 where there is a CUDA device, else every core that this process may use."""
    import joblib  # slow to import

    return 1 if cuda_devices() else int(joblib.cpu_count())


def register() -> None:
    """`${cuda_devices:2}` is their number, 2 where there are none; `${cuda_devices_a_run:}` is 1, or 0 where there are
    none; `${cores_a_run:}` is the number of cores for a run that has such a device or has none.
    """
    OmegaConf.register_new_resolver("cuda_devices", lambda default: len(cuda_devices()) or default, replace=True)
    OmegaConf.register_new_resolver("cuda_devices_a_run", lambda: min(1, len(cuda_devices())), replace=True)
    OmegaConf.register_new_resolver("cores_a_run", cores_a_run, replace=True)
