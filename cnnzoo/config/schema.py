"""The configuration's types and ranges; its values are in `conf/`.

Hydra merges these dataclasses first (`config_schema` in a defaults list), so a wrong type or an unknown key is refused
while a configuration is composed, and everything after that receives a `Config` object. The open sections (`model`,
`optimizer`, `scheduler`, `loss`, `callbacks`, `logger`, `dataset.source`) hold the arguments of whatever their
`_target_` names; they are checked against its signature by `cnnzoo.config.instantiate`, when a run begins. Arguments
that mean the same under any `_target_` (`lr`, `milestones`, `dropout`) have their ranges here, so that they are refused
where they are typed.

Identity. A run's folder and hash follow from every field, except those marked `NOT_IDENTITY` and those that have their
default: a field with a default here is younger than the first results, and its default is what those were made with.
So a new option always gets a default, and older runs keep their hashes.
"""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from hydra.core.config_store import ConfigStore
from omegaconf import MISSING

from cnnzoo.config.ranges import (
    CALLBACKS,
    LOSS,
    MAX_SEED,
    MODEL,
    OPTIMIZER,
    SCHEDULER,
    SOURCE,
    at_least,
    check_arguments,
)
from cnnzoo.errors import UserError, nearest

NOT_IDENTITY: dict[str, Any] = {"identity": False}

PRECISIONS = ("auto", "32-true", "bf16-mixed", "16-mixed", "64-true")
COMPILE_MODES = ("default", "reduce-overhead", "max-autotune", "max-autotune-no-cudagraphs")
FLIP_MODES = ("random", "alternating")
PADDING_MODES = ("constant", "reflect")
TTA = ("none", "mirror", "mirror_translate")
ACCELERATORS = ("auto", "cpu", "cuda", "gpu")

MAX_SIDE = 8192  # pixels; one colour image of this size takes 800 MB in float32


# Hydra cannot merge unions, so fields that take several types are `Any` to it; the next functions check them.


def _number(key: str, value: Any) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise UserError(f"{key}={value}: expected a number.")


def _one_of(key: str, value: Any, choices: Sequence[str]) -> None:
    if value not in choices:
        raise UserError(f"{key}={value}: expected one of {', '.join(choices)}.{nearest(str(value), choices)}")


def _file_name(key: str, value: str, remedy: str) -> None:
    """Refuse what would lead out of the folder that it is a name in, or be hidden there; `a/b` is a name in `a`."""
    parts = str(value).split("/")
    if not all(part and part[0] != "." and part.isprintable() and len(part.encode()) <= 200 for part in parts):
        raise UserError(
            f"{key}={value!r}: expected a name for files: printable, of at most 200 bytes, no part of it empty or with"
            f" a leading dot.{remedy}"
        )


def _auto_or_bool(key: str, value: Any) -> None:
    if value != "auto" and not isinstance(value, bool):
        raise UserError(f"{key}={value}: expected auto, true or false.")


@dataclass
class PathsConfig:
    data: str = MISSING
    weights: str = MISSING
    outputs: str = MISSING

    def __post_init__(self) -> None:
        for each in fields(self):
            if not getattr(self, each.name).strip():
                raise UserError(f"paths.{each.name} is empty: expected a folder; `.` is the current one.")


