"""The benchmark: what it computes from its measurements, that contestants do what they are timed for, the command."""

import dataclasses
import json
import runpy
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from cnnzoo import bench
from cnnzoo.benchmark import augmentation, batch_size, evaluation, loading, parallel, scaling, startup, training
from cnnzoo.benchmark.dataset import images_of, random_dataset
from cnnzoo.benchmark.loaders import pil_loader, v2_loader
from cnnzoo.benchmark.measure import Turn, in_fresh_process, run_python, section, take_turns
from cnnzoo.benchmark.roofline import CountBytes
from cnnzoo.data.dataset import Dataset
from cnnzoo.data.module import train_batches
from cnnzoo.errors import UserError

CPU = torch.device("cpu")
SMALL = (
    *("dataset=digits", "image_size=8", "dataset.batch_size=4", "model.blocks_per_group=[1,1,1]"),
    *("model.widths=[4,4,4]", "rounds=2", "warmup=1", "steps=2", "workers=0", "trainer=cpu", "logger=none"),
)
Config = Callable[..., dict]


@pytest.fixture
def small(config: Config) -> dict:
    return config(*SMALL, name="bench")


@pytest.fixture(scope="module")
def dataset() -> Dataset:
    return random_dataset({"channels": 1, "image_size": 8, "num_classes": 10}, train=40, test=8)


def test_ratios_are_paired_round_by_round() -> None:
    result = section("images/s", {"ours": [10.0, 20.0, 60.0], "theirs": [5.0, 20.0, 20.0]}, "ours")
    assert result["contestants"]["ours"] == {"median": 20, "min": 10, "max": 60, "rounds": [10, 20, 60]}
    # 10/5, 20/20, 60/20: their median is 2, though the medians of both sides are equal
    assert result["ratios"] == {"theirs": {"median": 2, "min": 1, "max": 3, "rounds": [2, 1, 3]}}
    assert "ratios" not in section("images/s", {"theirs": [5.0]}, "ours")


def test_everybody_warms_up_and_begins_a_round_in_turn() -> None:
    order: list[str] = []
    turns = take_turns({name: lambda name=name: order.append(name) or len(order) for name in "abc"}, rounds=2)
    assert "".join(order) == "abcbcacab"
    assert turns == {"a": [1, 6, 8], "b": [2, 4, 9], "c": [3, 5, 7]}


