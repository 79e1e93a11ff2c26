"""Composing and checking configurations; nothing here imports torch."""

from cnnzoo.config.app import CONF_DIR, command, compose, to_plain

__all__ = ["CONF_DIR", "command", "compose", "to_plain"]
