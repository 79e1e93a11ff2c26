"""What a configuration's device settings mean on this machine, and what a device says of itself."""

import ctypes
import logging
import resource
import sys
from functools import cache
from pathlib import Path

import torch

from cnnzoo.errors import UserError

log = logging.getLogger(__name__)


def training_device(accelerator: str) -> torch.device:
    """The kind of device that `trainer.accelerator` means here.

    Raises:
        UserError: it asks for CUDA where there is none, or for something else altogether.
    """
    if accelerator not in ("auto", "cpu", "cuda", "gpu"):
        raise UserError(f"trainer.accelerator={accelerator}: expected auto, cpu or cuda.")
    if accelerator == "cpu":
        return torch.device("cpu")
    if torch.cuda.is_available():
        return torch.device("cuda", 0)
    if accelerator == "auto":
        return torch.device("cpu")
    raise UserError(
        f"trainer.accelerator={accelerator}: torch {torch.__version__} finds no CUDA device here."
        " Use trainer=cpu, or look at the driver with nvidia-smi."
    )


def resolve_precision(precision: str, device: torch.device) -> str:
    """What `auto` means on a device: bf16-mixed where it has matrix units for bfloat16, else 32-true."""
    if precision != "auto":
        return precision
    if device.type == "cuda":
        fast = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        fast = torch.cpu._is_amx_tile_supported()
    return "bf16-mixed" if fast else "32-true"


_WORTH_COMPILING = 10_000  # optimizer steps: a minute of compilation against 14 to 36 % of each on two cores


def compiles(setting: bool | str, steps: int, device: torch.device) -> bool:
    """What `trainer.compile` means for a training of so many steps: `auto` is for long ones, where it can be done."""
    if setting != "auto":
        return bool(setting)
    return steps >= _WORTH_COMPILING and _has_compiler(device)


@cache
def _has_compiler(device: torch.device) -> bool:
    try:
        torch.compile(torch.neg)(torch.ones(8, device=device))
    except Exception as error:  # which ones depends on what is missing
        log.warning("not compiled, for torch.compile does not work here: %s", str(error).strip().splitlines()[0])
        return False
    return True


def device_name(device: torch.device) -> str:
    """A name for people: the GPU's, or the processor's with the number of threads that torch uses."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    name = "CPU"
    try:
        with Path("/proc/cpuinfo").open() as lines:
            name = next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), name)
    except OSError:
        pass
    return f"{name}, {torch.get_num_threads()} threads"


def synchronize(device: torch.device) -> None:
    """Waits for all that was asked of the device."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


_CLEAR_REFS = Path("/proc/self/clear_refs")


def reset_peak_memory(device: torch.device) -> None:
    """Forgets the peaks of earlier runs in this process."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    try:
        _CLEAR_REFS.write_text("5")  # Linux: the resident set's high-water mark starts again
    except OSError:
        log.debug("no /proc/self/clear_refs: peak memory counts from the process's start")


def peak_memory(device: torch.device) -> int:
    """Bytes: what torch allocated on the GPU at most, or the process's largest resident set."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    try:
        status = Path("/proc/self/status").read_text()
        return 1024 * int(next(line.split()[1] for line in status.splitlines() if line.startswith("VmHWM")))
    except (OSError, StopIteration):
        return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


# Option numbers of mallopt, from glibc's malloc.h.
_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4


@cache
def keep_freed_memory() -> None:
    """Lets this process keep the memory that it frees, for the next tensor.

    By default glibc takes every large block from the kernel and gives it back, and on the CPU each activation of each
    step is such a block: the page faults of its first use cost 5 to 30 % of a training step.
    """
    if not sys.platform.startswith("linux"):
        return
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError):  # another C library
        return
    mallopt(_M_MMAP_MAX, 0)  # no block comes from the kernel on its own
    mallopt(_M_TRIM_THRESHOLD, 2**31 - 1)  # and none goes back
