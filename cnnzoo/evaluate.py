"""Print accuracy and loss of given weights on the validation and the test split.

python -m cnnzoo.evaluate experiment=uvadlc/resnet weights=published
python -m cnnzoo.evaluate model=densenet weights=path/to/file.ckpt format=json
python -m cnnzoo.evaluate weights=outputs/cifar10/resnet/seed42-...
python -m cnnzoo.evaluate weights=outputs/cifar10/resnet/seed42-... dataset.test=cifar10_c   # corrupted test images
"""

import logging
from dataclasses import replace
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any

from hydra.core.hydra_config import HydraConfig
from rich.console import Console
from rich.table import Table

from cnnzoo.config import Config, command, config_hash
from cnnzoo.config.schema import EvaluateConfig
from cnnzoo.console import set_up_logging
from cnnzoo.errors import UserError, nearest
from cnnzoo.io import write_atomically
from cnnzoo.results.received import received_config, relocated
from cnnzoo.results.render import percent
from cnnzoo.results.run_folder import CORRUPTIONS, now, published_metrics, read_result, to_json
from cnnzoo.text import clean

if TYPE_CHECKING:  # slow to import
    import torch
    from torch import nn

    from cnnzoo.data.dataset import Dataset

log = logging.getLogger("cnnzoo.evaluate")

FORMATS = ("table", "json")


@command("evaluate")
def main(config: EvaluateConfig) -> None:
    set_up_logging()
    if config.weights is None:
        raise UserError("weights=… is missing: a file, a run's folder, 'published' or 'cnnzoo'.")
    if config.format not in FORMATS:
        raise UserError(
            f"format={config.format}: expected one of {', '.join(FORMATS)}.{nearest(config.format, FORMATS)}"
        )
    if folder := _folder_of_run(config):
        for override in HydraConfig.get().overrides.task:
            if override.lstrip("+~").startswith(("model", "experiment", "image_size", "name", "dataset=")):
                log.warning("ignoring %s: model and dataset come from %s/config.yaml", override, folder)
    result = evaluate_weights(config)
    if config.format == "json":
        print(to_json(result))
    else:
        _print_tables(result, config)
    if folder and "corruptions" in result:
        _keep_corruptions(folder, result)


def _print_tables(result: dict[str, Any], config: Config) -> None:
    table = Table("split", "accuracy", "published", "loss", title=clean(f"{result['model']} on {result['dataset']}"))
    corrupted: str | None = result.get("test")
    for split, suffix in (("val", ""), ("test", ""), ("test", "_tta")):
        accuracy = result.get(f"{split}_accuracy{suffix}")
        if accuracy is None:
            continue
        published = (result["published"] or {}).get(f"{split}_accuracy{suffix}")
        table.add_row(
            ", ".join(filter(None, (split, corrupted if split == "test" else None, config.tta if suffix else None))),
            f"{100 * accuracy:.2f} %",
            "–" if published is None else f"{100 * published:.2f} %",
            f"{result[f'{split}_loss{suffix}']:.4f}",
        )
    stdout = Console(markup=False, emoji=False)  # names are the user's
    stdout.print(table)
    if "corruptions" in result:
        stdout.print(_corruption_table(result["corruptions"], result["corruption_accuracy"]))
    stdout.print(clean(f"{result['params']:,} parameters; weights from {result['weights']}"), soft_wrap=True)


def _corruption_table(accuracies: dict[str, list[float]], mean: float) -> Table:
    count = len(next(iter(accuracies.values())))
    table = Table("corruption", title="accuracy in %, by severity", show_footer=True)
    for heading in (*map(str, range(1, count + 1)), "mean"):
        table.add_column(heading, justify="right")
    for name, values in accuracies.items():
        table.add_row(name, *map(percent, (*values, fmean(values))))
    table.columns[0].footer, table.columns[-1].footer = "mean", percent(mean)
    return table


def _keep_corruptions(folder: Path, result: dict[str, Any]) -> None:
    """Write accuracies on corrupted test images beside the result that they are of, where `compare` finds them."""
    from cnnzoo.nn.weights import weights_of_run

    finished = read_result(folder) or {}
    if finished.get("status") != "completed" or Path(result["weights"]) != weights_of_run(folder):
        log.info("%s holds no result of these weights, so the accuracies are not kept there", folder)
        return
    kept = {"config_hash": finished.get("config_hash"), "evaluated": now()}
    kept |= {key: result[key] for key in ("corruption_accuracy", "corruptions")}
    write_atomically(folder / CORRUPTIONS, to_json(kept) + "\n")


