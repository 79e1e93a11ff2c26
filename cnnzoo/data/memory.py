"""How much memory is free, and whether images may live in it."""

import contextlib
from pathlib import Path

import torch

CPU = torch.device("cpu")


def has_room(size: int, device: torch.device = CPU, spare: float = 1) -> bool:
    """Whether `size` bytes of images fit on `device` and leave `spare` times as much for training."""
    there_is = free(device)
    return there_is is None or (1 + spare) * size <= there_is


def free(device: torch.device = CPU) -> int | None:
    """Bytes that this process may still take on `device`; None where the system does not say."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    limits = []
    with contextlib.suppress(OSError, StopIteration):
        limits.append(_kibibytes(Path("/proc/meminfo"), "MemAvailable"))
    with contextlib.suppress(OSError, StopIteration):  # containers and batch systems set limits of their own
        groups = Path("/proc/self/cgroup").read_text(encoding="utf-8").splitlines()
        group = next(line for line in groups if line.startswith("0::")).removeprefix("0::").strip("/")
        for folder in (Path("/sys/fs/cgroup") / part for part in (group, *map(str, Path(group).parents))):
            with contextlib.suppress(OSError, ValueError):  # "max" where there is none
                limit = int((folder / "memory.max").read_text(encoding="ascii"))
                limits.append(limit - _anonymous(folder))
    return max(0, min(limits)) if limits else None


def _kibibytes(file: Path, name: str) -> int:
    lines = file.read_text(encoding="ascii").splitlines()
    return 1024 * int(next(line for line in lines if line.startswith(f"{name}:")).split()[1])


def _anonymous(group: Path) -> int:
    """Bytes of a control group that are nobody's file: the rest can be dropped."""
    lines = (group / "memory.stat").read_text(encoding="ascii").splitlines()
    return int(next(line for line in lines if line.startswith("anon ")).split()[1])
