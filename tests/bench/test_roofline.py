"""The script's section `roofline`: rates of the device, FLOPs and bytes of a training step."""

import time
from collections.abc import Callable

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from benchmarks import roofline
from benchmarks.roofline import CountBytes, device_rates
from cnnzoo.bench.context import Context
from cnnzoo.nn.build import build_model

PEAKS = {"fp32_flops_per_second": 4e9, "bf16_flops_per_second": 8e9, "copy_bytes_per_second": 1e9}


def test_bytes_of_inputs_and_outputs() -> None:
    a, b = torch.ones(10), torch.ones(10)
    with CountBytes() as counter:
        a.view(2, 5) + b.view(2, 5)  # reads 2 × 40 bytes, writes 40
    assert counter.total == 120
    with CountBytes() as counter:
        a.view(2, 5).t()[:1].detach()
    assert counter.total == 0


def test_rates_are_of_the_best_try(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(roofline, "_MATRIX_SIDE", {"cpu": 10})
    monkeypatch.setattr(roofline, "_COPY_BYTES", {"cpu": 1000})
    # begin and end of the warm-up and of two tries, for each of the three rates
    clock = iter([0.0, 0.1, 10.0, 14.0, 20.0, 22.0] * 3)
    monkeypatch.setattr(time, "perf_counter", lambda: next(clock))
    rates = device_rates(torch.device("cpu"), tries=2)
    assert rates == {
        "fp32_flops_per_second": 2 * 10**3 / 2,
        "bf16_flops_per_second": 2 * 10**3 / 2,
        "copy_bytes_per_second": 2 * 1000 / 2,
    }


def test_section(context: Callable[..., Context], monkeypatch: pytest.MonkeyPatch) -> None:
    costs = {"flops_per_image": 1e6, "fp32_bytes_per_image": 2e5, "bf16_bytes_per_image": 1e5}
    monkeypatch.setattr(roofline, "device_rates", lambda device: PEAKS)
    monkeypatch.setattr(roofline, "step_costs", lambda context: costs)
    result = roofline.measure_roofline(context("contestants=[cnnzoo,bare_fp32,bare_bf16]"))
    entries = result["contestants"]
    rates = {name: entry["median"] for name, entry in entries.items()}
    assert entries["bare_fp32"]["fraction_of_matmul_peak"] == pytest.approx(rates["bare_fp32"] * 1e6 / 4e9)
    assert entries["bare_bf16"]["fraction_of_matmul_peak"] == pytest.approx(rates["bare_bf16"] * 1e6 / 8e9)
    assert entries["bare_bf16"]["fraction_of_copy_peak"] == pytest.approx(rates["bare_bf16"] * 1e5 / 1e9)
    assert result["roofline"] == PEAKS | costs


def test_costs_of_a_step(context: Callable[..., Context]) -> None:
    costs = roofline.step_costs(context())
    with FlopCounterMode(display=False) as counter:
        build_model(context().config).eval()(torch.zeros(1, 1, 8, 8))
    assert costs["flops_per_image"] == 3 * counter.get_total_flops()
    assert costs["fp32_bytes_per_image"] > costs["bf16_bytes_per_image"] > 0
