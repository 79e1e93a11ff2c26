"""Bytes that operations read and write."""

import time

import pytest
import torch

from cnnzoo.bench import roofline
from cnnzoo.bench.roofline import CountBytes, device_rates


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
