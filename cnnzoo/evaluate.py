"""Accuracy and loss of given weights on the validation and the test part.

python -m cnnzoo.evaluate experiment=uvadlc/resnet weights=published
python -m cnnzoo.evaluate model=densenet weights=path/to/file.ckpt format=json
python -m cnnzoo.evaluate weights=outputs/cifar10/resnet/seed42-...
"""

import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf
from rich.console import Console
from rich.table import Table

from cnnzoo.config import command, to_plain
from cnnzoo.console import set_up_logging
from cnnzoo.errors import UserError, nearest
from cnnzoo.results.record import LOADING, published_figures, read_config

log = logging.getLogger("cnnzoo.evaluate")

FORMATS = ("table", "json")


@command("evaluate")
def main(cfg: DictConfig) -> None:
    set_up_logging()
    if cfg.weights is None:
        raise UserError("weights=… is missing: a file, a run's folder, or 'published'.")
    if cfg.format not in FORMATS:
        raise UserError(f"format={cfg.format}: expected one of {', '.join(FORMATS)}.{nearest(cfg.format, FORMATS)}")
    if Path(cfg.weights).is_dir():
        for override in HydraConfig.get().overrides.task:
            if override.lstrip("+~").startswith(("model", "experiment", "image_size", "name", "dataset=")):
                log.warning("%s does not count: the run's own network and data do", override)
    result = evaluate_weights(to_plain(cfg))
    if cfg.format == "json":
        print(json.dumps(result, indent=2))
        return
    table = Table("part", "accuracy", "published", "loss", title=f"{result['model']} on {result['dataset']}")
    for part, suffix in (("val", ""), ("test", ""), ("test", "_tta")):
        accuracy = result.get(f"{part}_accuracy{suffix}")
        if accuracy is None:
            continue
        published = (result["published"] or {}).get(f"{part}_accuracy{suffix}")
        table.add_row(
            f"{part}, {cfg.tta}" if suffix else part, f"{100 * accuracy:.2f} %",
            "–" if published is None else f"{100 * published:.2f} %", f"{result[f'{part}_loss{suffix}']:.4f}",
        )  # fmt: skip
    stdout = Console()
    stdout.print(table)
    stdout.print(f"{result['params']:,} parameters; weights from {result['weights']}", soft_wrap=True)


def evaluate_weights(config: Mapping[str, Any]) -> dict[str, Any]:
    """Figures of the weights that `config["weights"]` names, for the network and the data of `config`.

    With a run's folder, the network, the data and the image size are those of the run.

    Raises:
        UserError: weights or data cannot be had, or do not fit.
    """
    from cnnzoo.data.dataset import load_dataset
    from cnnzoo.models.build import build_model
    from cnnzoo.models.profile import count
    from cnnzoo.training.devices import training_device
    from cnnzoo.training.predict import evaluate
    from cnnzoo.training.weights import find_weights, load_weights

    weights = config["weights"]
    if Path(weights).is_dir():
        trained = read_config(Path(weights))
        log.info("network and data as in %s/config.yaml", weights)
        loading = {key: config["dataset"][key] for key in LOADING}  # a matter of this machine
        config = {**config, **{key: trained[key] for key in ("name", "model", "dataset", "image_size", "published")}}
        config["dataset"] = {**config["dataset"], **loading}
    path = find_weights(weights, config)
    model = build_model(OmegaConf.create(dict(config)))
    load_weights(model, path)
    dataset = load_dataset(config["dataset"])
    val, test, test_tta = evaluate(model, dataset, config, training_device(config["trainer"]["accelerator"]))
    return {
        "model": config["name"],
        "dataset": config["dataset"]["name"],
        "val_accuracy": val.accuracy if val else None,
        "test_accuracy": test.accuracy,
        "val_loss": val.loss if val else None,
        "test_loss": test.loss,
        **({"test_accuracy_tta": test_tta.accuracy, "test_loss_tta": test_tta.loss} if test_tta else {}),
        "params": count(model),
        "weights": str(path),
        "published": published_figures(config),
    }


if __name__ == "__main__":
    main()
