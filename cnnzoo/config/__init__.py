"""Composing and checking configurations; nothing here imports torch."""

from cnnzoo.config.app import JobError, command, command_line, compose
from cnnzoo.config.composition import CONF_DIR, to_plain

__all__ = ["CONF_DIR", "JobError", "command", "command_line", "compose", "to_plain"]
