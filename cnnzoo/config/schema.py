"""The types of the configuration's closed sections; their values live in `conf/`.

Hydra merges these first (the entry `schema` in a defaults list), so a wrong type or an unknown key is refused while a
configuration is composed. The open sections (`model`, `optimizer`, `scheduler`, `callbacks`, `dataset.source`) hold
the arguments of whatever their `_target_` names and are checked against it (`cnnzoo.config.check`).
"""

from dataclasses import dataclass
from typing import Any

from hydra.core.config_store import ConfigStore
from omegaconf import MISSING, OmegaConf


@dataclass
class Paths:
    data: str = MISSING
    weights: str = MISSING
    outputs: str = MISSING


@dataclass
class Dataset:
    name: str = MISSING
    source: dict[str, Any] = MISSING
    root: str = MISSING
    channels: int = MISSING
    num_classes: int = MISSING
    image_size: int = MISSING
    val_size: Any = MISSING  # a number of images, or a share of them below 1; 0: no validation
    split_seed: int = MISSING
    mean: list[float] | None = None
    std: list[float] | None = None
    batch_size: int = MISSING
    eval_batch_size: int | None = None
    drop_last: bool = MISSING
    resident: Any = MISSING  # auto, true or false
    workers: int = MISSING


@dataclass
class Augmentation:
    flip: float = MISSING
    flip_mode: str = MISSING
    scale: list[float] | None = None
    ratio: list[float] | None = None
    padding: int = MISSING
    padding_mode: str = MISSING


@dataclass
class Loss:
    label_smoothing: float = MISSING


@dataclass
class Trainer:
    max_epochs: Any = MISSING  # a whole number, or one with a fraction
    accelerator: str = MISSING
    devices: Any = MISSING  # auto, a number, or a list of indices
    strategy: str = MISSING
    precision: str = MISSING
    channels_last: bool = MISSING
    compile: Any = MISSING  # auto, true or false
    compile_mode: str = MISSING
    accumulate_grad_batches: int = MISSING
    gradient_clip_val: float | None = None
    check_val_every_n_epoch: int = MISSING
    checkpoint_every_n_epochs: int = MISSING
    limit_train_batches: int | None = None
    limit_val_batches: int | None = None
    deterministic: bool = MISSING
    progress_bar: bool = MISSING


@dataclass
class Logger:
    tensorboard: bool = MISSING
    graph: bool = MISSING


@dataclass
class PublishedWeights:
    file: str = MISSING
    url: str = MISSING
    sha256: str = MISSING


@dataclass
class Published:
    model: str = MISSING  # choices that the figures belong to
    dataset: str = MISSING
    source: str = MISSING
    test_accuracy: float | None = None
    val_accuracy: float | None = None
    params: int | None = None
    epochs: int | None = None
    weights: PublishedWeights | None = None


@dataclass
class Root:
    """Every top-level key that the commands share; a command's own keys are in its own YAML."""

    name: str | None = MISSING
    seed: int = MISSING
    image_size: int = MISSING
    tta: str = MISSING
    rerun: bool = MISSING
    model: dict[str, Any] = MISSING
    dataset: Dataset = MISSING
    augmentation: Augmentation = MISSING
    optimizer: dict[str, Any] = MISSING
    scheduler: dict[str, Any] = MISSING
    loss: Loss = MISSING
    trainer: Trainer = MISSING
    logger: Logger = MISSING
    callbacks: dict[str, Any] = MISSING
    paths: Paths = MISSING
    published: Published | None = MISSING


# What the commands add. Each is merged over a whole configuration, so nothing here may have a value.


@dataclass
class Evaluate(Root):
    """`cnnzoo.evaluate`"""

    weights: str | None = MISSING
    format: str = MISSING


@dataclass
class Summary(Root):
    """`cnnzoo.summary`"""

    format: str = MISSING


@dataclass
class Bench(Root):
    """`cnnzoo.bench`"""

    format: str = MISSING
    what: str = MISSING
    rounds: int = MISSING
    warmup: int = MISSING
    steps: int = MISSING
    workers: int = MISSING
    contestants: list[str] | None = MISSING
    images: str = MISSING
    eval_images: int = MISSING
    eval_batch_sizes: list[int] = MISSING
    parallel: list[int] = MISSING
    image_sizes: list[int] = MISSING
    dataset_sizes: list[int] = MISSING
    sweep_sizes: list[int] = MISSING
    out: str | None = MISSING


@dataclass
class FiguresData(Root):
    """`cnnzoo.figures data`"""

    out: str = MISSING
    formats: list[str] = MISSING


def register() -> None:
    """Makes the types known to Hydra: `schema` for every command, `<command>_schema` for what one of them adds."""
    store = ConfigStore.instance()
    store.store(name="schema", node=OmegaConf.structured(Root))
    for name, node in (
        ("evaluate", Evaluate), ("summary", Summary), ("bench", Bench), ("figures_data", FiguresData),
    ):  # fmt: skip
        store.store(name=f"{name}_schema", node=OmegaConf.structured(node))