@dataclass
class DatasetConfig:
    """Images and how they are split, normalised and batched.

    source: the function that reads them. It is also offered `root` and `cache`, if it has such arguments.
    root: where a standard set lies, or is downloaded to. It belongs to a run's identity only where `source` has a
        `root` of its own: then the folder is the data set.
    cache: folder in whose `.cache` decoded images are kept.
    val_size: number of images, or a share of them if below 1; 0: no validation.
    mean, std: one number a channel; null: computed from the training images.
    eval_batch_size: null: what suits the device.
    resident: keep the images in memory (true), read them batch by batch (false), or by the memory that is free (auto).
    workers: threads that read ahead when images are not in memory.
    path, config, image_column, label_column: of a source that has arguments of these names, where they are identity.
    test: another test split, such as `cifar10_c/fog/3`: see `cnnzoo.data.corruptions`.
    """

    name: str = MISSING
    source: dict[str, Any] = field(default=MISSING, metadata={"ranges": SOURCE})
    root: str | None = field(default=MISSING, metadata={"identity": lambda dataset: "root" in dataset.source})
    channels: int = MISSING
    num_classes: int = MISSING
    image_size: int = MISSING
    val_size: Any = MISSING
    split_seed: int = MISSING
    mean: list[float] | None = MISSING
    std: list[float] | None = MISSING
    batch_size: int = MISSING
    eval_batch_size: int | None = MISSING
    drop_last: bool = MISSING
    resident: Any = field(default=MISSING, metadata=NOT_IDENTITY)
    workers: int = field(default=MISSING, metadata=NOT_IDENTITY)
    cache: str | None = field(default=None, metadata=NOT_IDENTITY)
    path: str | None = field(default=None, metadata=NOT_IDENTITY)
    config: str | None = field(default=None, metadata=NOT_IDENTITY)
    image_column: str | None = field(default=None, metadata=NOT_IDENTITY)
    label_column: str | None = field(default=None, metadata=NOT_IDENTITY)
    test: str | None = None

    def __post_init__(self) -> None:
        _file_name("dataset.name", self.name, " dataset.name=NAME sets it.")
        for key in ("path", "config", "image_column", "label_column"):
            if getattr(self, key) is not None and key not in self.source:
                raise UserError(
                    f"dataset.{key}={getattr(self, key)}: the source of {self.name} has no {key}. Did you mean"
                    " dataset=huggingface?"
                )
        _number("dataset.val_size", self.val_size)
        for key, minimum, maximum in (
            ("batch_size", 1, math.inf),
            ("eval_batch_size", 1, math.inf),
            ("channels", 1, 1024),
            ("image_size", 1, MAX_SIDE),
            ("num_classes", 2, math.inf),
            ("workers", 0, 256),
            ("val_size", 0, math.inf),
            ("split_seed", 0, MAX_SEED),
        ):
            at_least(f"dataset.{key}", getattr(self, key), minimum, maximum)
        if self.val_size >= 1 and self.val_size != int(self.val_size):
            raise UserError(
                f"dataset.val_size={self.val_size}: expected a number of images, or a share of them below 1."
            )
        _auto_or_bool("dataset.resident", self.resident)
        for key, values in (("mean", self.mean), ("std", self.std)):
            if values is not None and len(values) != self.channels:
                raise UserError(
                    f"dataset.{key}={values}: expected one number for each of the {self.channels} channel(s)."
                )
            if values is not None and not all(map(math.isfinite, values)):
                raise UserError(f"dataset.{key}={values}: expected finite numbers.")
        in_bytes = "in units of 0..1, into which pixels are scaled. Divide statistics of pixels of 0..255 by 255."
        if self.mean is not None and not (min(self.mean) >= 0 and max(self.mean) <= 1):
            raise UserError(f"dataset.mean={self.mean}: expected numbers {in_bytes}")
        if self.std is not None and not (min(self.std) >= 1e-4 and max(self.std) <= 1):
            raise UserError(f"dataset.std={self.std}: expected positive numbers, at least 0.0001, {in_bytes}")
        _check_open_sections(self, "dataset.")


@dataclass
class AugmentationConfig:
    """What may happen to a training image.

    flip: probability of a horizontal flip.
    flip_mode: "random" draws anew each epoch; "alternating" draws once, and flips in every second epoch exactly those
        images that were not flipped in the epoch before (Jordan 2024, https://arxiv.org/abs/2404.00498).
    scale, ratio: random resized crop, as torchvision's RandomResizedCrop: bounds of the share of the area, and of
        width over height. None: no such crop.
    padding: random crop of the original size after padding by this many pixels on each side.
    padding_mode: of these pixels, as torchvision's: "constant" is black, "reflect" mirrors the image at its edge.
    brightness, contrast: bounds of a factor around 1, drawn for each image, as torchvision's ColorJitter; below 1.
    mixup, cutmix: α of the Beta distribution of the mixing ratio (Zhang et al. 2017, https://arxiv.org/abs/1710.09412;
        Yun et al. 2019, https://arxiv.org/abs/1905.04899); 0: none. With both, each batch draws one of them.
    """

    flip: float = MISSING
    scale: list[float] | None = MISSING
    ratio: list[float] | None = MISSING
    padding: int = MISSING
    flip_mode: str = "random"
    padding_mode: str = "constant"
    brightness: float = 0.0
    contrast: float = 0.0
    mixup: float = 0.0
    cutmix: float = 0.0

    def __post_init__(self) -> None:
        at_least("augmentation.flip", self.flip, 0, 1)
        at_least("augmentation.padding", self.padding, 0)
        at_least("augmentation.brightness", self.brightness, 0, 1)
        at_least("augmentation.contrast", self.contrast, 0, 1)
        at_least("augmentation.mixup", self.mixup, 0, 100)
        at_least("augmentation.cutmix", self.cutmix, 0, 100)
        _one_of("augmentation.flip_mode", self.flip_mode, FLIP_MODES)
        _one_of("augmentation.padding_mode", self.padding_mode, PADDING_MODES)
        for name, bounds in (("scale", self.scale), ("ratio", self.ratio)):
            if bounds is not None and not (len(bounds) == 2 and 0 < bounds[0] <= bounds[1] < math.inf):
                raise UserError(f"augmentation.{name}={bounds}: expected two positive numbers, the smaller one first.")
        if (self.scale is None) != (self.ratio is None):
            raise UserError("augmentation.scale and augmentation.ratio describe one crop: set both, or both to null.")
        if self.scale is not None and self.scale[1] > 1:
            raise UserError(f"augmentation.scale={self.scale}: a share of the image's area, at most 1.")
        if self.scale is not None and self.padding:
            raise UserError("augmentation.padding and augmentation.scale are two kinds of random crop: set one.")


