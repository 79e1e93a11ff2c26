"""What a run says while it runs: log lines and the progress bar share one console, stderr."""

import contextlib
import logging
import warnings
from collections.abc import Iterator
from pathlib import Path

from rich.console import Console
from rich.logging import RichHandler

console = Console(stderr=True)


def set_up_logging() -> None:
    """Log lines of cnnzoo and warnings of everybody to stderr; Lightning's advertisements nowhere."""
    root = logging.getLogger()
    if not any(isinstance(handler, RichHandler) for handler in root.handlers):
        handler = RichHandler(
            console=console, show_path=False, show_level=False, log_time_format="%H:%M:%S", omit_repeated_times=False
        )
        root.addHandler(handler)
    root.setLevel(logging.WARNING)
    logging.getLogger("cnnzoo").setLevel(logging.INFO)
    for noisy in ("pytorch_lightning", "lightning_fabric", "lightning", "torch.utils.flop_counter"):
        logging.getLogger(noisy).setLevel(logging.ERROR)
        logging.getLogger(noisy).handlers.clear()
    for pattern in (
        ".*does not have many workers.*",
        ".*Checkpoint directory.*exists and is not empty.*",
        ".*isinstance.treespec, LeafSpec.*",
        ".*torch.jit.*deprecated.*",
        ".*exists and is not empty.*",
        ".*Trying to infer the `batch_size`.*",
        ".*lr_scheduler.step.*before.*optimizer.step.*",  # Lightning steps a schedule once while loading a checkpoint
        ".*number of training batches.*",
        ".*GPU available but not used.*",
    ):
        warnings.filterwarnings("ignore", pattern)
    logging.captureWarnings(True)


@contextlib.contextmanager
def log_file(path: Path) -> Iterator[None]:
    """Appends this process's log lines to `path` for as long as the block runs."""
    handler = logging.FileHandler(path, encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)-7s %(name)s: %(message)s"))
    root = logging.getLogger()
    root.addHandler(handler)
    try:
        yield
    finally:
        root.removeHandler(handler)
        handler.close()
