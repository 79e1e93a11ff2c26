"""Processes share out the devices of a machine."""

import os
import select
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

import pytest

Claim = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def claim(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Claim]:
    """Start processes that claim a device, on a machine with two as nvidia-smi would list them."""
    fake = tmp_path / "nvidia-smi"
    fake.write_text("#!/bin/sh\necho 'GPU 0: A (UUID: GPU-0)'\necho '  MIG 1g'\necho 'GPU 1: A (UUID: GPU-1)'\n")
    fake.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    processes: list[subprocess.Popen[str]] = []

    def start(how: str, **environment: str) -> "subprocess.Popen[str]":
        code = (
            f"import os, sys; from cnnzoo.sweep.device_claims import {how}; {how}(); {how}()\n"
            "print(os.environ['CUDA_VISIBLE_DEVICES'], flush=True); sys.stdin.read()"
        )
        process = subprocess.Popen(
            [sys.executable, "-c", code],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | environment,
        )
        processes.append(process)
        return process

    yield start
    for process in processes:
        if process.poll() is None:
            process.communicate()


def _line(process: "subprocess.Popen[str]") -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def test_share_device(claim: Claim) -> None:
    processes = [claim("share_device") for _ in range(3)]
    devices = [_line(process) for process in processes]
    assert sorted(devices) in (["0", "0", "1"], ["0", "1", "1"])
    lonely = processes[[devices.count(device) for device in devices].index(1)]
    lonely.communicate()  # its claim ends with it
    assert _line(claim("share_device")) == devices[processes.index(lonely)]
    assert _line(claim("share_device", CUDA_VISIBLE_DEVICES="GPU-7")) == "GPU-7"


@pytest.mark.parametrize(("environment", "places"), [({}, {"0", "1"}), ({"CUDA_VISIBLE_DEVICES": ""}, {""})])
def test_wait_for_device(environment: dict[str, str], places: set[str], claim: Claim) -> None:
    """The processor is the one device where there is none of CUDA."""
    started = [claim("wait_for_device", **environment) for _ in range(len(places) + 1)]
    running = {process.stdout: process for process in started if process.stdout is not None}
    found: dict[IO[str], str] = {}
    while len(found) < len(places):
        for stdout in select.select([out for out in running if out not in found], [], [])[0]:
            found[stdout] = stdout.readline().strip()
    assert set(found.values()) == places
    (waiting,) = set(running) - set(found)
    assert not select.select([waiting], [], [], 1)[0]
    ended = next(iter(found))
    running[ended].communicate()
    assert waiting.readline().strip() == found[ended]