@dataclass
class WarmupConfig:
    """A factor of the schedule's learning rates that rises from `start_factor` to 1 over the first `epochs`; 0: none.

    It rises linearly, step by step. The schedule itself begins with the training, so its length stays the same.
    """

    epochs: float = 0.0
    start_factor: float = 0.01

    def __post_init__(self) -> None:
        at_least("warmup.epochs", self.epochs, 0)
        at_least("warmup.start_factor", self.start_factor, 0, 1)


@dataclass
class TrainerConfig:
    """Lightning's Trainer. Flags that are not here go in through `extra`: `+trainer.extra.profiler=simple`.

    max_epochs: a fraction ends within an epoch.
    devices: auto, a number, or a list of indices.
    compile: torch.compile the network; auto: where the run is long enough to make up for the compilation.
    checkpoint_every_n_epochs: how often last.ckpt is written, from which an interrupted run resumes.
    limit_train_batches, limit_val_batches: batches of an epoch; null: all.
    plugins: Lightning plugins by name, each a `_target_`; one for the precision takes the place of `precision`.
    """

    max_epochs: Any = MISSING
    accelerator: str = MISSING
    devices: Any = MISSING
    strategy: str = MISSING
    precision: str = MISSING
    channels_last: bool = MISSING
    compile: Any = MISSING
    accumulate_grad_batches: int = MISSING
    gradient_clip_val: float | None = MISSING
    check_val_every_n_epoch: int = MISSING
    checkpoint_every_n_epochs: int = field(default=MISSING, metadata=NOT_IDENTITY)
    limit_train_batches: int | None = MISSING
    limit_val_batches: int | None = MISSING
    deterministic: bool = MISSING
    progress_bar: bool = field(default=MISSING, metadata=NOT_IDENTITY)
    compile_mode: str = "default"
    plugins: dict[str, Any] = field(default_factory=dict, metadata={"ranges": {}})
    extra: dict[str, Any] = field(default_factory=dict, metadata={"ranges": {}})

    def __post_init__(self) -> None:
        _number("trainer.max_epochs", self.max_epochs)
        at_least("trainer.max_epochs", self.max_epochs, 1, 10**6)
        for key in ("accumulate_grad_batches", "check_val_every_n_epoch", "limit_train_batches", "limit_val_batches"):
            at_least(f"trainer.{key}", getattr(self, key), 1)
        _one_of("trainer.accelerator", self.accelerator, ACCELERATORS)
        if not _are_devices(self.devices):
            raise UserError(
                f"trainer.devices={self.devices}: expected auto, a number of at least 1, or a list of different indices"
                " such as [0,1]."
            )
        if self.gradient_clip_val is not None and not 0 < self.gradient_clip_val < math.inf:
            raise UserError(f"trainer.gradient_clip_val={self.gradient_clip_val}: expected a positive number, or null.")
        _one_of("trainer.precision", self.precision, PRECISIONS)
        _auto_or_bool("trainer.compile", self.compile)
        _one_of("trainer.compile_mode", self.compile_mode, COMPILE_MODES)
        every = self.checkpoint_every_n_epochs
        if every < 1 or self.epochs % every:
            raise UserError(
                f"trainer.checkpoint_every_n_epochs={every}: expected a divisor of the {self.epochs} epochs, so that"
                " the last one is kept."
            )
        _check_open_sections(self, "trainer.")

    @property
    def epochs(self) -> int:
        """Number of epochs, the last of which may be cut short."""
        return math.ceil(float(self.max_epochs))


