"""Calls in a process of their own."""

import json
import os

import pytest

from cnnzoo.bench.processes import in_fresh_process, run_python
from cnnzoo.errors import UserError


def test_call_in_fresh_process() -> None:
    assert in_fresh_process(json.dumps, [1, 2]) == "[1, 2]"
    assert in_fresh_process(os.getpid) != os.getpid()
    assert in_fresh_process(os.getenv, "CNNZOO_TEST", environment={"CNNZOO_TEST": "3"}) == "3"


def test_printing_does_not_disturb_result() -> None:
    assert in_fresh_process(print, "x") is None


def test_failure_is_reported() -> None:
    with pytest.raises(UserError, match="ValueError: invalid literal"):
        in_fresh_process(int, "x")
    with pytest.raises(UserError, match="exit code 3"):
        run_python(["-c", "raise SystemExit(3)"])
