"""From YAML and the command line to one typed, checked `Config`; nothing here imports torch."""

from cnnzoo.config.command import command
from cnnzoo.config.compose import CONF_DIR, compose
from cnnzoo.config.identity import config_hash, identity, run_folder
from cnnzoo.config.instantiate import instantiate
from cnnzoo.config.schema import Config

__all__ = ["CONF_DIR", "Config", "command", "compose", "config_hash", "identity", "instantiate", "run_folder"]