def evaluate_weights(config: Config) -> dict[str, Any]:
    """Return accuracies and losses of the weights `config.weights`, for the network and the data of `config`.

    With a run's folder, or a checkpoint in it, the network, the data and the image size are those of the run. The
    folder may come from anybody: see `cnnzoo.results.received`.

    Raises:
        UserError: weights or data cannot be had, do not fit, or would have run code that nobody here has named.
    """
    from cnnzoo.data.corruptions import parse
    from cnnzoo.data.dataset import load_dataset
    from cnnzoo.nn.build import build_model
    from cnnzoo.nn.profile import count_parameters
    from cnnzoo.nn.weights import find_weights, load_weights
    from cnnzoo.training.devices import training_device
    from cnnzoo.training.predict import evaluate

    trained = None
    if folder := _folder_of_run(config):
        log.info("network and data as in %s/config.yaml", folder)
        trained, config = as_trained(config, folder)
    every_corruption = config.dataset.test is not None and parse(config.dataset.test)[0] is None
    if every_corruption:
        config = replace(config, dataset=replace(config.dataset, test=None))
    path = find_weights(config)
    model = build_model(config)
    load_weights(model, path, config_hash(trained) if trained else None)
    dataset = load_dataset(config.dataset, config.trusted_packages)
    device = training_device(config.trainer.accelerator)
    val, test, test_tta = evaluate(model, dataset, config, device)
    result: dict[str, Any] = {
        "model": config.name,
        "dataset": config.dataset.name,
        "val_accuracy": val.accuracy if val else None,
        "test_accuracy": test.accuracy,
        "val_loss": val.loss if val else None,
        "test_loss": test.loss,
    }
    if config.dataset.test is not None:
        result["test"] = config.dataset.test
    if test_tta:
        result |= {"test_accuracy_tta": test_tta.accuracy, "test_loss_tta": test_tta.loss}
    if every_corruption:
        accuracies = _corruption_accuracies(model, dataset, config, device)
        result["corruptions"] = accuracies
        result["corruption_accuracy"] = fmean(fmean(values) for values in accuracies.values())
    return result | {
        "params": count_parameters(model),
        "weights": str(path),
        "published": published_metrics(config),
    }


def _corruption_accuracies(
    model: "nn.Module", dataset: "Dataset", config: Config, device: "torch.device"
) -> dict[str, list[float]]:
    """Return the accuracy of `model`, which is on `device`, at each severity of each corruption."""
    from cnnzoo.data.corruptions import SEVERITIES
    from cnnzoo.data.dataset import corrupted_tests
    from cnnzoo.data.loaders import eval_loader
    from cnnzoo.training.predict import predict

    on_device = dataset.to(device)
    accuracies = {}
    for corruption, test in corrupted_tests(dataset, config.dataset):
        log.info("%s", corruption)
        found = predict(model, eval_loader(on_device, test.to(device), config))
        right = found.logits.argmax(dim=1) == found.labels
        accuracies[corruption] = right.view(SEVERITIES, -1).double().mean(dim=1).tolist()
    return accuracies


def _folder_of_run(config: Config) -> Path | None:
    """Return the run's folder that `config.weights` stands for, or in which it is a checkpoint."""
    if config.weights == "cnnzoo":
        from cnnzoo.nn.weights import recorded_run

        return recorded_run(config)
    path = Path(str(config.weights))
    if path.is_dir():
        return path
    folder = path.parent.parent
    return folder if path.parent.name == "checkpoints" and (folder / "config.yaml").is_file() else None


def as_trained(config: Config, folder: Path) -> tuple[Config, Config]:
    """Return the configuration of the run in `folder`, and `config` with its network, data and image size.

    Where images lie, and how they are loaded, depends on this machine and stays as in `config`. A folder of images is
    where it was for the run, or at a `dataset.root` that is typed.

    Raises:
        UserError: the folder is no run's, its images are not on this machine, or its targets are not trusted.
    """
    trained = received_config(folder, config.trusted_packages)
    root = None if config.dataset.root == config.paths.data else config.dataset.root
    here = relocated(trained, config.paths, root)
    images = here.dataset.source.get("root")
    if images is not None and not Path(images).is_dir():
        raise UserError(
            f"{folder}: the run's images lay in {images}, a folder that this machine does not have."
            " dataset.root=FOLDER is where they lie here."
        )
    dataset = replace(
        here.dataset,
        cache=config.dataset.cache or config.paths.data,
        resident=config.dataset.resident,
        workers=config.dataset.workers,
        test=config.dataset.test or here.dataset.test,
    )
    return trained, replace(
        config,
        name=trained.name,
        model=trained.model,
        dataset=dataset,
        image_size=trained.image_size,
        published=trained.published,
    )


if __name__ == "__main__":
    main()
