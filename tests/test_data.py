"""Splits, statistics and augmentation against torch, torchvision, PIL and published figures."""

import numpy as np
import pytest
import torch
import torchvision.transforms.v2.functional as TF
from PIL import Image
from scipy import stats
from torchvision.datasets import CIFAR10
from torchvision.transforms import RandomHorizontalFlip, RandomResizedCrop

from cnnzoo.data.augment import Augmentation, Crops, draw_crops, resample, whole_images
from cnnzoo.data.batches import Batches
from cnnzoo.data.dataset import channel_statistics, load_dataset, split_indices
from cnnzoo.data.sources import Images
from cnnzoo.errors import UserError

PUBLISHED = Augmentation(flip=0.5, scale=(0.8, 1.0), ratio=(0.9, 1.1))


def random_images(count: int, channels: int = 3, height: int = 32, width: int = 32) -> torch.Tensor:
    return torch.randint(0, 256, (count, channels, height, width), dtype=torch.uint8, generator=torch.manual_seed(0))


def crop(top: float, left: float, height: float, width: float, flip: bool = False) -> Crops:
    return Crops(*(torch.tensor([float(v)]) for v in (top, left, height, width)), torch.tensor([flip]))


# --- the data sets


def test_cifar10_is_the_published_one(config, cifar10):
    dataset = load_dataset(config("dataset=cifar10", f"paths.data={cifar10}")["dataset"])
    reference = CIFAR10(cifar10, train=True)
    # the tutorial's own split: torch.manual_seed(42), then random_split
    torch.manual_seed(42)
    train, val = torch.utils.data.random_split(range(50_000), [45_000, 5_000])
    assert torch.equal(dataset.train.labels, torch.tensor(reference.targets)[train.indices])
    pixels = torch.from_numpy(reference.data).permute(0, 3, 1, 2)
    assert torch.equal(dataset.val.images, pixels[val.indices])
    assert torch.equal(dataset.train.images[::97], pixels[train.indices][::97])
    assert len(dataset.test) == 10_000
    # published to eight digits
    np.testing.assert_allclose(dataset.mean, [0.49139968, 0.48215841, 0.44653091], atol=5e-9 + 3e-8)
    np.testing.assert_allclose(dataset.std, [0.24703223, 0.24348513, 0.26158784], atol=5e-9 + 3e-8)
    # the tutorial's check: a normalised batch has mean near 0 and standard deviation near 1
    images, _ = next(iter(Batches(dataset.train, dataset.mean, dataset.std, image_size=32, batch_size=4096)))
    assert images.mean(dim=(0, 2, 3)).abs().max() < 0.03
    assert (images.std(dim=(0, 2, 3)) - 1).abs().max() < 0.03


def test_the_published_split_needs_no_data():
    torch.manual_seed(42)
    train, val = torch.utils.data.random_split(range(50_000), [45_000, 5_000])
    ours = split_indices(50_000, 5_000, 42)
    assert ours[0].tolist() == list(train.indices)
    assert ours[1].tolist() == list(val.indices)


def test_digits_are_whole_disjoint_and_stratified(config):
    from sklearn.datasets import load_digits

    dataset = load_dataset(config("dataset=digits")["dataset"])
    assert (len(dataset.train), len(dataset.val), len(dataset.test)) == (1257, 180, 360)
    together = torch.cat([part.images for part in (dataset.train, dataset.val, dataset.test)])
    original = torch.as_tensor(np.rint(load_digits().images * 255 / 16).astype(np.uint8))
    assert sorted(map(bytes, together.flatten(1).numpy())) == sorted(map(bytes, original.flatten(1).numpy()))
    counts = torch.bincount(dataset.test.labels)
    assert counts.max() - counts.min() <= 2


def test_statistics_are_numpys():
    images = random_images(50) // 3
    mean, std = channel_statistics(Images(images, torch.zeros(len(images))))
    scaled = images.numpy() / 255.0
    np.testing.assert_allclose(mean, scaled.mean(axis=(0, 2, 3)), rtol=1e-6)
    np.testing.assert_allclose(std, scaled.std(axis=(0, 2, 3)), rtol=1e-6)


