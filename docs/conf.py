"""Sphinx: `make docs` writes docs/_build/html. Warnings are errors there."""

import re

from sphinx.application import Sphinx

import cnnzoo

project = "cnnzoo"
version = release = cnnzoo.__version__
extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["_build", "**/.ipynb_checkpoints"]

html_theme = "furo"
html_title = "cnnzoo"
html_show_sphinx = False
highlight_language = "none"

myst_heading_anchors = 3

nb_execution_mode = "force"
nb_execution_in_temp = True  # what a notebook writes goes away
nb_execution_timeout = 300  # seconds of a cell
nb_execution_raise_on_error = True
nb_execution_show_tb = True
nb_output_stderr = "remove"

default_role = "code"
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented"
napoleon_custom_sections = [("Columns", "params_style")]


def _attributes(app: Sphinx, what: str, name: str, obj: object, options: object, lines: list[str]) -> None:
    """Make the lines `name: meaning` of a class's docstring a definition list."""
    if what == "class":
        pairs = [(line, re.fullmatch(r"([a-z_]+(?:, [a-z_]+)*): (.*)", line)) for line in lines]
        lines[:] = [text for line, pair in pairs for text in ((pair[1], f"    {pair[2]}") if pair else (line,))]


def setup(app: Sphinx) -> None:
    app.connect("autodoc-process-docstring", _attributes)
