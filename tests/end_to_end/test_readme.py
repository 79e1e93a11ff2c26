"""What README shows can be typed: its commands compose, its make targets and files exist; a wheel works."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from cnnzoo.cli import VERBS
from cnnzoo.config import CONF_DIR, compose

ROOT = CONF_DIR.parent
README = (ROOT / "README.md").read_text()
COMMANDS = sorted({line.split(" #")[0].strip() for line in re.findall(r"python -m cnnzoo\.[a-z][^`\n]+", README)})
PRIMARY = {"run": "run", "evaluate": "evaluate", "summary": "summary", "bench": "bench", "figures": "figures_data"}


def test_readme_shows_every_verb() -> None:
    shown = {match[1] for command in COMMANDS if (match := re.match(r"python -m cnnzoo\.(\w+)", command))}
    assert shown == set(VERBS)


@pytest.mark.parametrize("command", [c for c in COMMANDS if not re.search("compare|figures runs|<", c)])
def test_a_command_composes(command: str) -> None:
    verb, *words = shlex.split(command.removeprefix("python -m cnnzoo."))
    words = [word for word in words if word not in ("-m", "data")]
    # of a sweep, its first job
    first = [word.replace("glob(uvadlc/*)", "uvadlc/resnet").split(",")[0] for word in words]
    compose(first, PRIMARY[verb])


def test_make_targets_and_files_exist() -> None:
    makefile = (ROOT / "Makefile").read_text()
    for target in re.findall(r"\bmake ([a-z-]+)", README):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target
    for path in re.findall(r"`((?:conf|tests|benchmarks|cnnzoo)/[\w/.-]+)`", README):
        assert (ROOT / path).exists(), path


def test_published_table_is_the_configurations() -> None:
    for network in ("googlenet", "resnet", "preact_resnet", "densenet"):
        published = compose([f"experiment=uvadlc/{network}"]).published
        assert published is not None
        assert published.val_accuracy is not None
        assert published.test_accuracy is not None
        row = f"{100 * published.val_accuracy:.2f} % | {100 * published.test_accuracy:.2f} % |"
        assert re.search(rf"{re.escape(row)} +{published.params:,} \|", README), network


@pytest.mark.slow
def test_wheel_works_from_anywhere(tmp_path: Path) -> None:
    """A wheel brings its configuration and its sweeper along."""
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(tmp_path), str(ROOT)]
    subprocess.run(build, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    target = tmp_path / "site"
    subprocess.run(
        [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(target), str(wheel)],
        check=True,
    )
    (tmp_path / "empty").mkdir()
    environment = os.environ | {"PYTHONPATH": str(target)}
    sweep = ["-m", "dataset=digits", "image_size=8", "model=mlp", "trainer.max_epochs=1", "logger=none", "seed=1,2"]
    for arguments in (["run", "--cfg", "job"], ["run", *sweep], ["compare", "outputs"]):
        answer = subprocess.run(
            [sys.executable, "-P", "-m", "cnnzoo", *arguments],
            cwd=tmp_path / "empty",
            env=environment | {"CNNZOO_OUTPUTS": "outputs"},
            capture_output=True,
            text=True,
        )
        assert answer.returncode == 0, answer.stderr
    where = subprocess.run(
        [sys.executable, "-P", "-c", "import cnnzoo; print(cnnzoo.__file__)"],
        env=environment,
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert where.stdout.startswith(str(target))
