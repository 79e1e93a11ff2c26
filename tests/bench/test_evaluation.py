"""The section `evaluation`."""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from cnnzoo.bench import evaluation
from cnnzoo.bench.context import Context


def test_section(context: Callable[..., Context], monkeypatch: pytest.MonkeyPatch) -> None:
    evaluated: list[list[int]] = []

    def predict(model: Any, batches: Any) -> SimpleNamespace:
        evaluated.append([len(labels) for _, labels in batches])
        return SimpleNamespace(seconds=float(len(evaluated)))

    monkeypatch.setattr(evaluation, "predict", predict)
    result = evaluation.measure_evaluation(context("eval_images=12", "eval_batch_sizes=[5,128]", "rounds=1"))
    assert evaluated == [[5, 5, 2], [12], [12], [5, 5, 2]]  # once to warm up; the round starts with the second
    assert {name: entry["rounds"] for name, entry in result["contestants"].items()} == {"5": [3.0], "128": [4.0]}
    assert result["reference"] == "128"  # that of a run on the CPU
