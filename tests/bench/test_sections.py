"""`cnnzoo.bench`: the sections and what is recorded with them."""

import inspect
import json
import pkgutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from benchmarks import roofline
from cnnzoo import bench
from cnnzoo.bench.context import Context
from cnnzoo.config.schema import BenchConfig
from cnnzoo.errors import UserError

RESULTS = Path(__file__).resolve().parents[2] / "benchmarks" / "results"


@pytest.mark.parametrize("path", bench.SECTIONS.values())
def test_every_section_takes_a_context(path: str) -> None:
    (parameter,) = inspect.signature(pkgutil.resolve_name(path)).parameters.values()
    assert parameter.annotation is Context


def test_only_named_sections_are_measured(small: Callable[..., BenchConfig]) -> None:
    sections: bench.Sections = {
        "a": lambda context: {"value": 1},
        "b": lambda context: {"value": context.config.rounds},
    }
    assert bench.measure(small("what=b", "rounds=7"), sections)["sections"] == {"b": {"value": 7}}
    assert bench.measure(small("what=all"), sections)["sections"] == {"a": {"value": 1}, "b": {"value": 2}}


def test_result_has_the_form_of_committed_ones(
    small: Callable[..., BenchConfig], monkeypatch: pytest.MonkeyPatch
) -> None:
    def keys(node: Any) -> Any:
        return {key: keys(value) for key, value in node.items()} if isinstance(node, dict) else None

    committed = json.loads((RESULTS / "training-resnet-cpu.json").read_text(encoding="utf-8"))
    names = [name for name in committed["sections"]["training"]["contestants"] if "compiled" not in name]
    rates = dict.fromkeys(("fp32_flops_per_second", "bf16_flops_per_second", "copy_bytes_per_second"), 1.0)
    monkeypatch.setattr(roofline, "device_rates", lambda device: rates)
    sections: bench.Sections = {"training": roofline.measure_roofline}
    config = small("rounds=1", f"contestants=[{','.join(names)}]")
    result = bench.measure(config, sections, command="python -m cnnzoo.bench")
    for section in (committed["sections"]["training"], committed["sections"]["training"].get("ratios", {})):
        for node in (section.get("contestants", {}), section):
            for name in [name for name in node if "compiled" in name]:
                del node[name]
    assert keys(result) == keys(committed)
    assert result["images"] == "dataset"


def test_unknown_section(small: Callable[..., BenchConfig]) -> None:
    with pytest.raises(UserError, match="Did you mean 'training'"):
        bench.measure(small("what=trainning"))


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("format=jsn", "Did you mean 'json'"),
        ("images=none", "auto, random"),
        ("rounds=0", "rounds=0: expected at least 1"),
        ("steps=0", "steps=0"),
        ("warmup_steps=0", "warmup_steps=0"),
        ("workers=-1", "workers=-1"),
        ("eval_images=0", "eval_images=0"),
        ("eval_batch_sizes=[]", "eval_batch_sizes="),
        ("eval_batch_sizes=[1,0]", "eval_batch_sizes="),
    ],
)
def test_bad_value(override: str, message: str, small: Callable[..., BenchConfig]) -> None:
    with pytest.raises(UserError, match=message):
        small(override)
