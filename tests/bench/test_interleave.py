"""The order of measurements and their summary."""

from functools import partial

import pytest

from cnnzoo.bench.interleave import run_interleaved, section


def test_rounds_rotate() -> None:
    order: list[str] = []

    def measure(name: str) -> int:
        order.append(name)
        return len(order)

    results = run_interleaved({name: partial(measure, name) for name in "abc"}, rounds=2)
    assert "".join(order) == "abc" + "bca" + "cab"
    assert results == {"a": [6, 8], "b": [4, 9], "c": [5, 7]}  # without the warm-up


def test_ratios_are_within_rounds() -> None:
    result = section("images/s", {"ours": [10.0, 20.0, 60.0], "theirs": [5.0, 20.0, 20.0]}, "ours")
    assert result["contestants"]["ours"] == {"median": 20, "min": 10, "max": 60, "rounds": [10, 20, 60]}
    # 10/5, 20/20, 60/20: their median is 2, although the medians of both are equal
    assert result["ratios"] == {"theirs": {"median": 2, "min": 1, "max": 3, "rounds": [2, 1, 3]}}


@pytest.mark.parametrize("reference", [None, "ours"])
def test_no_ratios_without_reference(reference: str | None) -> None:
    assert section("s", {"theirs": [5.0]}, reference).keys() == {"unit", "contestants"}
