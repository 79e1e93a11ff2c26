"""How much memory is free, and whether images may stay in it."""

import contextlib
from pathlib import Path

import torch

CPU = torch.device("cpu")


def has_room(size: int, device: torch.device = CPU, spare: float = 1) -> bool:
    """Whether `size` bytes of images fit on `device` and leave `spare` times as much for training."""
    available = free(device)
    return available is None or (1 + spare) * size <= available


def free(device: torch.device = CPU) -> int | None:
    """Bytes that this process may still allocate on `device`; None where the system does not tell."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    limits = []
    with contextlib.suppress(OSError, StopIteration):
        limits.append(1024 * _value(Path("/proc/meminfo"), "MemAvailable:"))
    with contextlib.suppress(OSError, StopIteration):  # containers and batch systems set limits of their own
        groups = Path("/proc/self/cgroup").read_text(encoding="ascii").splitlines()
        group = next(line for line in groups if line.startswith("0::")).removeprefix("0::").strip("/")
        for folder in (Path("/sys/fs/cgroup") / path for path in (group, *map(str, Path(group).parents))):
            with contextlib.suppress(OSError, ValueError):  # "max" where there is no limit
                limit = int((folder / "memory.max").read_text(encoding="ascii"))
                # Only anonymous pages count: those of files can be dropped.
                limits.append(limit - _value(folder / "memory.stat", "anon"))
    return max(0, min(limits)) if limits else None


def _value(file: Path, key: str) -> int:
    """The number after `key` in a file of lines `key number …`."""
    lines = map(str.split, file.read_text(encoding="ascii").splitlines())
    return next(int(words[1]) for words in lines if words[0] == key)
