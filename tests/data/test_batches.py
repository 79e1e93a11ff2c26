"""One epoch of batches: order, augmentation, sharing among processes."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from cnnzoo.config.schema import AugmentationConfig
from cnnzoo.data.augment import draw_crops
from cnnzoo.data.batches import BatchLoader, epoch_generator
from cnnzoo.data.images import Images

PUBLISHED = AugmentationConfig(flip=0.5, scale=[0.8, 1.0], ratio=[0.9, 1.1], padding=0)
Loader = Callable[..., BatchLoader]


@pytest.fixture
def loader(random_images: Callable[..., Tensor]) -> Loader:
    """300 images of which each is its own class, shuffled and augmented unless told otherwise."""
    split = Images(random_images(300), torch.arange(300))
    defaults: dict[str, Any] = {"image_size": 32, "batch_size": 64, "shuffle": True, "seed": 1, "epoch": 0}
    defaults |= {"augmentation": PUBLISHED}
    return lambda **options: BatchLoader(
        split, torch.tensor([0.5] * 3), torch.tensor([0.25] * 3), **(defaults | options)
    )


def whole(loader: BatchLoader) -> tuple[Tensor, Tensor]:
    images, labels = zip(*loader, strict=True)
    return torch.cat(images), torch.cat(labels)


def test_seed_and_epoch_determine_an_epoch(loader: Loader) -> None:
    images, labels = whole(loader())
    again, again_labels = whole(loader())
    assert torch.equal(images, again)
    assert torch.equal(labels, again_labels)
    assert sorted(labels.tolist()) == list(range(300))
    for other in ({"seed": 0}, {"epoch": 1}, {"seed": 0, "epoch": 1}):
        assert not torch.equal(labels, whole(loader(**other))[1])


def test_without_augmentation_images_are_only_normalised(loader: Loader, random_images: Callable[..., Tensor]) -> None:
    images, labels = whole(loader(shuffle=False, augmentation=None))
    assert labels.tolist() == list(range(300))
    torch.testing.assert_close(images, (random_images(300) / 255.0 - 0.5) / 0.25)


def test_mixing_alone_draws_no_crops(loader: Loader) -> None:
    """mixup and cutmix mix whole batches, in the training step."""
    mixing = AugmentationConfig(flip=0, scale=None, ratio=None, padding=0, mixup=1.0, cutmix=1.0)
    assert torch.equal(whole(loader(augmentation=mixing))[0], whole(loader(augmentation=None))[0])


def test_jitter_leaves_order_and_crops_alone(loader: Loader) -> None:
    """Images change, each by factors of its own: those of a batch are not one multiple of what they were."""
    jittered = AugmentationConfig(flip=0.5, scale=[0.8, 1.0], ratio=[0.9, 1.1], padding=0, brightness=0.3)
    (before, labels), (after, same_labels) = whole(loader()), whole(loader(augmentation=jittered))
    assert torch.equal(labels, same_labels)
    factors = (0.25 * after + 0.5).mean(dim=(1, 2, 3)) / (0.25 * before + 0.5).mean(dim=(1, 2, 3))  # in units of 0..1
    assert 0.65 < factors.min() < 0.8
    assert 1.1 < factors.max() < 1.35  # bright pixels are cut off at 1
    torch.testing.assert_close(whole(loader(augmentation=jittered))[0], after)


def test_drop_last_and_limit(loader: Loader) -> None:
    assert [len(labels) for _, labels in loader()] == [64, 64, 64, 64, 44]
    assert [len(labels) for _, labels in loader(drop_last=True)] == [64] * 4
    assert len(loader(drop_last=True)) == 4
    assert [len(labels) for _, labels in loader(limit=2)] == [64, 64]
    assert len(loader(limit=2)) == 2


def test_processes_share_the_batches_of_one(loader: Loader) -> None:
    batches = [set(labels.tolist()) for _, labels in loader()]
    shares = [[set(labels.tolist()) for _, labels in loader(rank=rank, world_size=2)] for rank in range(2)]
    assert [a | b for a, b in zip(*shares, strict=True)] == batches
    assert all(not a & b for a, b in zip(*shares, strict=True))


def test_channels_last_changes_the_layout_only(loader: Loader) -> None:
    images, _ = next(iter(loader(channels_last=True)))
    assert images.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(images, next(iter(loader()))[0])


# --- alternating flips and reflected shifts


def flipped(epoch: int, seed: int = 3, **options: Any) -> dict[int, bool]:
    """Which image was flipped in an epoch, by label; an image's pixels grow from left to right."""
    images = torch.arange(8, dtype=torch.uint8).expand(64, 1, 8, 8).contiguous()
    loader = BatchLoader(
        Images(images, torch.arange(64)),
        torch.zeros(1),
        torch.ones(1),
        image_size=8,
        batch_size=16,
        shuffle=True,
        augmentation=AugmentationConfig(flip=0.5, flip_mode="alternating", scale=None, ratio=None, padding=0),
        seed=seed,
        epoch=epoch,
        **options,
    )
    return {
        int(label): bool(image[0, 0, 0] > image[0, 0, -1]) for x, y in loader for image, label in zip(x, y, strict=True)
    }


