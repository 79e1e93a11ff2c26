"""Settings reach Lightning's Trainer, and those that cannot be met are refused."""

import os
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from lightning_fabric.plugins.environments.lightning import LightningEnvironment
from lightning_fabric.plugins.environments.slurm import SLURMEnvironment
from pytorch_lightning.plugins import AsyncCheckpointIO, MixedPrecision
from pytorch_lightning.profilers import AdvancedProfiler, SimpleProfiler

from cnnzoo.config import Config
from cnnzoo.console import _EXPECTED_WARNINGS
from cnnzoo.errors import UserError
from cnnzoo.training.checkpoints import AtomicCheckpointIO
from cnnzoo.training.trainer import build_trainer

Train = Callable[..., Any]


@pytest.fixture
def build(tiny: Callable[..., Config], tmp_path: Path) -> Callable[..., pl.Trainer]:
    def make(*overrides: str, validates: bool = True) -> pl.Trainer:
        return build_trainer(
            tiny(*overrides),
            tmp_path,
            device=torch.device("cpu"),
            precision="32-true",
            validates=validates,
            callbacks=[],
            loggers=[],
        )

    return make


def test_typed_flags(build: Callable[..., pl.Trainer], tmp_path: Path) -> None:
    trainer = build(
        "trainer.max_epochs=2.5",
        "trainer.checkpoint_every_n_epochs=3",
        "trainer.accumulate_grad_batches=2",
        "trainer.gradient_clip_val=0.5",
        "trainer.check_val_every_n_epoch=2",
        "trainer.limit_train_batches=3",
    )
    assert (trainer.max_epochs, trainer.accumulate_grad_batches, trainer.gradient_clip_val) == (3, 2, 0.5)
    assert (trainer.check_val_every_n_epoch, trainer.limit_train_batches, trainer.limit_val_batches) == (2, 3, 1.0)
    assert isinstance(trainer.strategy.checkpoint_io, AtomicCheckpointIO)
    assert trainer.default_root_dir == str(tmp_path)
    assert trainer.precision == "32-true"
    assert build(validates=False).limit_val_batches == 0


def profiler_of(trainer: pl.Trainer) -> object:
    return trainer.profiler  # type: ignore[attr-defined]


def test_extra_flags(build: Callable[..., pl.Trainer]) -> None:
    trainer = build(
        "+trainer.extra.gradient_clip_algorithm=value",
        "+trainer.extra.profiler=simple",
        "+trainer.extra.detect_anomaly=true",
        "+trainer.extra.num_sanity_val_steps=2",
    )
    assert trainer.gradient_clip_algorithm == "value"
    assert isinstance(profiler_of(trainer), SimpleProfiler)
    assert trainer._detect_anomaly
    assert trainer.num_sanity_val_steps == 2
    profiled = build("+trainer.extra.profiler={_target_: pytorch_lightning.profilers.AdvancedProfiler, filename: p}")
    assert isinstance(profiler_of(profiled), AdvancedProfiler)


def test_plugins_replace_the_own_ones(build: Callable[..., pl.Trainer]) -> None:
    precision = "{_target_: pytorch_lightning.plugins.MixedPrecision, precision: bf16-mixed, device: cpu}"
    trainer = build(f"+trainer.plugins.precision={precision}")
    assert isinstance(trainer.strategy.precision_plugin, MixedPrecision)
    assert isinstance(trainer.strategy.checkpoint_io, AtomicCheckpointIO)
    trainer = build("+trainer.plugins.io._target_=pytorch_lightning.plugins.AsyncCheckpointIO")
    assert isinstance(trainer.strategy.checkpoint_io, AsyncCheckpointIO)


def test_training_with_extra_flags(train: Train) -> None:
    result = train(
        "+trainer.extra.overfit_batches=2",
        "+trainer.extra.profiler={_target_: pytorch_lightning.profilers.SimpleProfiler, filename: profile}",
    )
    assert [row["step"] for row in result.results] == [2, 4]
    assert "run_training_batch" in (result.folder / "fit-profile.txt").read_text()


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["+trainer.extra.profilr=simple"], ["trainer.extra.profilr", "'profiler'"]),
        (["+trainer.extra.profiler=simpel"], ["trainer:", "'simple'"]),
        (["+trainer.extra.max_epochs=3"], ["trainer.extra.max_epochs", "Set trainer.max_epochs"]),
        (["+trainer.extra.max_steps=3"], ["trainer.extra.max_steps", "trainer.max_epochs"]),
        (["+trainer.extra.logger=false"], ["trainer.extra.logger", "Set logger"]),
        (["+trainer.extra.fast_dev_run=true"], ["fast_dev_run", "limit_train_batches"]),
        (["+trainer.extra.profiler={_target_: torch.nn.Linear}"], ["torch.nn.Linear", "Profiler"]),
        (["+trainer.plugins.mine._target_=torch.nn.Linear"], ["trainer.plugins.mine", "torch.nn.Linear", "Precision"]),
        (["trainer.devices=0"], ["trainer.devices=0", "at least 1"]),
        (["trainer.devices=[0,1]"], ["trainer.devices=[0, 1]", "auto or a number of processes"]),
        (["trainer.strategy=dpp"], ["trainer:", "dpp"]),
    ],
)
def test_mistakes_are_named(overrides: list[str], words: list[str], build: Callable[..., pl.Trainer]) -> None:
    with pytest.raises(UserError) as error:
        build(*overrides)
    for word in words:
        assert word in str(error.value)


@pytest.mark.parametrize(
    ("devices", "variables", "expected"),
    [
        (1, {"SUBMITIT_EXECUTOR": "slurm"}, LightningEnvironment),
        (2, {"SUBMITIT_EXECUTOR": "slurm"}, LightningEnvironment),
        (2, {}, LightningEnvironment),
        (1, {}, SLURMEnvironment),  # a job script of one's own: Lightning requeues it
        (2, {"SLURM_NTASKS": "2", "SLURM_NTASKS_PER_NODE": "2"}, SLURMEnvironment),  # srun has started both
    ],
)
def test_one_process_of_slurm_starts_the_others(
    devices: int,
    variables: dict[str, str],
    expected: type,
    build: Callable[..., pl.Trainer],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    variables = {"SLURM_NTASKS": "1", "SLURM_JOB_NAME": "x"} | variables
    for name in ("SLURM_PROCID", "SLURM_LOCALID", "SLURM_NODEID"):
        monkeypatch.setenv(name, "0")
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    trainer = build(f"trainer.devices={devices}", "trainer.strategy=ddp")
    assert isinstance(trainer._accelerator_connector.cluster_environment, expected)


def test_no_advice_to_prepend_srun(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "srun").write_text("#!/bin/sh\n")
    (tmp_path / "srun").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    monkeypatch.delenv("SLURM_NTASKS", raising=False)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(UserWarning, match="srun"):
            SLURMEnvironment.detect()
        for pattern in _EXPECTED_WARNINGS:
            warnings.filterwarnings("ignore", pattern)
        SLURMEnvironment.detect()
