"""The sections `training` and `memory`."""

import mmap
from collections.abc import Callable

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from cnnzoo.bench import training
from cnnzoo.bench.context import Context
from cnnzoo.config.schema import BenchConfig
from cnnzoo.data.dataset import Dataset
from cnnzoo.nn.build import build_model

CPU = torch.device("cpu")
PEAKS = {"fp32_flops_per_second": 4e9, "bf16_flops_per_second": 8e9, "copy_bytes_per_second": 1e9}


def test_section(context: Callable[..., Context], monkeypatch: pytest.MonkeyPatch) -> None:
    costs = {"flops_per_image": 1e6, "fp32_bytes_per_image": 2e5, "bf16_bytes_per_image": 1e5}
    monkeypatch.setattr(training, "device_rates", lambda device: PEAKS)
    monkeypatch.setattr(training, "step_costs", lambda config, dataset, device: costs)
    result = training.measure_training(context("contestants=[cnnzoo,bare_fp32,bare_bf16]"))
    entries = result["contestants"]
    assert [entry["precision"] for entry in entries.values()] == ["32-true", "32-true", "bf16-mixed"]
    rates = {name: entry["median"] for name, entry in entries.items()}
    assert entries["bare_fp32"]["fraction_of_matmul_peak"] == pytest.approx(rates["bare_fp32"] * 1e6 / 4e9)
    assert entries["bare_bf16"]["fraction_of_matmul_peak"] == pytest.approx(rates["bare_bf16"] * 1e6 / 8e9)
    assert entries["bare_bf16"]["fraction_of_copy_peak"] == pytest.approx(rates["bare_bf16"] * 1e5 / 1e9)
    assert result["roofline"] == PEAKS | costs
    assert rates[result["best_bare"]] == max(rates["bare_fp32"], rates["bare_bf16"])
    assert all(entry["first_step_seconds"] > 0 for entry in entries.values())


def test_costs_of_a_step(small: Callable[..., BenchConfig], dataset: Dataset) -> None:
    costs = training.step_costs(small(), dataset, CPU)
    with FlopCounterMode(display=False) as counter:
        build_model(small()).eval()(torch.zeros(1, 1, 8, 8))
    assert costs["flops_per_image"] == 3 * counter.get_total_flops()
    assert costs["fp32_bytes_per_image"] > costs["bf16_bytes_per_image"] > 0


def test_peak_is_of_the_measurement(small: Callable[..., BenchConfig], resident_bytes: Callable[[], int]) -> None:
    earlier = mmap.mmap(-1, 2**30)
    for page in range(0, 2**30, mmap.PAGESIZE):
        earlier[page] = 1
    earlier.close()
    resident = resident_bytes()
    peak = training.peak_of_candidate(small(), "bare_fp32")
    assert 0.9 * resident < peak < resident + 2**29


def test_memory_section(context: Callable[..., Context], monkeypatch: pytest.MonkeyPatch) -> None:
    peaks = {"cnnzoo": 3 * 2**30, "bare_fp32": 2**30}
    monkeypatch.setattr(training, "in_fresh_process", lambda function, config, name: peaks[name])
    result = training.measure_memory(context("contestants=[cnnzoo,bare_fp32]"))
    assert result["unit"] == "bytes"
    assert result["ratios"]["bare_fp32"]["median"] == 3
