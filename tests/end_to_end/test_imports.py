"""What importing and starting cost, and that importing changes nothing for other programs."""

import os
import pkgutil
import subprocess
import sys
from pathlib import Path

import pytest

import cnnzoo

_NO_TORCH = """
import sys, runpy
sys.argv = ["cnnzoo", *sys.argv[1:]]
try:
    runpy.run_module("cnnzoo", run_name="__main__", alter_sys=True)
except SystemExit as end:
    assert not end.code, end.code
assert "torch" not in sys.modules and "pytorch_lightning" not in sys.modules
"""
_COMMANDS = [
    ["run", "--cfg", "job"],
    ["run", "--help"],
    ["evaluate", "--help"],
    ["summary", "--help"],
    ["bench", "--help"],
    ["figures", "--help"],
    ["compare", "--help"],
    ["compare", "runs"],
    ["compare", "runs", "--status"],
    ["clean", "runs", "--dry-run"],
    ["list", "datasets"],
    ["--help"],
    ["-sc", "install=bash"],
    ["-sc", "query=bash"],
]


@pytest.mark.parametrize("arguments", _COMMANDS, ids=" ".join)
def test_command_imports_no_torch(arguments: list[str], tmp_path: Path) -> None:
    run = tmp_path / "runs" / "digits" / "net" / "seed1"
    run.mkdir(parents=True)
    (run / "result.json").write_text(
        '{"schema_version": 1, "status": "completed", "model": "net", "dataset": "digits", "seed": 1,'
        ' "config_hash": "0", "config": {}, "test_accuracy": 0.5}'
    )
    answer = subprocess.run(
        [sys.executable, "-c", _NO_TORCH, *arguments],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        env=os.environ | {"COMP_LINE": "cnnzoo run model=densenet_", "COMP_POINT": "26"},
    )
    assert answer.returncode == 0, answer.stderr
    if arguments == ["-sc", "query=bash"]:  # tab completion
        assert answer.stdout.split() == ["model=densenet_bc"]


def test_package_imports_nothing() -> None:
    code = "import sys, cnnzoo; print(sorted({'torch', 'hydra', 'pandas', 'omegaconf'} & set(sys.modules)))"
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == "[]"


_FOREIGN = """
import importlib
import pkgutil
import warnings

import cnnzoo

filters, hooks = list(warnings.filters), __import__("sys").excepthook
for module in pkgutil.walk_packages(cnnzoo.__path__, "cnnzoo."):
    if not module.name.endswith("__main__"):
        importlib.import_module(module.name)
assert [f for f in warnings.filters if f not in filters and "hydra" in str(f[1])] == []

import hydra


@hydra.main(config_path="conf", config_name="app", version_base="1.3")
def main(cfg):
    print(cfg.model.size, cfg.get("name"), cfg.get("published"))


main()
"""


def test_foreign_hydra_application_is_undisturbed(tmp_path: Path) -> None:
    """An application with a `model` group of its own imports every module of cnnzoo, and runs and sweeps as before."""
    (tmp_path / "conf" / "model").mkdir(parents=True)
    (tmp_path / "conf" / "app.yaml").write_text("defaults:\n  - model: small\n  - _self_\n")
    (tmp_path / "conf" / "model" / "small.yaml").write_text("size: 1\n")
    (tmp_path / "conf" / "model" / "large.yaml").write_text("size: 2\n")
    (tmp_path / "app.py").write_text(_FOREIGN)

    def app(*arguments: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [sys.executable, "app.py", *arguments], cwd=tmp_path, capture_output=True, text=True, check=False
        )

    one = app()
    assert (one.returncode, one.stdout) == (0, "1 None None\n"), one.stderr
    assert app("model=large", "+name=x").stdout == "2 x None\n"
    both = app("-m", "model=small,large")
    assert both.stdout.count("None None") == 2, both.stderr
    wrong = app("model=larg")
    assert wrong.returncode == 1
    assert "Could not find 'model/larg'" in wrong.stderr


def test_every_module_says_what_it_is_for() -> None:
    for module in pkgutil.walk_packages(cnnzoo.__path__, "cnnzoo."):
        source = Path(module.module_finder.find_spec(module.name, None).origin or "")  # type: ignore[union-attr]
        assert source.read_text().startswith('"""'), source
