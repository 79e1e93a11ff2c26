"""One run: a network, a data set and settings; trained, tested and recorded.

python -m cnnzoo.run model=densenet dataset=mnist optimizer=adam
python -m cnnzoo.run -m model=googlenet,resnet,densenet seed=1,2,3    a sweep
python -m cnnzoo.run experiment=uvadlc/resnet    a published row, its own settings
"""

import logging
import sys
import traceback
import types
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cnnzoo.config import Config, command, run_folder
from cnnzoo.config.command import command_line
from cnnzoo.console import log_file, set_up_logging
from cnnzoo.errors import UserError
from cnnzoo.io import WriteError, atomic_path, remove_leftovers, write_failure, writing
from cnnzoo.results import run_folder as files
from cnnzoo.results.provenance import changed_sources

if TYPE_CHECKING:
    from pytorch_lightning.loggers import Logger

    from cnnzoo.training.pruning import Pruning

log = logging.getLogger("cnnzoo.run")


@command("run", interrupted="interrupted; run the same command to resume")
def main(config: Config) -> None:
    set_up_logging()
    run(config, command_line())


def run(config: Config, command: str | None = None, pruning: "Pruning | None" = None) -> dict[str, Any]:
    """Train, test and record what `config` describes, unless that is done already; return `result.json`.

    Args:
        command: the command line to record; None for a run from Python.
        pruning: stops the training early where a search gives it up.

    Raises:
        UserError: it cannot be done; `result.json` then has the status `failed` and the reason.
    """
    folder = run_folder(config)
    with files.locked(folder):
        finished = files.read_result(folder)
        if config.rerun:
            files.set_aside(folder)
        elif finished is not None and finished.get("status") == "completed":
            log.info("already finished, skipping (rerun=true trains again): %s", folder)
            if changed := changed_sources(config, finished):
                log.warning("its code has changed since (rerun=true trains again): %s", ", ".join(changed))
            return finished
        with writing(folder):
            (folder / "result.json").unlink(missing_ok=True)  # of an attempt that failed or was pruned
            remove_leftovers(folder)
        files.write_config(folder, config)
        result = files.new_result(config, command or "cnnzoo.run(config)")
        with log_file(folder / "run.log"):
            log.info("%s", result["command"])
            try:
                result |= train_and_test(config, folder, pruning)
            except (Exception, SystemExit) as error:
                log.debug("%s", traceback.format_exc())
                failure = _explained(error, config, folder)
                log.debug("failed: %s", failure)  # whoever called prints it
                if not files.bring_back(folder):
                    name = type(failure).__name__
                    result |= {"status": "failed", "error": f"{name}: {failure}", "finished": files.now()}
                    with suppress(WriteError):  # what has failed may be the disk; the run stays unfinished then
                        files.write_result(folder, result)
                raise failure from error
            result["finished"] = files.now()
            files.write_result(folder, result)
            files.drop_previous(folder)
            log.info("%s: %s", files.describe(result), folder)
    return result


def train_and_test(config: Config, folder: Path, pruning: "Pruning | None" = None) -> dict[str, Any]:
    """The way of a run: data, network, training, test of the best checkpoint. Returns its status and metrics."""
    from cnnzoo.training.loggers import open_loggers  # torch is imported here, when a run really starts

    with open_loggers(config, folder) as loggers:
        return _train_and_test(config, folder, loggers, pruning)


def _train_and_test(config: Config, folder: Path, loggers: "list[Logger]", pruning: "Pruning | None") -> dict[str, Any]:
    import numpy as np
    import pytorch_lightning as pl

    from cnnzoo.data.dataset import load_dataset
    from cnnzoo.figures.tensorboard import log_result
    from cnnzoo.nn.build import build_model, input_shape
    from cnnzoo.nn.profile import profile
    from cnnzoo.nn.weights import load_initial_weights, load_weights
    from cnnzoo.training.devices import device_name
    from cnnzoo.training.fit import fit
    from cnnzoo.training.predict import check_evaluation, evaluate

    dataset = load_dataset(config.dataset, config.trusted_packages)
    pl.seed_everything(config.seed, verbose=False)
    model = build_model(config)
    if config.weights is not None:
        load_initial_weights(model, config)
    costs = profile(model, input_shape(config), config.dataset.num_classes)
    trained = fit(model, dataset, config, folder, [pruning] if pruning else [], loggers)
    metrics = {
        "params": costs.trainable_params,
        "macs": costs.macs,
        "epochs": trained.epochs,
        "best_epoch": trained.best_epoch,
        "train_seconds": trained.train_seconds,
        "images_per_second": trained.images_per_second,
        "peak_memory_bytes": trained.peak_memory_bytes,
        "device": device_name(trained.device),
        "precision": trained.precision,
        "compiled": trained.compiled,
        "classes": list(dataset.classes),
        "mean": dataset.mean.tolist(),
        "std": dataset.std.tolist(),
    }
    if pruning and pruning.pruned:
        best = trained.rows[trained.best_epoch - 1]
        return metrics | {"status": "pruned", "val_accuracy": best["val_accuracy"], "val_loss": best["val_loss"]}
    load_weights(model, trained.best_checkpoint)
    val, test, test_tta = evaluate(model, dataset, config, trained.device)
    check_evaluation(val, test, trained.rows[trained.best_epoch - 1], config)
    with atomic_path(folder / "predictions.npz") as temporary, temporary.open("wb") as file:
        np.savez_compressed(file, logits=test.logits.numpy(), labels=test.labels.numpy())
    metrics |= {
        "status": "completed",
        "val_accuracy": val.accuracy if val else None,
        "val_loss": val.loss if val else None,
        "test_accuracy": test.accuracy,
        "test_loss": test.loss,
        **({"test_accuracy_tta": test_tta.accuracy} if test_tta else {}),
        "test_seconds": (test_tta or test).seconds,
    }
    log_result(loggers, config, metrics, trained.rows[-1]["step"], test, dataset.classes)
    return metrics


def _explained(error: BaseException, config: Config, folder: Path) -> Exception:
    """The failure to report: with advice where there is some."""
    if not isinstance(error, UserError) and (failure := write_failure(error, folder)):
        return failure
    if _is_out_of_memory(error):
        return UserError(
            f"Out of memory with dataset.batch_size={config.dataset.batch_size} images of"
            f" image_size={config.image_size}: lower one of them (or dataset.eval_batch_size, if validation failed);"
            " trainer.accumulate_grad_batches=2 with half the batch keeps the size of an optimizer step."
            " `python -m cnnzoo.bench what=batch_size` with the same settings finds the largest batch that fits."
        )
    if isinstance(error, SystemExit):
        return UserError(f"Some code of the run called sys.exit({error.code}); a network or data source must not.")
    assert isinstance(error, Exception)
    return error


def _is_out_of_memory(error: BaseException | None) -> bool:
    """Whether it is, or was raised because of: torch.OutOfMemoryError, or what CUDA's libraries or the CPU say."""
    if error is None:
        return False
    text = f"{type(error).__name__}: {error}"
    signs = ("OutOfMemoryError", "out of memory", "can't allocate memory", "_ALLOC_FAILED", "Cannot allocate memory")
    return isinstance(error, MemoryError) or any(sign in text for sign in signs) or _is_out_of_memory(error.__cause__)


class _CallableModule(types.ModuleType):
    """This module is `python -m cnnzoo.run`, and `cnnzoo.run(config)` is the function in it."""

    def __call__(self, config: Config) -> dict[str, Any]:
        return run(config)


sys.modules[__name__].__class__ = _CallableModule

if __name__ == "__main__":
    main()
