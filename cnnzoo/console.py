"""Log lines and progress bars, on one console: stderr."""

import contextlib
import logging
import warnings
from collections.abc import Iterator
from pathlib import Path

from rich.console import Console

from cnnzoo.io import writing
from cnnzoo.text import clean_lines

# Without emoji: rich would import their names within the first log line, and signal handlers log as well.
console = Console(stderr=True, emoji=False)

# Warnings of Lightning and torch about what is intended here, or cannot be changed here.
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
    ".*could not find the monitored key.*",  # of a checkpoint, in epochs without validation
    ".*`srun` command is available.*",  # with it, every process of a job would be a whole sweep
)


class _Formatter(logging.Formatter):
    """Lines that are safe to show: names and messages in them come from anywhere."""

    def format(self, record: logging.LogRecord) -> str:
        return clean_lines(super().format(record))


class _ConsoleHandler(logging.Handler):
    """Prints above the progress bar, and leaves the breaking of long lines to the terminal."""

    def emit(self, record: logging.LogRecord) -> None:
        console.print(self.format(record), markup=False, highlight=False, soft_wrap=True)


def _is_ours_or_warning(record: logging.LogRecord) -> bool:
    return record.levelno >= logging.WARNING or record.name.startswith("cnnzoo")


class _LogFileHandler(logging.FileHandler):
    def handleError(self, record: logging.LogRecord) -> None:
        """Say nothing, where the default is a traceback for each line: a full disk ends the run at its next file."""


def set_up_logging(level: int = logging.INFO) -> None:
    """Show cnnzoo's log records from `level` on, and warnings of any package, on stderr."""
    root = logging.getLogger()
    if not any(isinstance(handler, _ConsoleHandler) for handler in root.handlers):
        handler = _ConsoleHandler()
        handler.setFormatter(_Formatter("%(asctime)s %(message)s", datefmt="%H:%M:%S"))
        handler.setLevel(level)
        handler.addFilter(_is_ours_or_warning)
        root.addHandler(handler)
    logging.getLogger("cnnzoo").setLevel(logging.DEBUG)  # for the log file; tracebacks go there
    for pattern in _EXPECTED_WARNINGS:
        warnings.filterwarnings("ignore", pattern)
    logging.captureWarnings(True)


@contextlib.contextmanager
def log_file(path: Path) -> Iterator[None]:
    """Append this process's log lines to `path` for as long as the block runs."""
    with writing(path):
        handler = _LogFileHandler(path, encoding="utf-8")
    handler.setFormatter(_Formatter("%(asctime)s %(levelname)-7s %(name)s: %(message)s"))
    handler.addFilter(_is_ours_or_warning)
    root = logging.getLogger()
    root.addHandler(handler)
    try:
        yield
    finally:
        root.removeHandler(handler)
        with contextlib.suppress(OSError):  # what a full disk did not take
            handler.close()
