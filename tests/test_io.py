"""Writing: whole files, and one sentence where the file system takes none."""

import errno
import os
from pathlib import Path
from typing import NoReturn

import numpy as np
import pytest

from cnnzoo import io
from cnnzoo.errors import UserError


def refuse(number: int, filename: str | None = None) -> NoReturn:
    raise OSError(number, os.strerror(number), filename)


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (errno.ENOSPC, r"no space is left on its disk, 3 KiB are free and 1\.0 MiB more are needed"),
        (errno.EDQUOT, r"the disk quota is used up, 3 KiB are free and 1\.0 MiB more are needed"),
        (errno.EROFS, r"its file system is read-only\. Make it writable"),
        (errno.EACCES, r"permission denied\. Make it writable"),
    ],
)
def test_refused_write_is_one_sentence(
    number: int, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "result.json"
    io.write_atomically(file, "old")
    monkeypatch.setattr(io, "_free_bytes", lambda path: 3000)
    monkeypatch.setattr(os, "fsync", lambda descriptor: refuse(number))
    with pytest.raises(UserError, match=rf"result\.json cannot be written: {words}") as raised:
        io.write_atomically(file, b"x" * (2**20 + 3000))
    assert isinstance(raised.value, OSError)  # as whoever makes up for it expects
    assert file.read_text() == "old"
    assert list(tmp_path.iterdir()) == [file]


def test_other_errors_remain_what_they_are(tmp_path: Path) -> None:
    with pytest.raises(PermissionError), io.writing(tmp_path / "a" / "file"):
        refuse(errno.EACCES, "/somewhere/else")  # an image that may not be read, while the cache is written
    with pytest.raises(ConnectionError), io.writing(tmp_path / "file"):
        raise ConnectionError
    with pytest.raises(io.WriteError), io.writing(tmp_path / "a" / "file"):
        refuse(errno.EACCES, str(tmp_path / "a"))


def test_reason_is_found_behind_another_error(tmp_path: Path) -> None:
    """As torch raises one."""
    error = RuntimeError("[enforce fail at inline_container.cc:672]")
    error.__context__ = OSError(errno.ENOSPC, "no space")
    assert "no space is left on its disk" in str(io.write_failure(error, tmp_path / "file"))
    assert io.write_failure(RuntimeError(), tmp_path / "file") is None


def test_lock_in_a_folder_that_takes_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Path, "open", lambda path, mode: refuse(errno.EROFS, str(path)))
    lock = io.exclusive_lock(tmp_path / ".lock")
    with pytest.raises(UserError, match=r"\.lock cannot be written: its file system is read-only"), lock:
        pass


def test_archive_is_compared_with_its_checksums(tmp_path: Path) -> None:
    file = tmp_path / "a.npz"
    np.savez(file, logits=np.zeros(1000))
    io.check_archive(file)
    content = bytearray(file.read_bytes())
    for position in (len(content) // 2, 0):  # the data, a header
        damaged = bytearray(content)
        damaged[position] ^= 0x11
        file.write_bytes(damaged)
        with pytest.raises(OSError, match="damaged"):
            io.check_archive(file)


def test_only_leftovers_are_removed(tmp_path: Path) -> None:
    names = [".result.json.123", "checkpoints/.last.ckpt.4567"]
    kept = [".lock", ".previous/config.yaml", "run.log.1", ".hidden", "checkpoints/last.ckpt"]
    for name in names + kept:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    io.remove_leftovers(tmp_path)
    assert {str(file.relative_to(tmp_path)) for file in tmp_path.rglob("*") if file.is_file()} == set(kept)
