"""The configuration of a run's folder, which may come from anybody and from another machine. No torch."""

import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from omegaconf import OmegaConf

from cnnzoo.config import CONF_DIR, Config, config_hash
from cnnzoo.config.compose import from_dict
from cnnzoo.config.instantiate import refuse_unknown_packages
from cnnzoo.config.schema import PathsConfig
from cnnzoo.errors import UserError
from cnnzoo.results.provenance import changed_sources
from cnnzoo.results.run_folder import read_config, read_result

log = logging.getLogger(__name__)


def received_config(folder: Path, trusted_packages: Sequence[str] = ()) -> Config:
    """Return the configuration of the run in `folder`, checked like a typed one.

    Args:
        trusted_packages: packages that the run's targets may be from, besides those that cnnzoo is built on. Those
            that the folder itself names are not trusted.

    Raises:
        UserError: config.yaml cannot be read, is no configuration of a run or not the one that result.json is of; or it
            names a package that nobody here has named.
    """
    values = read_config(folder)
    try:
        config: Config = from_dict(Config, values)
        found = config_hash(config)
    except (UserError, TypeError, ValueError, AttributeError) as error:
        raise UserError(
            f"{folder}/config.yaml is not the configuration of a run: {str(error).rstrip('.')}."
            " weights=FILE with model=… and dataset=… needs none."
        ) from error
    result = read_result(folder) or {}
    expected = result.get("config_hash")
    if expected not in (None, found):
        raise UserError(
            f"{folder}/config.yaml is not the configuration that result.json is of: its hash is {found}, not"
            f" {expected}. One of them was changed after the run: get the folder again."
        )
    try:
        refuse_unknown_packages("model", config.model, trusted_packages)
        refuse_unknown_packages("dataset.source", config.dataset.source, trusted_packages)
    except UserError as error:
        raise UserError(f"{folder}/config.yaml: {error}") from error
    if changed := changed_sources(config, result):
        log.warning("%s: the run's code has changed since: %s", folder, ", ".join(changed))
    return replace(config, trusted_packages=list(trusted_packages))


def relocated(config: Config, paths: PathsConfig | None = None, root: str | None = None) -> Config:
    """Return a run's configuration with the folders of this machine.

    Args:
        paths: None: those of the environment.
        root: where the run's folder of images lies here; None: where it lay.
    """
    if paths is None:
        values = OmegaConf.load(CONF_DIR / "paths" / "default.yaml")
        paths = PathsConfig(data=values.data, weights=values.weights, outputs=values.outputs)
    source = dict(config.dataset.source)
    if str(source.get("_target_")).startswith("cnnzoo.data.sources."):
        source.pop("root", None)  # a standard set lies, and is downloaded to, where this machine has it
    if "root" not in source:
        root = paths.data
    elif root is not None:
        source["root"] = root
    dataset = replace(config.dataset, source=source, root=root or config.dataset.root, cache=paths.data)
    return replace(config, dataset=dataset, paths=paths)
