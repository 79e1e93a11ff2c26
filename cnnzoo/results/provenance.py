"""What code a run was made with: versions, commit, digests of the source files of its targets. No torch."""

import contextlib
import hashlib
import importlib.metadata
import platform
import subprocess
import sys
import sysconfig
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from cnnzoo.config import Config, identity

_ROOT = Path(__file__).resolve().parents[2]
_PACKAGES = ("cnnzoo", "torch", "torchvision", "pytorch-lightning", "hydra-core", "numpy")


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that a result depends on."""
    found = {"python": platform.python_version()}
    for package in _PACKAGES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[package] = importlib.metadata.version(package)
    return found


def git_commit() -> str | None:
    """Commit of the checkout that cnnzoo runs from, `-dirty` if files differ from it; None for a wheel."""
    if not (_ROOT / ".git").exists():
        return None
    command = ["git", "describe", "--always", "--abbrev=40", "--dirty", "--exclude=*"]
    try:
        return subprocess.run(command, cwd=_ROOT, capture_output=True, text=True, timeout=20, check=True).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return None


def source_digests(config: Config) -> dict[str, str]:
    """Module → digest of its file, for cnnzoo's and the user's own modules among the configuration's targets.

    An edit of a network is not part of a run's identity; with these it is at least noticed. Nothing is imported.
    """
    modules = {target.rpartition(".")[0] for target in _targets(identity(config))}
    files = {module: _own_file(module) for module in sorted(modules)}
    return {module: hashlib.sha256(file.read_bytes()).hexdigest()[:16] for module, file in files.items() if file}


def changed_sources(config: Config, result: Mapping[str, Any]) -> list[str]:
    """Modules whose source files are not those that `result` was made with."""
    before = result.get("source_digests", {})
    return [module for module, digest in source_digests(config).items() if before.get(module, digest) != digest]


def _targets(node: Any) -> Iterator[str]:
    if isinstance(node, Mapping):
        if isinstance(node.get("_target_"), str):  # scheduler=none has null
            yield node["_target_"]
        node = list(node.values())
    if isinstance(node, list):
        for value in node:
            yield from _targets(value)


def _own_file(module: str) -> Path | None:
    """The file of a module that is neither the standard library's nor an installed package's, cnnzoo excepted."""
    installed = [sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")]
    own = [path for path in sys.path if path not in installed]
    for folder in [_ROOT] if module.startswith("cnnzoo.") else own:
        path = Path(folder, *module.split("."))
        for file in (path.with_suffix(".py"), path / "__init__.py"):
            if file.is_file():
                return file
    return None
