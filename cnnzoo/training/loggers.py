"""Experiment loggers of a configuration: TensorBoard, Weights & Biases and others, in addition to metrics.csv."""

import contextlib
import importlib.util
from collections.abc import Iterator, Mapping
from pathlib import Path

from pytorch_lightning.loggers import Logger, MLFlowLogger, WandbLogger

from cnnzoo.config import Config, config_hash, instantiate
from cnnzoo.errors import UserError
from cnnzoo.io import write_atomically

_NEEDED = {"WandbLogger": "wandb", "MLFlowLogger": "mlflow"}


@contextlib.contextmanager
def open_loggers(config: Config, folder: Path) -> Iterator[list[Logger]]:
    """Yield the loggers of the section `logger`, and close them afterwards.

    They are offered `save_dir`, the run's `folder`, and an identifier under which a resumed run continues: `id`, the
    configuration's hash, to wandb; `run_id`, which is kept in the folder, to MLflow.

    Raises:
        UserError: there is no such logger, it refuses its arguments, or its package is not installed.
    """
    kept = folder / "mlflow_run_id"
    offered = {"save_dir": str(folder), "id": config_hash(config)}
    if kept.is_file():
        offered["run_id"] = kept.read_text()
    loggers: list[Logger] = []
    failed = True
    try:
        for name, node in config.logger.items():
            target = node.get("_target_") if isinstance(node, Mapping) else None
            package = _NEEDED.get(str(target).rpartition(".")[2])
            if package and importlib.util.find_spec(package) is None:
                raise UserError(f"logger={name} needs {package}: pip install 'cnnzoo[{package}]'")
            logger = instantiate(
                Logger,
                f"logger.{name}",
                node,
                offered=offered,
                trusted_packages=config.trusted_packages,
            )
            if isinstance(logger, MLFlowLogger):
                write_atomically(kept, str(logger.run_id))
            loggers.append(logger)
        yield loggers
        failed = False
    finally:
        if any(isinstance(logger, WandbLogger) for logger in loggers):
            import wandb

            wandb.finish(int(failed))  # otherwise the next run of this process would continue it
