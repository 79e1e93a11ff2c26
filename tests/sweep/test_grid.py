"""Which runs a command line asks for."""

import pytest
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.utils import create_config_search_path

from cnnzoo.config import CONF_DIR
from cnnzoo.errors import UserError
from cnnzoo.sweep.grid import choices, combinations


@pytest.fixture(scope="module")
def loader() -> ConfigLoaderImpl:
    return ConfigLoaderImpl(create_config_search_path(str(CONF_DIR)))


def test_every_combination(loader: ConfigLoaderImpl) -> None:
    found = combinations(["model=mlp", "seed=1,2", "optimizer.lr=0.1,0.2", "dataset.mean=[1,2]"], loader)
    assert found == [
        ("model=mlp", f"seed={seed}", f"optimizer.lr={lr}", "dataset.mean=[1,2]")
        for seed in (1, 2)
        for lr in (0.1, 0.2)
    ]


def test_last_override_of_a_key_holds(loader: ConfigLoaderImpl) -> None:
    assert combinations(["seed=1,2", "~model", "+a.b=x,y", "seed=3"], loader) == [
        ("seed=3", "~model", "+a.b=x"),
        ("seed=3", "~model", "+a.b=y"),
    ]


def test_globs_look_into_folders(loader: ConfigLoaderImpl) -> None:
    assert combinations(["experiment=glob(uvadlc/*)"], loader) == [
        ("experiment=uvadlc/densenet",),
        ("experiment=uvadlc/googlenet",),
        ("experiment=uvadlc/preact_resnet",),
        ("experiment=uvadlc/resnet",),
    ]
    assert combinations(["experiment=glob(*, exclude=[d2l/*, uvadlc/*])"], loader) == [
        (f"experiment={name}",) for name in choices("experiment", loader) if not name.startswith(("d2l/", "uvadlc/"))
    ]
    assert combinations(["experiment=glob(nowhere/*)"], loader) == []


def test_intervals_are_for_searches(loader: ConfigLoaderImpl) -> None:
    with pytest.raises(UserError, match="optuna"):
        combinations(["optimizer.lr=interval(0,1)"], loader)
