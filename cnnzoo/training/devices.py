"""Device, precision, compilation and memory: what the settings mean on this machine."""

import ctypes
import logging
import resource
import sys
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import torch

from cnnzoo.errors import UserError

log = logging.getLogger(__name__)


def training_device(accelerator: str) -> torch.device:
    """Return the kind of device that `trainer.accelerator` selects here.

    Raises:
        UserError: CUDA is asked for but not available, or the value is none of auto, cpu, cuda, gpu.
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
    """Resolve `auto`: bf16-mixed where `bf16_units` names some, else 32-true.

    Raises:
        UserError: the device has no such precision.
    """
    if precision == "16-mixed" and device.type == "cpu":
        raise UserError(
            "trainer.precision=16-mixed: there is no mixed precision with float16 on the CPU; expected bf16-mixed,"
            " 32-true, 64-true or auto."
        )
    if precision != "auto":
        return precision
    return "bf16-mixed" if bf16_units(device) else "32-true"


def bf16_units(device: torch.device) -> str:
    """Name what multiplies bfloat16 faster than float32 on this device; empty if nothing is known to.

    A question of what the device is and not of a timing, so that the same machine always answers the same. Measured:
    AMX, and AVX-512 BF16 of an AMD EPYC (`benchmarks/results/`). ARM's bf16 instructions are not, and do not count.
    """
    if device.type == "cuda":
        return "tensor cores" if torch.cuda.is_bf16_supported(including_emulation=False) else ""
    capabilities = _cpu_capabilities()
    names = {"amx_bf16": "AMX", "avx512_bf16": "AVX-512 BF16"}
    return next((name for key, name in names.items() if capabilities.get(key)), "")


def _cpu_capabilities() -> Mapping[str, Any]:
    if hasattr(torch.cpu, "get_capabilities"):
        return torch.cpu.get_capabilities()
    # Older torch has no public function; without the private ones, full precision is the safe choice.
    return {
        "amx_bf16": getattr(torch.cpu, "_is_amx_tile_supported", bool)(),
        "avx512_bf16": getattr(torch.cpu, "_is_avx512_bf16_supported", bool)(),
    }


MIN_STEPS_TO_COMPILE = 10_000  # optimizer steps: a minute of compilation against 14 to 36 % of each on two cores


def should_compile(setting: bool | str, steps: int, device: torch.device) -> bool:
    """Resolve `trainer.compile` for a training of `steps` optimizer steps: `auto` compiles long ones, if it works."""
    if setting != "auto":
        return bool(setting)
    return steps >= MIN_STEPS_TO_COMPILE and _has_compiler(device)


@cache
def _has_compiler(device: torch.device) -> bool:
    try:
        torch.compile(torch.neg)(torch.ones(8, device=device))
    except Exception as error:  # its type depends on what is missing
        reason = str(error).strip().splitlines()[0]
        log.warning("not compiling the network, because torch.compile does not work here: %s", reason)
        return False
    return True


def device_name(device: torch.device) -> str:
    """Return the name of the GPU, or of the processor with the number of threads that torch uses."""
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
    """Wait until the device has finished all work."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


_CLEAR_REFS = Path("/proc/self/clear_refs")


def reset_peak_memory(device: torch.device) -> None:
    """Start `peak_memory` again, so that earlier runs of this process do not count."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    try:
        _CLEAR_REFS.write_text("5")  # Linux: resets the high-water mark of the resident set
    except OSError:
        log.debug("no /proc/self/clear_refs: peak memory counts from the start of the process")


def peak_memory(device: torch.device) -> int:
    """Return the peak in bytes: memory that torch allocated on the GPU, or the resident set of the process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    try:
        status = Path("/proc/self/status").read_text()
        return 1024 * int(next(line.split()[1] for line in status.splitlines() if line.startswith("VmHWM")))
    except (OSError, StopIteration):
        unit = 1 if sys.platform == "darwin" else 1024
        return unit * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


# Option numbers of mallopt, from glibc's malloc.h.
_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4


@cache
def disable_malloc_trim() -> None:
    """Stop glibc from returning freed memory to the kernel.

    By default glibc takes each large block from the kernel and gives it back, and on the CPU each activation of each
    step is such a block: the page faults of its first use cost 5 to 30 % of a training step.
    """
    if not sys.platform.startswith("linux"):
        return
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError):  # another C library
        return
    mallopt(_M_MMAP_MAX, 0)  # no block of its own from the kernel
    mallopt(_M_TRIM_THRESHOLD, 2**31 - 1)  # and none given back
