"""What only a CUDA device can show: make test-gpu."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from cnnzoo.config import Config, run_folder
from cnnzoo.config.schema import AugmentationConfig
from cnnzoo.data import memory
from cnnzoo.data.batches import BatchLoader
from cnnzoo.data.dataset import load_dataset
from cnnzoo.data.images import Images, PixelFile, Split, StreamedImages
from cnnzoo.evaluate import evaluate_weights
from cnnzoo.run import run

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device"),
]

Compose = Callable[..., Config]

AUGMENTATION = AugmentationConfig(flip=0.5, scale=[0.8, 1.0], ratio=[0.9, 1.1], padding=0)
DIGITS = ("dataset=digits", "logger=none", "trainer.devices=1")


def loader(split: Split, device: str, seed: int = 0, epoch: int = 0) -> BatchLoader:
    return BatchLoader(
        split,
        torch.full((3,), 0.5, device=device),
        torch.full((3,), 0.25, device=device),
        image_size=40,
        batch_size=32,
        shuffle=True,
        augmentation=AUGMENTATION,
        seed=seed,
        epoch=epoch,
    )


def random_images(count: int) -> Images:
    return Images(torch.randint(0, 256, (count, 3, 32, 32), dtype=torch.uint8), torch.arange(count))


def test_batches_on_the_gpu_are_those_of_the_cpu() -> None:
    split = random_images(100)
    on_both = [list(loader(split.to(device), device, seed=3, epoch=1)) for device in ("cpu", "cuda")]
    for (images, labels), (gpu_images, gpu_labels) in zip(*on_both, strict=True):
        assert gpu_images.device.type == "cuda"
        assert torch.equal(labels, gpu_labels.cpu())
        torch.testing.assert_close(gpu_images.cpu(), images, atol=1e-2, rtol=0)  # TF32 has ten bits of mantissa


def test_images_in_main_memory_or_in_a_file_give_the_same_batches(tmp_path: Path) -> None:
    split = random_images(1000)
    np.save(tmp_path / "pixels.npy", split.images.numpy())
    on_disk = StreamedImages(PixelFile(tmp_path / "pixels.npy"), split.labels, split.labels, workers=2)
    on_gpu, in_main_memory, in_a_file = (
        loader(each, "cuda") for each in (split.to("cuda"), split.streamed(workers=2).to("cuda"), on_disk.to("cuda"))
    )
    for wanted, *others in zip(on_gpu, in_main_memory, in_a_file, strict=True):
        for images, labels in others:
            assert images.device.type == labels.device.type == "cuda"
            assert torch.equal(images, wanted[0])
            assert torch.equal(labels, wanted[1])


def test_images_without_room_on_the_gpu_stay_in_main_memory(config: Compose, monkeypatch: pytest.MonkeyPatch) -> None:
    free = memory.free
    monkeypatch.setattr(memory, "free", lambda device=memory.CPU: 1000 if device.type == "cuda" else free(device))
    settings = config(*DIGITS, "model=mlp", "trainer.max_epochs=1")
    data = load_dataset(settings.dataset)
    assert isinstance(data.train, Images)
    assert isinstance(data.to("cuda").train, StreamedImages)
    streamed = run(settings)
    monkeypatch.undo()
    again = run(replace(settings, rerun=True))
    assert again["test_loss"] == pytest.approx(streamed["test_loss"], rel=1e-3)


@pytest.mark.parametrize(
    "overrides",
    [
        (),
        ("trainer=gpu",),
        ("trainer.precision=32-true", "callbacks=ema"),
        ("augmentation.mixup=0.2", "augmentation.cutmix=1.0", "loss.weight=balanced", "warmup.epochs=1"),
        ("freeze=[input_net.*]", "scheduler=plateau"),
    ],
    ids=["default", "compiled", "ema", "mixing", "freeze"],
)
def test_run_on_the_gpu(config: Compose, overrides: tuple[str, ...]) -> None:
    settings = ("model=resnet", "trainer.max_epochs=3", "optimizer.lr=0.01")
    result = run(config("dataset=digits", "logger=none", *settings, *overrides, "trainer.devices=1"))
    assert result["device"] == torch.cuda.get_device_name(0)
    assert result["test_accuracy"] > 0.4
    assert 0 < result["peak_memory_bytes"] < torch.cuda.get_device_properties(0).total_memory


def test_evaluated_run_has_the_metrics_of_its_record(config: Compose) -> None:
    settings = config(*DIGITS, "model=resnet", "trainer.max_epochs=1")
    result = run(settings)
    evaluated = evaluate_weights(config(f"weights={run_folder(settings)}", name="evaluate"))
    assert evaluated["test_accuracy"] == result["test_accuracy"]


@pytest.mark.parametrize(("network", "test_accuracy"), [("resnet", 0.9106), ("preact_resnet", 0.9107)])
def test_published_weights_on_the_gpu(
    config: Compose, cifar10: Path, published_weights: Path, network: str, test_accuracy: float
) -> None:
    settings = config(f"experiment=uvadlc/{network}", "weights=published", name="evaluate")
    # Convolutions in TF32 may turn one of 10,000 images that stand at the border between two classes.
    assert evaluate_weights(settings)["test_accuracy"] == pytest.approx(test_accuracy, abs=3e-4)