def test_stopwatch_times_the_steps_after_the_warm_up(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([100.0, 103.0, 104.0, 110.0])  # the epoch begins, first step done, second, fifth
    monkeypatch.setattr(training.Stopwatch, "_now", staticmethod(lambda module: next(clock)))
    stopwatch = training.Stopwatch(warmup=2, steps=3)
    stopwatch.on_train_epoch_start(None, None)
    for batch_index in range(7):
        stopwatch.on_train_batch_end(None, None, None, None, batch_index)
    turn = stopwatch.turn(batch_size=4)
    assert turn == Turn(images=12, seconds=6.0, first_step=3.0)
    assert turn.rate == 2


COMPILED = ("cnnzoo_compiled", "bare_compiled")


@pytest.mark.parametrize("name", [name for name in training.makers(CPU) if name not in COMPILED])
def test_contestants_train(name: str, small: dict, dataset: Dataset) -> None:
    contestant = training.makers(CPU)[name](small, dataset, CPU)
    before = [p.detach().clone() for p in contestant.model.parameters()]
    torch.testing.assert_close(before, list(training.makers(CPU)["bare_fp32"](small, dataset, CPU).model.parameters()))
    turn = contestant()
    assert turn.images == 8
    assert turn.seconds > 0
    assert turn.first_step > 0
    assert all(not torch.equal(a, b) for a, b in zip(before, contestant.model.parameters(), strict=True))


@pytest.mark.slow
def test_compiled_contestants_train(small: dict, dataset: Dataset) -> None:
    for name in COMPILED:
        test_contestants_train(name, small, dataset)


def test_a_turn_is_part_of_one_epoch(config: Config, dataset: Dataset) -> None:
    settings = config(*SMALL, "steps=10", name="bench")
    with pytest.raises(UserError, match="only 10 batches"):
        training.Cnnzoo(settings, dataset, CPU)


@pytest.mark.parametrize("make", [pil_loader, v2_loader])
def test_the_alternatives_give_the_same_images_where_nothing_is_random(make, small: dict, dataset: Dataset) -> None:
    labels_of = {
        tuple(image.flatten().tolist()): int(label)
        for image, label in zip(dataset.train.images, dataset.train.labels, strict=True)
    }
    batches = list(make(dataset, small, 3))
    assert [x.shape for x, _ in batches] == [(4, 1, 8, 8)] * 3
    for images, labels in batches:
        pixels = (images * 0.25 + 0.5) * 255  # mean and standard deviation of the random data undone
        torch.testing.assert_close(pixels, pixels.round(), rtol=0, atol=1e-3)
        assert [labels_of[tuple(x.round().flatten().tolist())] for x in pixels] == labels.tolist()


@pytest.mark.parametrize("make", [pil_loader, v2_loader])
def test_the_alternatives_augment(make, config: Config) -> None:
    settings = config("dataset=cifar10", "dataset.batch_size=4", "workers=0", name="bench")
    one = random_dataset({"channels": 3, "image_size": 32, "num_classes": 10}, train=1, test=1)
    images = torch.cat([x for x, _ in make(one, settings, 2)])
    assert images.shape == (8, 3, 32, 32)
    assert len(images.unique(dim=0)) > 4


def test_augmentation_alone(small: dict, dataset: Dataset) -> None:
    result = augmentation.measure({**small, "workers": 1}, dataset, CPU)
    assert list(result["contestants"]) == ["cnnzoo", "PIL in workers", "v2 in workers"]
    assert all(len(entry["rounds"]) == 2 and entry["min"] > 0 for entry in result["contestants"].values())
    assert set(result["ratios"]) == {"PIL in workers", "v2 in workers"}


def test_loading_alone(small: dict, dataset: Dataset) -> None:
    part = loading.measure({**small, "workers": 1}, dataset, CPU)
    files = [f"file, {n} threads" for n in (0, 1, 2, 4)]
    assert list(part["contestants"]) == ["memory", *files, "file, 1 processes", "ImageFolder, 1 processes"]
    assert min(entry["min"] for entry in part["contestants"].values()) > 0


def test_loaders_give_the_same_images(small: dict, dataset: Dataset, tmp_path: Path) -> None:
    part = loading.write(dataset, tmp_path, small, 12)
    mapped = loading.MappedImages(part.store, part.rows, part.labels, workers=1)
    ours, theirs = (train_batches(dataclasses.replace(dataset, train=p), small) for p in (part, mapped))
    for (x, y), (x_, y_) in zip(ours, theirs, strict=True):
        assert torch.equal(x, x_)
        assert torch.equal(y, y_)
    files = loading.jpeg_loader(dataclasses.replace(dataset, train=part), tmp_path / "jpeg", small, 3)
    images = [sorted(torch.cat([x for x, _ in batches]).flatten(1).tolist()) for batches in (ours, files)]
    np.testing.assert_allclose(*images, atol=1e-6)


def test_batch_sizes_double_until_memory_ends(config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    def fake(task: str, question: dict) -> dict:
        size = question["dataset"]["batch_size"]
        if size > 100:
            raise UserError("out of memory")
        return {"rate": 10.0 * size, "peak_memory_bytes": size * 2**20}

    monkeypatch.setattr(batch_size, "in_fresh_process", fake)
    settings = config(*SMALL, name="bench")
    result = batch_size.measure(settings, CPU)
    assert list(result["contestants"]) == ["16", "32", "64"]
    assert result["largest"] == 64
    monkeypatch.setattr(batch_size, "memory_free", lambda device: 40 * 2**20)
    assert batch_size.measure(settings, CPU)["largest"] == 32  # 64 would take more than there is
    figures = batch_size.one_size({**settings, "steps": 2, "dataset": {**settings["dataset"], "batch_size": 8}})
    assert figures["rate"] > 0
    assert figures["peak_memory_bytes"] > 50e6


def test_evaluation_alone(config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def here(task: str, question: dict, environment: dict | None) -> dict:
        asked.append((question["mallopt"], environment))
        return evaluation.sweep({**question, "mallopt": []})

    monkeypatch.setattr(evaluation, "in_fresh_process", here)
    settings = config(*SMALL, "eval_images=8", "eval_batch_sizes=[3,128]", "rounds=1", name="bench")
    result = evaluation.measure(settings, CPU)
    assert result["reference"] == "default 128"
    assert set(result["contestants"]) == {f"{name} {size}" for name in evaluation.ALLOCATORS for size in (3, 128)}
    assert {"median", "page_faults_per_image", "system_time_share"} <= result["contestants"]["no_mmap 3"].keys()
    assert ([], {"THP_MEM_ALLOC_ENABLE": "1"}) in asked


def test_the_c_library_takes_the_allocator_settings() -> None:
    code = "import ctypes; print(all(ctypes.CDLL(None).mallopt(p, v) for p, v in {}))"
    for settings in evaluation.ALLOCATORS.values():
        assert run_python(["-c", code.format(settings.get("mallopt", []))]).strip() == "True"


def test_bytes_are_those_of_inputs_and_outputs() -> None:
    a, b = torch.ones(10), torch.ones(10)
    with CountBytes() as counter:
        c = a.view(2, 5) + b.view(2, 5)  # reads 2 × 40 bytes, writes 40
    assert counter.total == 120
    with CountBytes() as counter:
        c.t()[:1].detach()
    assert counter.total == 0


def test_a_process_of_its_own() -> None:
    assert in_fresh_process("json:dumps", [1, 2]) == "[1, 2]"
    with pytest.raises(UserError, match="ZeroDivisionError"):
        run_python(["-c", "1 / 0"])


def test_peak_memory(small: dict) -> None:
    peak = training.one_peak({"config": small, "name": "bare_fp32"})
    assert 50 * 2**20 < peak < 8 * 2**30  # torch alone is more than 50 MiB


def test_startup_measures_what_cnnzoo_run_does(monkeypatch: pytest.MonkeyPatch) -> None:
    ran: list[str] = []
    monkeypatch.setattr(startup, "run_python", lambda arguments: ran.append(" ".join(arguments)) or "")
    result = startup.measure(bench.of_run(["model=resnet", "what=startup", "rounds=1", "out=x", "+extra.steps=3"]), 1)
    assert result["reference"] == "import torch"
    assert "-m cnnzoo.run model=resnet +extra.steps=3 --cfg job" in ran
    assert startup.FIRST_STEP in result["contestants"]


def test_exit_after_the_first_step(cnnzoo: Callable) -> None:
    callback = "+callbacks.exit._target_=cnnzoo.benchmark.startup.ExitAfterFirstStep"
    run = cnnzoo("run", *(o for o in bench.of_run(SMALL)), callback)
    assert run.returncode == 0, run.stderr
    assert "epoch 1" not in run.stderr


def test_random_images_where_the_data_cannot_be_had(config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = config(*SMALL, "dataset.val_size=2000", name="bench")  # more than there are: refused
    data, which = images_of(settings)
    assert which == "random"
    assert data.train.images.shape[1:] == (1, settings["dataset"]["image_size"], settings["dataset"]["image_size"])
    assert images_of(config(*SMALL, name="bench"))[1] == "dataset"
    assert images_of(config(*SMALL, "images=random", name="bench"))[1] == "random"


def test_command(cnnzoo: Callable, tmp_path: Path) -> None:
    run = cnnzoo("bench", *SMALL, "contestants=[cnnzoo,tutorial,bare_bf16]", "format=json", "out=sub/result.json")
    assert run.returncode == 0, run.stderr
    result = json.loads(run.stdout)
    assert result == json.loads((tmp_path / "sub" / "result.json").read_text())
    assert {"device", "threads", "versions", "command", "git_commit", "rounds", "steps", "images"} <= result.keys()
    part = result["sections"]["training"]
    assert all(len(part["contestants"][name]["rounds"]) == 2 for name in ("cnnzoo", "tutorial", "bare_bf16"))
    ours, theirs = (part["contestants"][name]["rounds"] for name in ("cnnzoo", "tutorial"))
    assert part["ratios"]["tutorial"]["rounds"] == pytest.approx([a / b for a, b in zip(ours, theirs, strict=True)])
    assert part["best_bare"] == "bare_bf16"
    assert part["roofline"]["fp32_bytes_per_image"] > part["roofline"]["bf16_bytes_per_image"] > 0
    table = bench.markdown(result)
    assert "| tutorial " in table
    assert result["command"] in table


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("what=trainning", "Did you mean 'training'"),
        ("format=jsn", "Did you mean 'json'"),
        ("images=none", "auto, random"),
        ("rounds=0", "rounds=0: expected at least 1"),
        ("steps=0", "steps=0"),
        ("warmup=0", "warmup=0"),
        ("workers=-1", "workers=-1"),
        ("eval_batch_sizes=[]", "eval_batch_sizes"),
    ],
)
def test_bad_values(override: str, message: str, config: Config) -> None:
    with pytest.raises(UserError, match=message.replace("[", r"\[")):
        bench.check(config(override, name="bench"))


def test_unknown_contestants(small: dict) -> None:
    with pytest.raises(UserError, match="Did you mean 'tutorial'"):
        training.chosen({**small, "contestants": ["tutorail"]}, CPU)
    with pytest.raises(UserError, match="null for all"):
        training.chosen({**small, "contestants": []}, CPU)


def test_a_loss_beyond_noise() -> None:
    script = Path(__file__).resolve().parents[1] / "benchmarks" / "compare_commits.py"
    guard = SimpleNamespace(**runpy.run_path(str(script)))
    assert guard.is_loss([0.8, 0.85, 0.89, 1.1])
    assert not guard.is_loss([0.8, 0.85, 0.95, 1.1])
    assert not guard.is_loss([0.91, 0.92, 0.93])


def test_runs_at_once_and_growth_are_measured(tmp_path: Path, small: dict) -> None:
    """Small, through the functions that the command calls; figures are plausible, not asserted to be fast."""
    config = {**small, "parallel": [1, 2], "image_sizes": [8, 16], "dataset_sizes": [64, 4096], "sweep_sizes": [1, 30]}
    together = parallel.measure(config, CPU)
    assert list(together["contestants"]) == ["1", "2"]
    assert together["contestants"]["1"]["gain"] == 1
    assert all(rate > 0 for entry in together["contestants"].values() for rate in entry["rounds"])
    sizes = scaling.dataset_sizes(config)["contestants"]
    held = {n: e["peak_memory_mib"] - e["without_images_mib"] for n, e in sizes.items()}
    pixels = config["dataset"]["channels"] * config["dataset"]["image_size"] ** 2
    assert held == {"64": 64 * pixels / 2**20, "4096": 4096 * pixels / 2**20}
    skipped = scaling.sweep_sizes(config, [*SMALL[:5], "logger=none"])
    assert skipped["seconds_per_skipped_run"] > 0


def test_a_run_that_fails_beside_others_says_why(small: dict) -> None:
    config = {**small, "parallel": [1], "optimizer": {"_target_": "torch.optim.SGD", "lr": -1}}
    with pytest.raises(UserError, match="Invalid learning rate"):
        parallel.measure(config, CPU)
