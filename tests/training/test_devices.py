"""What device settings mean on a machine."""

import resource
import subprocess
import sys
import types
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

from cnnzoo.errors import UserError
from cnnzoo.training import devices

CPU = torch.device("cpu")


def test_accelerators(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert devices.training_device("cpu") == devices.training_device("auto") == CPU
    with pytest.raises(UserError, match=r"accelerator=cuda.*no CUDA device.*nvidia-smi"):
        devices.training_device("cuda")
    with pytest.raises(UserError, match="accelerator=tpu: expected auto, cpu or cuda"):
        devices.training_device("tpu")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert devices.training_device("auto") == devices.training_device("gpu") == torch.device("cuda", 0)
    assert devices.training_device("cpu") == CPU


@pytest.mark.parametrize(
    ("has", "units"),
    [
        ({"amx_tile": True, "amx_bf16": True, "avx512_bf16": True}, "AMX"),
        ({"amx_bf16": False, "avx512_bf16": True}, "AVX-512 BF16"),
        ({"avx512_f": True, "avx512_vnni": True, "avx512_bf16": False}, ""),
        ({"architecture": "arm64", "neon": True, "bf16": True}, ""),
        ({}, ""),
    ],
)
def test_precision_auto_follows_the_processor(has: dict[str, Any], units: str, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = "bf16-mixed" if units else "32-true"
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: has, raising=False)
    assert devices.bf16_units(CPU) == units
    assert devices.resolve_precision("auto", CPU) == expected
    assert devices.resolve_precision("64-true", CPU) == "64-true"
    # older torch, and one that has neither
    monkeypatch.delattr(torch.cpu, "get_capabilities")
    for name, key in (("_is_amx_tile_supported", "amx_bf16"), ("_is_avx512_bf16_supported", "avx512_bf16")):
        monkeypatch.setattr(torch.cpu, name, partial(has.get, key, False), raising=False)
    assert devices.resolve_precision("auto", CPU) == expected
    for name in ("_is_amx_tile_supported", "_is_avx512_bf16_supported"):
        monkeypatch.delattr(torch.cpu, name)
    assert devices.resolve_precision("auto", CPU) == "32-true"


@pytest.mark.parametrize(("units", "expected"), [(True, "bf16-mixed"), (False, "32-true")])
def test_precision_auto_on_cuda(units: bool, expected: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: units)
    assert devices.resolve_precision("auto", torch.device("cuda")) == expected


def test_bf16_units_are_what_the_kernel_lists() -> None:
    if not sys.platform.startswith("linux"):
        pytest.skip("reads /proc/cpuinfo")
    flags = Path("/proc/cpuinfo").read_text().split()
    assert bool(devices.bf16_units(CPU)) == ("amx_bf16" in flags or "avx512_bf16" in flags)


@pytest.mark.skipif(not devices._CLEAR_REFS.exists(), reason="there is no /proc/self/clear_refs")
def test_peak_memory_counts_what_was_freed_and_starts_again() -> None:
    """In a process of its own: one that has freed much memory before may take the block from that."""
    code = (
        "import torch; from cnnzoo.training import devices; cpu = torch.device('cpu')\n"
        "devices.reset_peak_memory(cpu); before = devices.peak_memory(cpu)\n"
        "block = torch.ones(64 * 2**20); del block; print(devices.peak_memory(cpu) - before)\n"
        "devices.reset_peak_memory(cpu); print(devices.peak_memory(cpu) - before)"
    )
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    grown, afterwards = map(int, answer.stdout.split())
    assert 200 * 2**20 < grown < 320 * 2**20
    assert afterwards < 100 * 2**20


@pytest.mark.parametrize(("platform", "expected"), [("darwin", 5_000_000), ("freebsd14", 5_000_000 * 1024)])
def test_peak_memory_without_proc(platform: str, expected: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """macOS reports bytes, others kibibytes."""

    def no_such_file(*args: Any) -> str:
        raise FileNotFoundError

    monkeypatch.setattr(Path, "read_text", no_such_file)
    monkeypatch.setattr(sys, "platform", platform)
    monkeypatch.setattr(resource, "getrusage", lambda who: types.SimpleNamespace(ru_maxrss=5_000_000))
    assert devices.peak_memory(CPU) == expected


@pytest.mark.parametrize(
    ("setting", "steps", "expected"),
    [("auto", 10_000, True), ("auto", 9_999, False), (True, 1, True), (False, 10_000, False)],
)
def test_should_compile(setting: bool | str, steps: int, expected: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "_has_compiler", lambda device: True)
    assert devices.should_compile(setting, steps, CPU) is expected


def test_device_name_has_the_number_of_threads() -> None:
    assert devices.device_name(CPU).endswith(f", {torch.get_num_threads()} threads")
