"""Files that are written whole or not at all, and locks that end with their process."""

import contextlib
import fcntl
import os
import time
from collections.abc import Iterator
from pathlib import Path

from cnnzoo.errors import UserError


@contextlib.contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Yield a temporary file's path; when the block ends without an error, that file replaces `path`.

    Readers find the old file or the new one, never half of one, even if the machine loses power.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        yield temporary
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def write_atomically(path: Path, content: str | bytes) -> None:
    """Write a whole file through `atomic_path`."""
    with atomic_path(path) as temporary:
        temporary.write_bytes(content.encode() if isinstance(content, str) else content)


@contextlib.contextmanager
def exclusive_lock(path: Path, busy: str | None = None) -> Iterator[None]:
    """Hold the lock file `path` for the block. The kernel drops the lock with the process, however that ends.

    Args:
        busy: the message if another process holds the lock; None waits for it instead.

    Raises:
        UserError: another process holds the lock, and there is a `busy` message.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file:
        if busy is None:
            fcntl.flock(file, fcntl.LOCK_EX)
        else:
            _lock_soon(file.fileno(), busy)
        yield


def _lock_soon(descriptor: int, busy: str) -> None:
    for attempt in range(10):
        try:
            return fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if attempt == 9:
                raise UserError(busy) from None
            time.sleep(0.02)  # `is_locked` in another process holds the lock for a moment


def is_locked(path: Path) -> bool:
    """Whether a process holds the lock file `path`."""
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)  # shared, so that two onlookers see no lock
        return False
    except OSError:
        return True
    finally:
        os.close(descriptor)
