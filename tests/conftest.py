import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

from cnnzoo.config import compose

# The same examples every time, however slow the machine is.
settings.register_profile("repeatable", derandomize=True, deadline=None, database=None)
settings.load_profile("repeatable")

# As a user's shell has them, before the fixture below sets others.
DATA = Path(os.environ.get("CNNZOO_DATA", "data")).absolute()
WEIGHTS = Path(os.environ.get("CNNZOO_WEIGHTS", "weights")).absolute()


@pytest.fixture(autouse=True)
def own_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test writes into anybody's outputs."""
    monkeypatch.setenv("CNNZOO_OUTPUTS", str(tmp_path / "outputs"))
    monkeypatch.setenv("CNNZOO_DATA", str(DATA))
    monkeypatch.setenv("CNNZOO_WEIGHTS", str(WEIGHTS))
    monkeypatch.delenv("HYDRA_FULL_ERROR", raising=False)


@pytest.fixture(scope="session")
def cifar10() -> Path:
    """The folder that holds the real CIFAR-10."""
    if not (DATA / "cifar-10-batches-py").is_dir():
        pytest.skip(f"CIFAR-10 is not in {DATA}; set CNNZOO_DATA to where it is")
    return DATA


@pytest.fixture(scope="session")
def published_weights() -> Path:
    """The folder that holds the published weights."""
    if not any((WEIGHTS / name).is_file() for name in ("uvadlc_tutorial5/ResNet.ckpt", "ResNet.ckpt")):
        pytest.skip(f"the published weights are not in {WEIGHTS}; set CNNZOO_WEIGHTS to where they are")
    return WEIGHTS


@pytest.fixture
def config() -> Callable[..., Any]:
    """Compose a configuration as the command line does: `config("model=densenet", "seed=3")`."""
    return lambda *overrides, name="run": compose(overrides, name)


@pytest.fixture
def cnnzoo(tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run `python -m cnnzoo.<verb> ...` in an empty folder: `cnnzoo("run", "model=resnet")`."""

    def call(verb: str, *args: str, **kwargs: Any) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", f"cnnzoo.{verb}", *args], cwd=tmp_path, capture_output=True, text=True, **kwargs
        )

    return call
