"""What only a CUDA device can show: make test-gpu."""

import numpy as np
import pytest
import torch

from cnnzoo.data import memory
from cnnzoo.data.augment import Augmentation
from cnnzoo.data.batches import Batches
from cnnzoo.data.dataset import load_dataset
from cnnzoo.data.images import Images, PixelFile, StreamedImages
from cnnzoo.evaluate import evaluate_weights
from cnnzoo.results.record import run_folder
from cnnzoo.run import run

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device"),
]


def test_batches_on_the_gpu_are_those_of_the_cpu():
    part = Images(torch.randint(0, 256, (100, 3, 32, 32), dtype=torch.uint8), torch.arange(100))
    mean, std = torch.full((3,), 0.5), torch.full((3,), 0.25)
    augmentation = Augmentation(flip=0.5, scale=(0.8, 1.0), ratio=(0.9, 1.1))
    on_both = [
        list(
            Batches(
                part.to(device), mean.to(device), std.to(device), image_size=40, batch_size=32, shuffle=True,
                augmentation=augmentation, seed=3, epoch=1,
            )
        )
        for device in ("cpu", "cuda")
    ]  # fmt: skip
    for (images, labels), (gpu_images, gpu_labels) in zip(*on_both, strict=True):
        assert gpu_images.device.type == "cuda"
        assert torch.equal(labels, gpu_labels.cpu())
        torch.testing.assert_close(gpu_images.cpu(), images, atol=1e-2, rtol=0)  # TF32 has ten bits of mantissa


def test_images_that_stay_in_main_memory_or_in_a_file_give_the_same_batches(tmp_path):
    pixels = torch.randint(0, 256, (1000, 3, 32, 32), dtype=torch.uint8)
    np.save(tmp_path / "pixels.npy", pixels.numpy())
    part = Images(pixels, torch.arange(1000))
    mean, std = torch.full((3,), 0.5, device="cuda"), torch.full((3,), 0.25, device="cuda")
    resident, in_main_memory, in_a_file = (
        Batches(
            part, mean, std, image_size=40, batch_size=32, shuffle=True,
            augmentation=Augmentation(flip=0.5, scale=(0.8, 1.0), ratio=(0.9, 1.1)),
        )
        for part in (
            part.to("cuda"),
            part.streamed(workers=2).to("cuda"),
            StreamedImages(PixelFile(tmp_path / "pixels.npy"), part.labels, part.labels, workers=2).to("cuda"),
        )
    )  # fmt: skip
    for wanted, *others in zip(resident, in_main_memory, in_a_file, strict=True):
        for images, labels in others:
            assert images.device.type == labels.device.type == "cuda"
            assert torch.equal(images, wanted[0])
            assert torch.equal(labels, wanted[1])


def test_what_leaves_no_room_on_the_gpu_stays_in_main_memory(config, monkeypatch):
    free = memory.free
    monkeypatch.setattr(memory, "free", lambda device=memory.CPU: 1000 if device.type == "cuda" else free(device))
    settings = config("dataset=digits", "model=mlp", "trainer.max_epochs=1", "logger=none", "trainer.devices=1")
    data = load_dataset(settings["dataset"])
    assert isinstance(data.train, Images)
    assert isinstance(data.to("cuda").train, StreamedImages)
    streamed = run(settings, "")
    monkeypatch.undo()
    assert run({**settings, "rerun": True}, "")["test_loss"] == pytest.approx(streamed["test_loss"], rel=1e-3)


@pytest.mark.parametrize("overrides", [(), ("trainer=gpu",), ("trainer.precision=32-true", "callbacks=ema")])
def test_a_run_on_the_gpu(config, overrides):
    result = run(
        config("dataset=digits", "model=resnet", "trainer.max_epochs=3", "logger=none", "optimizer.lr=0.01",
               *overrides, "trainer.devices=1"), "",
    )  # fmt: skip
    assert result["device"] == torch.cuda.get_device_name(0)
    assert result["test_accuracy"] > 0.5
    assert 0 < result["peak_memory_bytes"] < torch.cuda.get_device_properties(0).total_memory


def test_an_evaluated_run_has_the_figures_of_its_record(config):
    settings = config("dataset=digits", "model=resnet", "trainer.max_epochs=1", "logger=none", "trainer.devices=1")
    result = run(settings, "")
    evaluated = evaluate_weights({**config(name="evaluate"), "weights": str(run_folder(settings))})
    assert evaluated["test_accuracy"] == result["test_accuracy"]


@pytest.mark.parametrize(("network", "test_accuracy"), [("resnet", 0.9106), ("preact_resnet", 0.9107)])
def test_the_published_weights_on_the_gpu(config, cifar10, published_weights, network, test_accuracy):
    settings = config(f"experiment=uvadlc/{network}", "weights=published", name="evaluate")
    # Convolutions in TF32 may turn one of 10,000 images that stand at the border between two classes.
    assert evaluate_weights(settings)["test_accuracy"] == pytest.approx(test_accuracy, abs=3e-4)