def test_alternating_flips_every_image_in_every_second_epoch() -> None:
    first, second, third, fourth = (flipped(epoch) for epoch in range(4))
    assert first == third
    assert second == fourth == {label: not flip for label, flip in first.items()}
    assert 16 < sum(first.values()) < 48
    assert flipped(0, seed=4) != first


def test_processes_alternate_together() -> None:
    shares = [flipped(1, rank=rank, world_size=2) for rank in range(2)]
    assert shares[0] | shares[1] == flipped(1)


REFLECT = AugmentationConfig(flip=0, scale=None, ratio=None, padding=2, padding_mode="reflect")


def test_reflected_shifts_reach_every_offset() -> None:
    """One bright pixel in the middle shows the shift; the mirrored border never reaches it."""
    images = torch.zeros(2000, 1, 9, 9, dtype=torch.uint8)
    images[:, 0, 4, 4] = 255
    split = Images(images, torch.zeros(2000, dtype=torch.int64))
    loader = BatchLoader(
        split,
        torch.zeros(1),
        torch.ones(1),
        image_size=9,
        batch_size=2000,
        augmentation=REFLECT,
        channels_last=True,
    )
    x, _ = next(iter(loader))
    assert x.is_contiguous(memory_format=torch.channels_last)
    places, counts = np.unique(x.flatten(1).argmax(1), return_counts=True)
    assert places.tolist() == [9 * row + column for row in range(2, 7) for column in range(2, 7)]
    assert counts.min() > 40  # 80 expected


def test_reflected_shift_and_resizing(random_images: Callable[..., Tensor]) -> None:
    images = random_images(20)
    loader = BatchLoader(
        Images(images, torch.arange(20)),
        torch.zeros(3),
        torch.full((3,), 1 / 255),
        image_size=40,
        batch_size=20,
        augmentation=REFLECT,
    )
    crops = draw_crops(REFLECT, 20, 32, 32, epoch_generator(0, 0))
    padded = F.pad(images.float(), (2, 2, 2, 2), mode="reflect")
    shifted = [
        image[:, 2 + top : 34 + top, 2 + left : 34 + left]
        for image, top, left in zip(padded, crops.top.int().tolist(), crops.left.int().tolist(), strict=True)
    ]
    reference = F.interpolate(torch.stack(shifted), (40, 40), mode="bilinear", antialias=True)
    torch.testing.assert_close(next(iter(loader))[0], reference, atol=1e-3, rtol=0)


# --- another device


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")
def test_gpu_batches_equal_those_of_the_cpu(random_images: Callable[..., Tensor]) -> None:
    split = Images(random_images(100), torch.arange(100))
    mean, std = torch.full((3,), 0.5), torch.full((3,), 0.25)
    on_cpu, on_gpu = (
        BatchLoader(
            split.to(device),
            mean.to(device),
            std.to(device),
            image_size=40,
            batch_size=32,
            shuffle=True,
            augmentation=PUBLISHED,
            seed=3,
            epoch=1,
        )
        for device in ("cpu", "cuda")
    )
    for (images, labels), (gpu_images, gpu_labels) in zip(on_cpu, on_gpu, strict=True):
        assert gpu_images.device.type == "cuda"
        assert torch.equal(labels, gpu_labels.cpu())
        torch.testing.assert_close(gpu_images.cpu(), images, atol=1e-2, rtol=0)  # TF32 has ten bits of mantissa
