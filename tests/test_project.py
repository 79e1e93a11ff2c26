"""The project's own files agree with each other: version, changes, workflow, contributing."""

import re
import tomllib

import yaml

import cnnzoo
from cnnzoo.config import CONF_DIR

ROOT = CONF_DIR.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
MAKEFILE = (ROOT / "Makefile").read_text()


def test_version_is_in_one_place() -> None:
    assert PROJECT["project"]["dynamic"] == ["version"]
    assert PROJECT["tool"]["hatch"]["version"]["path"] == "cnnzoo/__init__.py"
    assert "version" not in yaml.safe_load((ROOT / "CITATION.cff").read_text())
    latest = re.search(r"^## ([\d.]+)", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert latest is not None
    assert latest[1] == cnnzoo.__version__
    assert re.findall(r"version = \{(.*?)\}", (ROOT / "README.md").read_text()) in ([], [cnnzoo.__version__])


def test_citation_has_what_the_format_requires() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert {"cff-version", "message", "title", "authors"} <= citation.keys()
    assert citation["license"] == PROJECT["project"]["license"]


def test_workflow_runs_what_there_is() -> None:
    workflow = yaml.safe_load((ROOT / ".github" / "workflows" / "test.yml").read_text())
    commands = "\n".join(step.get("run", "") for job in workflow["jobs"].values() for step in job["steps"])
    targets = re.findall(r"\bmake ([a-z-]+)", commands)
    assert {"lint", "coverage", "test"} <= set(targets)
    assert all(re.search(rf"^{target}:", MAKEFILE, re.MULTILINE) for target in targets)
    paths = re.findall(r"\btests/[\w/.]+", commands)
    assert paths
    assert all((ROOT / path).exists() for path in paths)
    oldest = re.search(r">=(3\.\d+)", PROJECT["project"]["requires-python"])
    assert oldest is not None
    assert workflow["jobs"]["linux"]["strategy"]["matrix"]["python"] == [oldest[1], "3.12", "3.13"]


def test_contributing_names_files_that_there_are() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text()
    for path in re.findall(r"`((?:cnnzoo|tests|docs|benchmarks)/[\w/.]+)`", text):
        assert (ROOT / path).exists(), path
    for target in re.findall(r"`make ([a-z-]+)", text):
        assert re.search(rf"^{target}:", MAKEFILE, re.MULTILINE), target