def _are_devices(value: Any) -> bool:
    if isinstance(value, list):
        indices = [item for item in value if isinstance(item, int) and not isinstance(item, bool) and item >= 0]
        return len(value) == len(set(indices)) > 0
    return value == "auto" or (isinstance(value, int) and not isinstance(value, bool) and value >= 1)


@dataclass
class PublishedWeightsConfig:
    """A published file: its place below `paths.weights`, where to download it from, and what it must be."""

    file: str = MISSING
    url: str = MISSING
    sha256: str = MISSING

    def __post_init__(self) -> None:
        _file_name("published.weights.file", self.file, " It lies below paths.weights.")
        if not self.url.startswith(("https://", "http://")):
            raise UserError(f"published.weights.url={self.url}: expected an address that begins with https://.")
        if not re.fullmatch("[0-9a-f]{64}", self.sha256):
            raise UserError(f"published.weights.sha256={self.sha256}: expected 64 hexadecimal digits, in lower case.")


@dataclass
class PublishedConfig:
    """Figures from the literature for one network on one data set: `model` and `dataset` are those choices."""

    model: str = MISSING
    dataset: str = MISSING
    source: str = MISSING
    test_accuracy: float | None = None
    val_accuracy: float | None = None
    params: int | None = None
    epochs: int | None = None
    weights: PublishedWeightsConfig | None = None

    def __post_init__(self) -> None:
        for key in ("test_accuracy", "val_accuracy"):
            at_least(f"published.{key}", getattr(self, key), 0, 1)
        for key in ("params", "epochs"):
            at_least(f"published.{key}", getattr(self, key), 0)


