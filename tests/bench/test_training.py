"""The section `training`: candidates train, from the same weights, and the clock runs for the steps that count."""

import time
from collections.abc import Callable
from typing import Any

import pytest
import torch

from cnnzoo.bench.context import Context
from cnnzoo.bench.training import CANDIDATES, Candidate, Cnnzoo, Stopwatch, candidate_names, measure_training, shortened
from cnnzoo.config.schema import BenchConfig
from cnnzoo.errors import UserError
from cnnzoo.training.devices import resolve_precision

Small = Callable[..., BenchConfig]
MakeContext = Callable[..., Context]
CPU = torch.device("cpu")
COMPILED = ("cnnzoo_compiled", "bare_compiled")


def test_clock_leaves_out_warm_up(context: MakeContext, monkeypatch: pytest.MonkeyPatch) -> None:
    class Steps(Candidate):
        def train(self, stopwatch: Stopwatch) -> None:
            trainer: Any = None
            module: Any = None
            stopwatch.on_train_epoch_start(trainer, module)
            for index in range(7):
                stopwatch.on_train_batch_end(trainer, module, None, None, index)

    # The epoch begins; the first, the second, the fifth step is done. Then the same again, with a shorter first step.
    clock = iter([100.0, 103.0, 104.0, 110.0, 200.0, 201.0, 202.0, 214.0])
    monkeypatch.setattr(time, "perf_counter", lambda: next(clock))
    candidate = Steps(context("warmup_steps=2", "steps=3"))
    assert candidate.measure() == 3 * 4 / 6.0
    assert candidate.measure() == 3 * 4 / 12.0
    assert candidate.first_step_seconds == 3.0


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=[pytest.mark.slow] * (name in COMPILED)) for name in candidate_names(None, CPU)],
)
def test_candidate_trains(name: str, context: MakeContext) -> None:
    candidate = CANDIDATES[name](context())
    before = [p.detach().clone() for p in candidate.model.parameters()]
    others = CANDIDATES["bare_fp32"](context())
    torch.testing.assert_close(before, [p.detach() for p in others.model.parameters()])
    begin = time.perf_counter()
    rate = candidate.measure()
    assert rate * (time.perf_counter() - begin) > 8  # the timed steps are a part of the measurement
    assert candidate.first_step_seconds > 0
    assert all(not torch.equal(a, b) for a, b in zip(before, candidate.model.parameters(), strict=True))


def test_measurement_is_part_of_one_epoch(context: MakeContext) -> None:
    with pytest.raises(UserError, match="only 10 batches"):
        Cnnzoo(context("steps=10"))


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


def test_section(context: MakeContext) -> None:
    result = measure_training(context("contestants=[cnnzoo,bare_fp32,bare_bf16]"))
    entries = result["contestants"]
    assert [entry["precision"] for entry in entries.values()] == [
        resolve_precision("auto", CPU),
        "32-true",
        "bf16-mixed",
    ]
    rates = {name: entry["median"] for name, entry in entries.items()}
    assert rates[result["best_bare"]] == max(rates["bare_fp32"], rates["bare_bf16"])
    assert all(entry["first_step_seconds"] > 0 for entry in entries.values())
