"""Calls in a process of their own."""

import json
import os

import pytest

from cnnzoo.bench.processes import in_fresh_process
from cnnzoo.errors import UserError


def test_call_in_fresh_process() -> None:
    assert in_fresh_process(json.dumps, [1, 2]) == "[1, 2]"
    assert in_fresh_process(os.getpid) != os.getpid()


def test_printing_does_not_disturb_result(capfd: pytest.CaptureFixture[str]) -> None:
    assert in_fresh_process(print, "x") is None
    assert capfd.readouterr() == ("", "x\n")


def test_failure_in_fresh_process_is_reported() -> None:
    with pytest.raises(UserError, match="ValueError: invalid literal"):
        in_fresh_process(int, "x")


def test_death_of_fresh_process_is_reported() -> None:
    with pytest.raises(UserError, match="_exit failed"):
        in_fresh_process(os._exit, 3)