@dataclass
class Config:
    """What every command shares; `python -m cnnzoo.run` needs nothing more.

    name: the row's name in tables.
    image_size: side in pixels at which images enter the network.
    tta: test-time augmentation, for a second test accuracy next to the plain one.
    tta_confidence: only images whose most probable class has a lower probability get the augmented views; null: all.
    weights: weights to start from (fine-tuning), or to evaluate: a file, a run's folder, `published`,
        `cnnzoo` (our own training of a published network), `pretrained`.
    freeze: shell patterns of parameter names that are not trained, such as `blocks.*`.
    rerun: train again where a run of the same configuration exists.
    trusted_packages: packages whose functions may be a `_target_` without a return annotation, and which a run's folder
        may name. They count only where they are typed.
    """

    name: str | None = field(default=MISSING, metadata=NOT_IDENTITY)
    seed: int = MISSING
    image_size: int = MISSING
    rerun: bool = field(default=MISSING, metadata=NOT_IDENTITY)
    model: dict[str, Any] = field(default=MISSING, metadata={"ranges": MODEL})
    dataset: DatasetConfig = MISSING
    augmentation: AugmentationConfig = MISSING
    optimizer: dict[str, Any] = field(default=MISSING, metadata={"ranges": OPTIMIZER})
    scheduler: dict[str, Any] = field(default=MISSING, metadata={"ranges": SCHEDULER})
    # An open section's younger keys, which leave the identity alone while they have these values.
    loss: dict[str, Any] = field(
        default=MISSING,
        metadata={"defaults": {"_target_": "torch.nn.CrossEntropyLoss", "weight": None}, "ranges": LOSS},
    )
    trainer: TrainerConfig = MISSING
    logger: dict[str, Any] = field(default=MISSING, metadata=NOT_IDENTITY)
    # `checkpoint` is no callback of the user's, but how often a run writes one.
    callbacks: dict[str, Any] = field(default=MISSING, metadata={"ranges": CALLBACKS, "not_identity": ("checkpoint",)})
    paths: PathsConfig = field(default=MISSING, metadata=NOT_IDENTITY)
    published: PublishedConfig | None = field(default=MISSING, metadata=NOT_IDENTITY)
    tta: str = "none"
    tta_confidence: float | None = None
    weights: str | None = None
    freeze: list[str] = field(default_factory=list)
    warmup: WarmupConfig = field(default_factory=WarmupConfig)
    trusted_packages: list[str] = field(default_factory=list, metadata=NOT_IDENTITY)

    @property
    def checkpoint_minutes(self) -> float | None:
        """Minutes between checkpoints within an epoch; None: there are none."""
        minutes: float | None = self.callbacks.get("checkpoint", {}).get("minutes")
        return minutes

    def __post_init__(self) -> None:
        _check_open_sections(self)
        _file_name("name", "" if self.name is None else self.name, " name=NAME sets it.")
        at_least("seed", self.seed, 0, MAX_SEED)
        at_least("image_size", self.image_size, 1, MAX_SIDE)
        _one_of("tta", self.tta, TTA)
        if self.tta_confidence is not None:
            at_least("tta_confidence", self.tta_confidence, 0, 1)
        checkpoint = self.callbacks.get("checkpoint", {})
        if not isinstance(checkpoint, Mapping) or checkpoint.keys() - {"minutes"}:
            raise UserError(
                f"callbacks.checkpoint={checkpoint}: expected minutes=NUMBER and nothing else. A callback of your own"
                " needs another name."
            )
        if self.weights is not None and not str(self.weights).strip():
            raise UserError("weights is empty: expected a file, a run's folder, published, cnnzoo, pretrained or null.")
        if self.weights not in (None, "published", "cnnzoo", "pretrained"):
            self.weights = str(Path(str(self.weights)).expanduser().absolute())  # however it was spelled
        padding, size = self.augmentation.padding, self.dataset.image_size
        if padding >= size:
            raise UserError(
                f"augmentation.padding={padding}: an image of {size} pixels a side can be padded by {size - 1} at most;"
                " beyond that, crops would hold nothing of it."
            )
        every, epochs = self.trainer.check_val_every_n_epoch, self.trainer.epochs
        if self.dataset.val_size and every > epochs:
            raise UserError(
                f"trainer.check_val_every_n_epoch={every}: expected at most the {epochs} epochs of the run."
                " dataset.val_size=0 trains without validation."
            )
        if self.warmup.epochs > epochs:
            raise UserError(f"warmup.epochs={self.warmup.epochs}: expected at most the {epochs} epochs of the run.")


def _check_open_sections(config: Any, prefix: str = "") -> None:
    for each in fields(config):
        if (ranges := each.metadata.get("ranges")) is not None:
            check_arguments(prefix + each.name, getattr(config, each.name), ranges)


# What the other commands add.


@dataclass
class EvaluateConfig(Config):
    format: str = "table"


@dataclass
class SummaryConfig(Config):
    format: str = "table"


@dataclass
class FiguresConfig(Config):
    out: str = MISSING
    formats: list[str] = MISSING


@dataclass
class BenchConfig(Config):
    """What `python -m cnnzoo.bench` measures, and how; `conf/bench.yaml` explains each."""

    what: str = MISSING
    rounds: int = MISSING
    warmup_steps: int = MISSING
    steps: int = MISSING
    workers: int = MISSING
    contestants: list[str] | None = MISSING
    images: str = MISSING
    eval_images: int = MISSING
    eval_batch_sizes: list[int] = MISSING
    format: str = MISSING
    out: str | None = MISSING

    def __post_init__(self) -> None:
        super().__post_init__()
        _one_of("images", self.images, ("auto", "random"))
        _one_of("format", self.format, ("md", "json"))
        for key in ("rounds", "warmup_steps", "steps", "eval_images"):
            at_least(key, getattr(self, key), 1)
        at_least("workers", self.workers, 0)
        if not self.eval_batch_sizes or min(self.eval_batch_sizes) < 1:
            raise UserError(f"eval_batch_sizes={self.eval_batch_sizes}: expected a list of positive numbers.")


def register() -> None:
    """Make the types known to Hydra, under names that no other application uses."""
    store = ConfigStore.instance()
    for command, schema in (
        ("run", Config),
        ("evaluate", EvaluateConfig),
        ("summary", SummaryConfig),
        ("figures_data", FiguresConfig),
        ("figures_model", FiguresConfig),
        ("bench", BenchConfig),
    ):
        store.store(name=f"cnnzoo_{command}_schema", node=schema, provider="cnnzoo")
