"""One run: a network, a data set and all settings composed into one training, tested and recorded.

python -m cnnzoo.run model=densenet optimizer=adam              one run; CIFAR-10 is the default data set
python -m cnnzoo.run -m model=googlenet,resnet,densenet seed=1,2,3   a sweep
python -m cnnzoo.run experiment=uvadlc/resnet                   a published row with its own settings
"""

import logging
import shlex
import shutil
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from cnnzoo import sweep
from cnnzoo.config import command, to_plain
from cnnzoo.console import log_file
from cnnzoo.errors import UserError
from cnnzoo.results import record
from cnnzoo.results.files import read_metrics
from cnnzoo.search.trial import Trial

log = logging.getLogger("cnnzoo.run")


@command("run", around=sweep.around)
def main(cfg: DictConfig) -> float | None:
    """Returns the validation accuracy, the one figure that a search may see."""
    watched_elsewhere = sweep.set_up_job()
    config = to_plain(cfg)
    if watched_elsewhere:
        config["trainer"]["progress_bar"] = False
    command_line = "python -m cnnzoo.run " + shlex.join(HydraConfig.get().overrides.task)
    return run(config, command_line, Trial.of_this_process())["val_accuracy"]


def run(config: Mapping[str, Any], command_line: str, trial: Trial | None = None) -> dict[str, Any]:
    """Does what `config` describes, unless that is done already; returns what `result.json` holds.

    The `trial` of a search may stop it early; without one, the same run goes on to its end.

    Raises:
        UserError: it cannot be done; `result.json` then says `failed` and why.
    """
    folder = record.run_folder(config)
    with record.locked(folder):
        finished = record.read_result(folder)
        if config["rerun"]:
            _empty(folder)
        elif finished is not None and finished.get("status") == "completed":
            log.info("finished already, nothing to do (rerun=true starts over): %s", folder)
            return finished
        (folder / "result.json").unlink(missing_ok=True)  # of an attempt that failed or was pruned
        record.write_config(folder, config)
        result = record.common_fields(config, command_line) | {"started": record.now()}
        with log_file(folder / "run.log"):
            log.info("%s", command_line)
            try:
                result |= train_and_test(config, folder, trial)
            except Exception as error:
                log.debug("%s", traceback.format_exc())
                if _is_out_of_memory(error):
                    error = _out_of_memory(config)
                result |= {"status": "failed", "error": f"{type(error).__name__}: {error}", "finished": record.now()}
                record.write_result(folder, result)
                log.info("failed: %s", error)
                raise error
            result["finished"] = record.now()
            record.write_result(folder, result)
            log.info("%s: %s", record.describe(result), folder)
    return result


def train_and_test(config: Mapping[str, Any], folder: Path, trial: Trial | None = None) -> dict[str, Any]:
    """The way of a run: data and network, training, test of the best checkpoint; returns its status and figures."""
    import numpy as np  # torch and what brings it along enter here, when a run really starts
    import pytorch_lightning as pl

    from cnnzoo.data.dataset import load_dataset
    from cnnzoo.models.build import build_model, input_shape
    from cnnzoo.models.profile import profile
    from cnnzoo.search.pruning import Pruning
    from cnnzoo.training.devices import device_name
    from cnnzoo.training.fit import fit
    from cnnzoo.training.predict import evaluate
    from cnnzoo.training.weights import load_weights

    dataset = load_dataset(config["dataset"])
    pl.seed_everything(config["seed"], verbose=False)
    cfg = OmegaConf.create(dict(config))
    model = build_model(cfg)
    costs = profile(model, input_shape(cfg), config["dataset"]["num_classes"])
    trained = fit(model, dataset, config, folder, [Pruning(trial)] if trial else [])
    figures = {
        "params": costs.trainable_params,
        "macs": costs.macs,
        "epochs": trained.epochs,
        "best_epoch": trained.best_epoch,
        "train_seconds": trained.train_seconds,
        "images_per_second": trained.images_per_second,
        "peak_memory_bytes": trained.peak_memory_bytes,
        "device": device_name(trained.device),
        "precision": trained.precision,
    }
    if trial and trial.is_pruned:
        best = read_metrics(folder)[trained.best_epoch - 1]
        return figures | {"status": "pruned", "val_accuracy": best["val_accuracy"], "val_loss": best["val_loss"]}
    load_weights(model, trained.best_checkpoint)
    val, test, test_tta = evaluate(model, dataset, config, trained.device)
    np.savez_compressed(folder / "predictions.npz", logits=test.logits.numpy(), labels=test.labels.numpy())
    return figures | {
        "status": "completed",
        "val_accuracy": val.accuracy if val else None,
        "val_loss": val.loss if val else None,
        "test_accuracy": test.accuracy,
        "test_loss": test.loss,
        **({"test_accuracy_tta": test_tta.accuracy} if test_tta else {}),
        "test_seconds": (test_tta or test).seconds,
    }


def _is_out_of_memory(error: BaseException) -> bool:
    # torch.OutOfMemoryError on CUDA; on the CPU a RuntimeError of torch's allocator
    return isinstance(error, MemoryError) or any(
        words in f"{type(error).__name__}: {error}" for words in ("OutOfMemoryError", "can't allocate memory")
    )


def _out_of_memory(config: Mapping[str, Any]) -> UserError:
    return UserError(
        f"Out of memory with dataset.batch_size={config['dataset']['batch_size']} images of"
        f" image_size={config['image_size']}: lower one of them (or dataset.eval_batch_size, if validation failed);"
        " trainer.accumulate_grad_batches=2 with half the batch keeps the size of an optimizer step."
        " `python -m cnnzoo.bench what=batch_size` with the same settings finds the largest batch that fits."
    )


def _empty(folder: Path) -> None:
    for entry in folder.iterdir():
        if entry.name == ".lock":
            continue
        shutil.rmtree(entry) if entry.is_dir() else entry.unlink()


if __name__ == "__main__":
    main()
