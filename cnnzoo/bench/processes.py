"""Processes of their own for peak memory and for what is set for a whole process. No torch."""

import logging
import multiprocessing
import os
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from typing import TypeVar

from cnnzoo.console import set_up_logging
from cnnzoo.errors import UserError

T = TypeVar("T")


def in_fresh_process(function: Callable[..., T], *args: object) -> T:
    """Return `function(*args)`, called in a new process.

    Raises:
        UserError: the call failed, or the process died.
    """
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn"), keep_quiet) as process:
        try:
            return process.submit(function, *args).result()
        except Exception as error:
            raise UserError(f"{function.__name__} failed in its process: {type(error).__name__}: {error}") from error


def keep_quiet() -> None:
    """Keep what libraries print and log in a new process out of the result on stdout and, up to warnings, stderr."""
    os.dup2(2, 1)
    set_up_logging(logging.WARNING)
