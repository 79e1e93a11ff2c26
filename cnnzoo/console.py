"""What a run says while it runs: log lines and the progress bar share one console, stderr."""

import contextlib
import logging
import warnings
from collections.abc import Iterator
from pathlib import Path

from rich.console import Console

console = Console(stderr=True)

# Said by Lightning and torch about things that are meant, or that nobody here can change.
_EXPECTED_WARNINGS = (
    ".*does not have many workers.*",
    ".*exists and is not empty.*",
    ".*LeafSpec.*",
    ".*torch.jit.*deprecated.*",
    ".*Trying to infer the `batch_size`.*",
    ".*lr_scheduler.step.*before.*optimizer.step.*",  # Lightning steps a schedule once while it loads a checkpoint
    ".*number of training batches.*",
    ".*sync_dist=True.*",  # what is logged is summed over the processes already
    ".*GPU available but not used.*",
)


class _ConsoleHandler(logging.Handler):
    """Prints above the progress bar; long lines are the terminal's to break."""

    def emit(self, record: logging.LogRecord) -> None:
        console.print(self.format(record), markup=False, highlight=False, soft_wrap=True)


def _not_chatter(record: logging.LogRecord) -> bool:
    return record.levelno >= logging.WARNING or record.name.startswith("cnnzoo")


def set_up_logging(level: int = logging.INFO) -> None:
    """cnnzoo's log lines from `level` on and everybody's warnings to stderr."""
    root = logging.getLogger()
    if not any(isinstance(handler, _ConsoleHandler) for handler in root.handlers):
        handler = _ConsoleHandler()
        handler.setFormatter(logging.Formatter("%(asctime)s %(message)s", datefmt="%H:%M:%S"))
        handler.setLevel(level)
        handler.addFilter(_not_chatter)
        root.addHandler(handler)
    logging.getLogger("cnnzoo").setLevel(logging.DEBUG)  # for the log file; tracebacks go there
    for pattern in _EXPECTED_WARNINGS:
        warnings.filterwarnings("ignore", pattern)
    logging.captureWarnings(True)


@contextlib.contextmanager
def log_file(path: Path) -> Iterator[None]:
    """Appends this process's log lines to `path` for as long as the block runs."""
    handler = logging.FileHandler(path, encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)-7s %(name)s: %(message)s"))
    handler.addFilter(_not_chatter)
    root = logging.getLogger()
    root.addHandler(handler)
    try:
        yield
    finally:
        root.removeHandler(handler)
        handler.close()
