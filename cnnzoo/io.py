"""Files that are written whole or not at all, and locks that end with their process."""

import contextlib
import errno
import math
import os
import re
import shutil
import stat
import time
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

from cnnzoo.errors import UserError

try:
    import fcntl
except ImportError as error:
    raise UserError(
        "cnnzoo runs on Linux and macOS: its runs are locked by fcntl, which Windows does not have. There it runs in"
        " the Windows Subsystem for Linux."
    ) from error


class WriteError(UserError, OSError):
    """The disk is full, or nothing may be written there; `strerror` is the reason alone."""

    def __init__(self, path: Path, reason: str, advice: str) -> None:
        super().__init__(f"{path} cannot be written: {reason}. {advice}")
        self.strerror = reason


_FULL = {errno.ENOSPC: "no space is left on its disk", errno.EDQUOT: "the disk quota is used up"}
_REFUSED = {
    errno.EROFS: "its file system is read-only",
    errno.EACCES: "permission denied",
    errno.EPERM: "permission denied",
    errno.ENOTDIR: "a part of it is a file, not a folder",
    errno.EEXIST: "a file is where its folder would be",
    errno.ENAMETOOLONG: "a name in it is too long",
    errno.ELOOP: "its links lead back to themselves",
    errno.EFBIG: "it is larger than its file system or a limit allows",
}


@contextlib.contextmanager
def writing(path: Path, size: Callable[[], int] | None = None) -> Iterator[None]:
    """Write `path` in the block.

    Args:
        size: counts the bytes that the file takes; called where there is no room for them.

    Raises:
        WriteError: the disk is full, or nothing may be written there. Any other error remains what it is.
    """
    try:
        yield
    except Exception as error:
        if failure := write_failure(error, path, size):
            raise failure from error
        raise


def write_failure(error: BaseException, path: Path, size: Callable[[], int] | None = None) -> WriteError | None:
    """Return what to report if `error` came from a disk that takes no data: the path and the space that is missing."""
    cause: BaseException | None = error
    while cause is not None and not (isinstance(cause, OSError) and cause.errno in _FULL | _REFUSED):
        cause = cause.__context__  # torch, for one, raises another error while it handles the system's
    if not isinstance(cause, OSError) or not _is_about(cause.filename, path):
        return None
    if cause.errno in _REFUSED:
        advice = "Make it writable, or choose another folder (paths.outputs for runs), and run the same command again."
        return WriteError(path, _REFUSED[cause.errno], advice)
    needed, free = size() if size else 0, _free_bytes(path)
    reason = f"{_FULL[cause.errno or 0]}, {_size(free)} are free"
    if needed:
        reason += f" and {_size(max(needed - free, 0) or needed)} more are needed"
    return WriteError(
        path, reason, "Make room, and run the same command again: a run resumes from its last checkpoint."
    )


def _is_about(filename: object, path: Path) -> bool:
    """Whether an error's file is `path`, beside it, above it or in it; the error of a write itself names none."""
    if not isinstance(filename, str | os.PathLike):
        return True
    name = Path(filename)
    return name.parent == path.parent or path.is_relative_to(name) or name.is_relative_to(path)


def _free_bytes(path: Path) -> int:
    existing = next(folder for folder in path.absolute().parents if folder.is_dir())
    return shutil.disk_usage(existing).free


def _size(count: int) -> str:
    return f"{count / 2**20:.1f} MiB" if count >= 2**20 else f"{math.ceil(count / 1024)} KiB"


@contextlib.contextmanager
def atomic_path(path: Path, size: Callable[[], int] | None = None) -> Iterator[Path]:
    """Yield a temporary file's path; when the block ends without an error, that file replaces `path`.

    Readers find the old file or the new one, never half of one, even if the machine loses power.

    Raises:
        WriteError: as `writing`, which `size` is passed to.
    """
    with writing(path, size):
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".{path.name}.{os.getpid()}")
        try:
            yield temporary
            with temporary.open("rb") as file:
                os.fsync(file.fileno())
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)


def check_archive(path: Path) -> None:
    """Compare the contents of a zip archive with their checksums, which torch and numpy do not do for all they read.

    Any other file passes.

    Raises:
        OSError: the archive is damaged.
    """
    if not zipfile.is_zipfile(path):
        return
    try:
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()
    except Exception as error:  # of many types, as any of its fields may be wrong
        raise OSError(f"the file is damaged ({error})") from error
    if damaged:
        raise OSError(f"the file is damaged (wrong checksum of {damaged})")


def remove_leftovers(folder: Path) -> None:
    """Delete the temporary files that killed processes have left in `folder` and below; nobody may be writing there."""
    for path in folder.rglob(".*"):
        if re.fullmatch(r"\..+\.\d+", path.name) and path.is_file() and not path.is_symlink():
            path.unlink(missing_ok=True)


def write_atomically(path: Path, content: str | bytes) -> None:
    """Write a whole file through `atomic_path`."""
    data = content.encode() if isinstance(content, str) else content
    with atomic_path(path, lambda: len(data)) as temporary:
        temporary.write_bytes(data)


def open_regular(path: str | os.PathLike[str]) -> BinaryIO:
    """Open a file to read it, unless it is a pipe, which may have no writer, or a device, which may have no end.

    Raises:
        OSError: it is no regular file, or cannot be opened.
    """
    file = open(path, "rb", opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK))  # noqa: SIM115
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        raise OSError(errno.EINVAL, "not a regular file", str(path))
    return file


def read_small(path: str | os.PathLike[str], most: int = 2**24) -> bytes:
    """Read a whole file of at most `most` bytes, which a file in a folder from elsewhere may not be.

    Raises:
        OSError: it is larger, it is no regular file, or it cannot be read.
    """
    with open_regular(path) as file:
        content = file.read(most + 1)
    if len(content) > most:
        raise OSError(errno.EFBIG, f"larger than {_size(most)}", str(path))
    return content


@contextlib.contextmanager
def exclusive_lock(path: Path, busy: str | None = None) -> Iterator[None]:
    """Hold the lock file `path` for the block. The kernel drops the lock with the process, however that ends.

    Args:
        busy: the message if another process holds the lock; None waits for it instead.

    Raises:
        UserError: another process holds the lock, and there is a `busy` message.
    """
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        file = path.open("a")
    with file:
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
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)  # a pipe of that name would wait
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)  # shared, so that two onlookers see no lock
        return False
    except OSError:
        return True
    finally:
        os.close(descriptor)