def test_grey_becomes_colour_and_colour_grey(config, cifar10):
    grey = load_dataset(config("dataset=digits", "dataset.channels=3")["dataset"])
    assert torch.equal(grey.test.images[:, 0], grey.test.images[:, 2])
    colour = load_dataset(config("dataset=cifar10", "dataset.channels=1")["dataset"])
    reference = np.asarray(CIFAR10(cifar10, train=False)[7][0].convert("L"), dtype=int)
    assert np.abs(colour.test.images[7, 0].numpy().astype(int) - reference).max() <= 1


def test_missing_data_say_where_and_what_to_do(config, tmp_path, monkeypatch):
    monkeypatch.setattr("socket.socket.connect", _no_network)
    with pytest.raises(UserError, match=r"CIFAR10 is missing or damaged in .*CNNZOO_DATA") as error:
        load_dataset(config("dataset=cifar10", f"paths.data={tmp_path}")["dataset"])
    assert str(tmp_path) in str(error.value)


def test_damaged_data_are_not_used(config, cifar10, tmp_path, monkeypatch):
    monkeypatch.setattr("socket.socket.connect", _no_network)
    (tmp_path / "cifar-10-batches-py").mkdir()
    for file in (cifar10 / "cifar-10-batches-py").iterdir():
        (tmp_path / "cifar-10-batches-py" / file.name).symlink_to(file)
    batch = tmp_path / "cifar-10-batches-py" / "data_batch_3"
    content = bytearray(batch.read_bytes())
    content[1000] ^= 1
    batch.unlink()
    batch.write_bytes(content)
    with pytest.raises(UserError, match="missing or damaged"):
        load_dataset(config("dataset=cifar10", f"paths.data={tmp_path}")["dataset"])


def _no_network(*args):
    raise OSError("no network in this test")


@pytest.mark.parametrize("override", ["dataset.num_classes=9", "dataset.val_size=2000", "dataset.channels=0"])
def test_a_section_that_does_not_fit_the_data(config, override):
    with pytest.raises(UserError, match=override.partition("=")[0]):
        load_dataset(config("dataset=digits", override)["dataset"])


# --- one crop, pixel by pixel


@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize(
    ("top", "left", "height", "width"), [(0, 0, 32, 32), (3, 1, 28, 30), (2, 0, 29, 32), (5, 4, 20, 25)]
)
def test_a_crop_is_torchvisions(top, left, height, width, flip):
    images = random_images(1)
    ours = resample(images, crop(top, left, height, width, flip), 32)
    reference = TF.resized_crop(images.float(), top, left, height, width, [32, 32], antialias=True)
    if flip:
        reference = TF.horizontal_flip(reference)
    torch.testing.assert_close(ours, reference, atol=1e-3, rtol=0)


@pytest.mark.parametrize("size", [14, 32, 40, 96])
def test_resizing_is_pils(size):
    """Up and down, to the rounding of PIL's two passes over whole numbers."""
    images = random_images(1, channels=1, height=32, width=28)
    ours = resample(images, crop(4, 2, 24, 20), size)[0, 0]
    image = Image.fromarray(images[0, 0].numpy()).crop((2, 4, 22, 28))
    reference = image.resize((size, size), Image.Resampling.BILINEAR)
    assert np.abs(ours.numpy() - np.asarray(reference, dtype=float)).max() <= 1.01


def test_a_whole_image_at_its_own_size_stays_as_it_is():
    images = random_images(5)
    torch.testing.assert_close(resample(images, whole_images(5, 32, 32), 32), images.float(), atol=1e-4, rtol=0)


def test_padding_is_black_and_shifts():
    images = random_images(1)
    ours = resample(images, crop(-4, 3, 32, 32), 32)
    reference = torch.zeros(1, 3, 32, 32)
    reference[:, :, 4:, :29] = images[:, :, :28, 3:].float()
    torch.testing.assert_close(ours, reference, atol=1e-4, rtol=0)


# --- the draws


