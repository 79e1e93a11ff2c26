"""The files in a run's folder."""

from pathlib import Path

import pytest
import yaml

from cnnzoo.config import compose, identity
from cnnzoo.results.run_folder import read_config, write_config


@pytest.mark.parametrize(
    "overrides",
    [[], ["model=densenet", "optimizer=adam"], ["dataset=digits", "tta=mirror", "warmup.epochs=2", "paths.data=/x/y"]],
)
def test_identity_of_a_config_file_is_the_runs(overrides: list[str], tmp_path: Path) -> None:
    config = compose(overrides)
    write_config(tmp_path, config)
    assert identity(read_config(tmp_path)) == identity(config)


def test_identity_of_a_config_file_of_the_first_version(tmp_path: Path) -> None:
    """Where a standard data set lies was written in two places then."""
    config = {
        "name": "resnet",
        "seed": 1,
        "rerun": False,
        "tta": "none",
        "model": {"_target_": "ResNet"},
        "dataset": {
            "name": "cifar10",
            "source": {"_target_": "cnnzoo.data.sources.torchvision_set", "name": "CIFAR10", "root": "/data"},
            "root": "/data",
            "resident": "auto",
            "workers": 2,
        },
        "augmentation": {"flip": 0.5, "flip_mode": "random", "padding_mode": "reflect"},
        "loss": {"label_smoothing": 0.1},
        "trainer": {"max_epochs": 3, "compile_mode": "default", "progress_bar": True, "checkpoint_every_n_epochs": 1},
        "logger": {"tensorboard": True},
        "paths": {"data": "/data", "weights": "w", "outputs": "o"},
        "published": {"model": "resnet"},
    }
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(config))
    assert identity(read_config(tmp_path)) == {
        "seed": 1,
        "model": {"_target_": "ResNet"},
        "dataset": {
            "name": "cifar10",
            "source": {"_target_": "cnnzoo.data.sources.torchvision_set", "name": "CIFAR10"},
        },
        "augmentation": {"flip": 0.5, "padding_mode": "reflect"},
        "loss": {"label_smoothing": 0.1},
        "trainer": {"max_epochs": 3},
    }


def test_identity_of_a_config_file_with_a_source_of_ones_own(tmp_path: Path) -> None:
    """The folder of its images is part of the identity, also if it is `paths.data`."""
    config = compose(
        ["dataset.source._target_=mine.images", "+dataset.source.root=/data", "dataset.root=/data", "paths.data=/data"]
    )
    write_config(tmp_path, config)
    assert identity(read_config(tmp_path)) == identity(config)
    assert identity(config)["dataset"]["root"] == "/data"
