"""What README shows can be typed: its commands compose, its make targets and files exist."""

import re
import shlex
from pathlib import Path

import pytest

from cnnzoo.cli import VERBS
from cnnzoo.config import CONF_DIR, compose

ROOT = CONF_DIR.parent
README = (ROOT / "README.md").read_text()
COMMANDS = sorted({line.split(" #")[0].strip() for line in re.findall(r"python -m cnnzoo\.[a-z][^`\n]+", README)})
PRIMARY = {"run": "run", "evaluate": "evaluate", "summary": "summary", "bench": "bench", "figures": "figures_data"}


def test_readme_shows_every_verb():
    shown = {re.match(r"python -m cnnzoo\.(\w+)", command)[1] for command in COMMANDS}
    assert shown == set(VERBS)


@pytest.mark.parametrize("command", [c for c in COMMANDS if not re.search("compare|figures runs|<", c)])
def test_a_command_composes(command):
    verb, *words = shlex.split(command.removeprefix("python -m cnnzoo."))
    words = [word for word in words if word not in ("-m", "data")]
    # of a sweep, its first job
    first = [word.replace("glob(uvadlc/*)", "uvadlc/resnet").split(",")[0] for word in words]
    compose(first, PRIMARY[verb])


def test_make_targets_and_files_exist():
    makefile = (ROOT / "Makefile").read_text()
    for target in re.findall(r"\bmake ([a-z-]+)", README):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target
    for path in re.findall(r"`((?:conf|tests|benchmarks|cnnzoo)/[\w/.-]+)`", README):
        assert (ROOT / path).exists(), path


def test_the_published_table_is_the_configurations():
    for network in ("googlenet", "resnet", "preact_resnet", "densenet"):
        published = compose([f"experiment=uvadlc/{network}"]).published
        row = f"{100 * published.val_accuracy:.2f} % | {100 * published.test_accuracy:.2f} % |"
        assert re.search(rf"{re.escape(row)} +{published.params:,} \|", README), network


def test_wheel_carries_the_configuration():
    """The path of the installed package that `CONF_DIR` looks for first is the one that the wheel is told to fill."""
    assert '"conf" = "cnnzoo/conf"' in (ROOT / "pyproject.toml").read_text()
    assert Path(CONF_DIR, "run.yaml").is_file()
