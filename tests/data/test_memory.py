"""The memory that is free according to the system and to the process's control groups."""

from pathlib import Path

import pytest

from cnnzoo.data import memory


def test_free_memory_is_limited_by_control_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    files = {
        "/proc/meminfo": "MemTotal: 9000 kB\nMemAvailable:    8000 kB\n",
        "/proc/self/cgroup": "0::/batch/job7\n",
        "/sys/fs/cgroup/batch/job7/memory.max": "max\n",
        "/sys/fs/cgroup/batch/memory.max": f"{3000 * 1024}\n",
        "/sys/fs/cgroup/batch/memory.stat": f"file 123\nanon {1000 * 1024}\n",
    }

    def read_text(path: Path, encoding: str) -> str:
        if str(path) not in files:
            raise FileNotFoundError(path)
        return files[str(path)]

    monkeypatch.setattr(Path, "read_text", read_text)
    assert memory.free() == 2000 * 1024
    del files["/proc/self/cgroup"]
    assert memory.free() == 8000 * 1024
    files.clear()
    assert memory.free() is None
    assert memory.has_room(10**18)
