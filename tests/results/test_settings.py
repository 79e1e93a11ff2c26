"""Settings as dotted keys, their texts and filters."""

import pandas as pd
import pytest

from cnnzoo.errors import UserError
from cnnzoo.results.settings import (
    ABSENT,
    Filter,
    as_key,
    as_text,
    differences,
    differing,
    flatten,
    short_names,
)


def test_flatten() -> None:
    assert flatten({"seed": 1, "model": {"widths": [1, 2], "block": {"kind": "a"}}, "callbacks": {}}) == {
        "seed": 1,
        "model.widths": [1, 2],
        "model.block.kind": "a",
    }


def test_differences() -> None:
    assert differences({"a": 1, "b": None, "c": 3}, {"a": 1, "c": 4}) == ["b", "c"]


@pytest.mark.parametrize(
    ("value", "text"),
    [(True, "true"), (None, "null"), ([3, 3.0, 0.5], "[3,3,0.5]"), (0.1, "0.1"), (1e-05, "1e-05"), (180.0, "180")],
)
def test_as_text(value: object, text: str) -> None:
    assert as_text(value) == text


def test_as_text_shortens_numbers() -> None:
    assert as_text(0.123456789, digits=4) == "0.1235"
    assert as_text([0.123456789, 123456], digits=4) == "[0.1235,123456]"


def test_as_key_is_the_same_for_equal_settings() -> None:
    assert as_key(1) == as_key(1.0)
    assert as_key([{"a": 1, "b": 2}]) == as_key([{"b": 2.0, "a": 1}])
    assert len({as_key(value) for value in (1, "1", True, None, ABSENT)}) == 5


def test_differing_leaves_out_what_follows_from_a_class() -> None:
    settings = pd.DataFrame(
        {
            "lr": [0.1, 0.1, 0.2],
            "scheduler._target_": ["Step", "Cosine", "Cosine"],
            "scheduler.T_max": [ABSENT, 180, 180],
            "clip": [None, None, ABSENT],
            "momentum": [0.9, 0.9, 0.9],
        },
        dtype=object,
    )
    assert differing(settings) == ["clip", "lr", "scheduler._target_"]


def test_short_names() -> None:
    assert short_names(["optimizer.lr", "scheduler._target_", "model.block", "loss.block"]) == {
        "optimizer.lr": "lr",
        "scheduler._target_": "scheduler",
        "model.block": "model.block",
        "loss.block": "loss.block",
    }


@pytest.mark.parametrize(
    ("text", "value", "accepted"),
    [
        ("lr=0.1,1e-2", 0.01, True),
        ("lr=0.1", 0.2, False),
        ("model=res*,dense?et", "densenet", True),
        ("widths=[16,32],[32, 64]", [32, 64], True),
        ("widths=[16]", [16, 32], False),
        ("clip=null", None, True),
        ("compile=true", True, True),
        ("compile=1", True, False),
        ("name=", "", True),
    ],
)
def test_filter(text: str, value: object, accepted: bool) -> None:
    assert Filter(text).accepts(value) is accepted


def test_filter_has_a_form() -> None:
    with pytest.raises(UserError, match=r"resnet: expected a filter, KEY=VALUE"):
        Filter("resnet")
