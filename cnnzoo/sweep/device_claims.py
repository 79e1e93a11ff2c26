"""One CUDA device a process, where several jobs of a sweep share a machine.

A claim on a device is a file lock, so it ends with its process. Claim before torch starts CUDA.
"""

import fcntl
import itertools
import os
import tempfile
import time
from pathlib import Path
from typing import IO

from cnnzoo.config.resolvers import cuda_devices

_claimed: list[IO[str]] = []  # open files hold their locks until the process ends


def share_device() -> None:
    """Use the CUDA device with the fewest processes on it. For launchers that limit their number of processes."""
    for place in itertools.count() if cuda_devices() and not _claimed else ():
        for device in cuda_devices():
            if _claim(f"{device}-{place}"):
                os.environ["CUDA_VISIBLE_DEVICES"] = device
                return


def wait_for_device() -> None:
    """Wait for a CUDA device without another process; where there is none, for the processor.

    For launchers that start all their processes at once.
    """
    while not _claimed:
        for device in cuda_devices() or ("processor",):
            if _claim(f"{device}-0"):
                if device != "processor":
                    os.environ["CUDA_VISIBLE_DEVICES"] = device
                return
        time.sleep(0.2)


def _claim(name: str) -> bool:
    folder = Path(tempfile.gettempdir(), f"cnnzoo-{os.getuid()}")
    folder.mkdir(exist_ok=True)
    file = (folder / f"{name}.lock").open("a")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.close()
        return False
    _claimed.append(file)
    return True
