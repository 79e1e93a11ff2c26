"""Candidates train, from the same weights, and the clock runs for the steps that count."""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from cnnzoo.bench import candidates
from cnnzoo.bench.candidates import CANDIDATES, Cnnzoo, Stopwatch, candidate_names, shortened
from cnnzoo.bench.interleave import Measurement
from cnnzoo.config.schema import BenchConfig
from cnnzoo.data.dataset import Dataset
from cnnzoo.errors import UserError

Small = Callable[..., BenchConfig]
CPU = torch.device("cpu")
COMPILED = ("cnnzoo_compiled", "bare_compiled")


def test_stopwatch_leaves_out_warm_up(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([100.0, 103.0, 104.0, 110.0])  # the epoch begins; the first, the second, the fifth step is done
    monkeypatch.setattr(candidates, "now", lambda device: next(clock))
    trainer: Any = None
    module: Any = SimpleNamespace(device=CPU)
    stopwatch = Stopwatch(warmup_steps=2, steps=3)
    stopwatch.on_train_epoch_start(trainer, module)
    for index in range(7):
        stopwatch.on_train_batch_end(trainer, module, None, None, index)
    measurement = stopwatch.measurement(batch_size=4)
    assert measurement == Measurement(images=12, seconds=6.0, first_step=3.0)
    assert measurement.rate == 2


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=[pytest.mark.slow] * (name in COMPILED)) for name in candidate_names(None, CPU)],
)
def test_candidate_trains(name: str, small: Small, dataset: Dataset) -> None:
    candidate = CANDIDATES[name](small(), dataset, CPU)
    before = [p.detach().clone() for p in candidate.model.parameters()]
    others = CANDIDATES["bare_fp32"](small(), dataset, CPU)
    torch.testing.assert_close(before, [p.detach() for p in others.model.parameters()])
    measurement = candidate.measure()
    assert measurement.images == 8
    assert measurement.seconds > 0
    assert measurement.first_step > 0
    assert all(not torch.equal(a, b) for a, b in zip(before, candidate.model.parameters(), strict=True))


def test_measurement_is_part_of_one_epoch(small: Small, dataset: Dataset) -> None:
    with pytest.raises(UserError, match="only 10 batches"):
        Cnnzoo(small("steps=10"), dataset, CPU)


def test_shortened_fits_any_run(small: Small) -> None:
    config = shortened(
        small(
            "trainer.max_epochs=10",
            "warmup.epochs=5",
            "trainer.checkpoint_every_n_epochs=5",
            "trainer.check_val_every_n_epoch=2",
        )
    )
    assert config.trainer.epochs == 1
    assert config.trainer.limit_train_batches == 3
    assert config.warmup.epochs == 1


def test_candidate_names() -> None:
    assert candidate_names(["tutorial"], CPU) == ["tutorial"]
    assert "bare_cuda_graphs" not in candidate_names(None, CPU)
    assert candidate_names(None, torch.device("cuda")) == list(CANDIDATES)
    with pytest.raises(UserError, match="Did you mean 'tutorial'"):
        candidate_names(["tutorail"], CPU)
    with pytest.raises(UserError, match="null for all"):
        candidate_names([], CPU)