def test_crops_are_distributed_as_torchvisions():
    count = 20_000
    ours = draw_crops(PUBLISHED, count, 32, 32, torch.Generator().manual_seed(1))
    torch.manual_seed(2)
    image = torch.zeros(3, 32, 32)
    theirs = np.array([RandomResizedCrop.get_params(image, [0.8, 1.0], [0.9, 1.1]) for _ in range(count)])
    top, left, height, width = (field.numpy() for field in (ours.top, ours.left, ours.height, ours.width))
    assert np.all((top >= 0) & (left >= 0) & (top + height <= 32) & (left + width <= 32))
    for name, a, b in (
        ("area", height * width, theirs[:, 2] * theirs[:, 3]),
        ("ratio", width / height, theirs[:, 3] / theirs[:, 2]),
        ("top", top, theirs[:, 0]),
        ("left", left, theirs[:, 1]),
    ):
        # All values are discrete: compare how often each occurs.
        values = np.union1d(a, b)
        table = np.array([[np.sum(np.isclose(sample, v)) for v in values] for sample in (a, b)])
        common = table.sum(axis=0) >= 20
        rest = table[:, ~common].sum(axis=1, keepdims=True)
        table = np.hstack([table[:, common], rest]) if rest.sum() else table[:, common]
        assert stats.chi2_contingency(table).pvalue > 1e-4, name


def test_a_crop_that_never_fits_falls_back_as_torchvisions():
    """A ratio that no box inside the image can have."""
    augmentation = Augmentation(scale=(1.0, 1.0), ratio=(3.0, 4.0))
    ours = draw_crops(augmentation, 50, 32, 32, torch.Generator().manual_seed(0))
    theirs = RandomResizedCrop.get_params(torch.zeros(3, 32, 32), [1.0, 1.0], [3.0, 4.0])
    assert {tuple(map(int, box)) for box in zip(ours.top, ours.left, ours.height, ours.width, strict=True)} == {theirs}


def test_half_of_the_images_are_flipped_each_on_its_own():
    flips = draw_crops(PUBLISHED, 10_000, 32, 32, torch.Generator().manual_seed(0)).flip
    assert stats.binomtest(int(flips.sum()), 10_000, RandomHorizontalFlip().p).pvalue > 1e-4
    changes = int((flips[1:] != flips[:-1]).sum())
    assert stats.binomtest(changes, 9_999, 0.5).pvalue > 1e-4


def test_padded_crops_reach_every_offset_equally():
    crops = draw_crops(Augmentation(padding=4), 9_000, 32, 32, torch.Generator().manual_seed(0))
    values, counts = np.unique(crops.top.numpy(), return_counts=True)
    assert values.tolist() == list(range(-4, 5))
    assert stats.chisquare(counts).pvalue > 1e-4


# --- batches


def batches(**kwargs) -> Batches:
    part = Images(random_images(300), torch.arange(300))
    defaults = {"image_size": 32, "batch_size": 64, "shuffle": True, "augmentation": PUBLISHED, "seed": 1, "epoch": 0}
    return Batches(part, torch.tensor([0.5] * 3), torch.tensor([0.25] * 3), **defaults | kwargs)


def flat(loader: Batches) -> tuple[torch.Tensor, torch.Tensor]:
    images, labels = zip(*loader, strict=True)
    return torch.cat(images), torch.cat(labels)


def test_seed_and_epoch_determine_an_epoch():
    images, labels = flat(batches())
    again, again_labels = flat(batches())
    assert torch.equal(images, again)
    assert torch.equal(labels, again_labels)
    assert sorted(labels.tolist()) == list(range(300))
    for other in ({"seed": 0}, {"epoch": 1}, {"seed": 0, "epoch": 1}):
        assert not torch.equal(labels, flat(batches(**other))[1])


def test_without_augmentation_batches_are_the_images_normalised():
    images, labels = flat(batches(shuffle=False, augmentation=None))
    assert labels.tolist() == list(range(300))
    torch.testing.assert_close(images, (random_images(300) / 255.0 - 0.5) / 0.25)


def test_the_last_incomplete_batch_is_dropped_on_request():
    assert [len(labels) for _, labels in batches()] == [64, 64, 64, 64, 44]
    assert [len(labels) for _, labels in batches(drop_last=True)] == [64] * 4
    assert len(batches(drop_last=True)) == 4


def test_processes_share_the_batches_of_one():
    whole = [set(labels.tolist()) for _, labels in batches()]
    shares = [[set(labels.tolist()) for _, labels in batches(rank=rank, world_size=2)] for rank in range(2)]
    assert [a | b for a, b in zip(*shares, strict=True)] == whole
    assert all(not a & b for a, b in zip(*shares, strict=True))


def test_channels_last_changes_the_layout_only():
    images, _ = next(iter(batches(channels_last=True)))
    assert images.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(images, next(iter(batches()))[0])
