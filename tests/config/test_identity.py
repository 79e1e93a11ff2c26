"""Which runs are the same run."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from cnnzoo.config import Config, config_hash, identity, run_folder
from cnnzoo.errors import UserError

Compose = Callable[..., Config]

# Hashes and names that version 0.1.0 gave, whose runs are still found.
SCHEMA_1 = json.loads(Path(__file__).with_name("schema1_hashes.json").read_text())


def test_hashes_of_schema_1(config: Compose) -> None:
    found = [[overrides, (cfg := config(*overrides)).name, config_hash(cfg)] for overrides, *_ in SCHEMA_1]
    assert found == SCHEMA_1


def test_same_configuration_is_the_same_run(config: Compose, tmp_path: Path) -> None:
    one = config("model=densenet")
    same = config("model=densenet", f"paths.data={tmp_path}", "logger=none", "trainer.progress_bar=false", "rerun=true")
    assert config_hash(one) == config_hash(same)
    assert run_folder(one) == run_folder(same)
    json.dumps(identity(one))  # plain values only


@pytest.mark.parametrize("spelling", ["mnist", "MNIST", "./mnist/", "/data/sets", "ü b", "28"])
@pytest.mark.parametrize("dataset", ["mnist", "digits", "cifar10"])
def test_hash_does_not_depend_on_the_data_folder(
    spelling: str, dataset: str, config: Compose, monkeypatch: pytest.MonkeyPatch
) -> None:
    usual = config_hash(config(f"dataset={dataset}"))
    monkeypatch.setenv("CNNZOO_DATA", spelling)
    assert config_hash(config(f"dataset={dataset}")) == usual
    assert config_hash(config(f"dataset={dataset}", "dataset.root=/elsewhere")) == usual


def test_image_folders_differ_by_their_root(config: Compose, tmp_path: Path) -> None:
    """The folder is the data set, also where `paths.data` is the same folder."""
    hashes = set()
    for parent in "ab":
        root = tmp_path / parent / "pets"
        for name in ("cat", "dog"):
            (root / name).mkdir(parents=True)
        for data in (root, tmp_path):
            hashes.add(
                (parent, config_hash(config("dataset=image_folder", f"dataset.root={root}", f"paths.data={data}")))
            )
    assert len(hashes) == 2
    assert len({digest for _, digest in hashes}) == 2


CHANGES = [
    "seed=0",
    "optimizer.lr=0.01",
    "trainer.max_epochs=3",
    "dataset.split_seed=1",
    "augmentation=none",
    "augmentation.mixup=0.2",
    "trainer.precision=32-true",
    "callbacks=ema",
    "loss.label_smoothing=0.1",
    "loss.weight=balanced",
    "model.growth_rate=12",
    "warmup.epochs=5",
    "tta=mirror",
    "weights=some.ckpt",
    "freeze=[stem.*]",
    "+trainer.extra.overfit_batches=1",
]


@pytest.mark.parametrize("override", CHANGES)
def test_what_changes_the_result_changes_the_run(config: Compose, override: str) -> None:
    assert run_folder(config("model=densenet")) != run_folder(config("model=densenet", override))


def test_how_often_a_checkpoint_is_written_is_no_identity(config: Compose) -> None:
    hashes = {config_hash(config(f"callbacks.checkpoint.minutes={each}")) for each in (1, 10, "null")}
    assert hashes == {config_hash(config("callbacks=none"))}
    assert config_hash(config("callbacks=ema")) not in hashes
    with pytest.raises(UserError, match="expected minutes=NUMBER and nothing else"):
        config("+callbacks.checkpoint._target_=mine.Callback")
    with pytest.raises(UserError, match=r"callbacks\.checkpoint\.minutes=-1: expected at least 0"):
        config("callbacks.checkpoint.minutes=-1")
