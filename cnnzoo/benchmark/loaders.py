"""The alternatives' way to augmented batches: torchvision transforms, image by image, in DataLoader workers."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from PIL import Image
from torch.utils.data import DataLoader, RandomSampler
from torch.utils.data import Dataset as TorchDataset
from torchvision import transforms
from torchvision.datasets import ImageFolder
from torchvision.transforms import v2

from cnnzoo.data.dataset import Dataset
from cnnzoo.data.images import Part

PREFETCH = 2  # batches that a worker keeps ready: DataLoader's own default


class Transformed(TorchDataset):
    """Images, `as_item` first, then `transform`, with their labels."""

    def __init__(self, part: Part, as_item: Callable[[Any], Any], transform: Callable[[Any], Any]) -> None:
        images = part.resident().images.cpu()
        self.images = images if as_item is torch.as_tensor else images.permute(0, 2, 3, 1).contiguous().numpy()
        self.labels = part.labels.tolist()
        self.as_item, self.transform = as_item, transform

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Any, int]:
        return self.transform(self.as_item(self.images[index])), self.labels[index]


def pil_loader(dataset: Dataset, config: Mapping[str, Any], batches: int, pin_memory: bool = False) -> DataLoader:
    """The tutorial's: PIL images, torchvision's first generation of transforms."""
    to_pixels = [transforms.ToTensor(), transforms.Normalize(dataset.mean.tolist(), dataset.std.tolist())]
    transform = transforms.Compose([*augmentation(transforms, dataset, config), *to_pixels])
    return loader(Transformed(dataset.train, _as_pil, transform), config, batches, pin_memory)


def v2_loader(dataset: Dataset, config: Mapping[str, Any], batches: int) -> DataLoader:
    """Second-generation transforms on uint8 tensors, as torchvision recommends for speed."""
    to_pixels = [v2.ToDtype(torch.float32, scale=True), v2.Normalize(dataset.mean.tolist(), dataset.std.tolist())]
    transform = v2.Compose([*augmentation(v2, dataset, config), *to_pixels])
    return loader(Transformed(dataset.train, torch.as_tensor, transform), config, batches)


def _as_pil(pixels: Any) -> Image.Image:
    return Image.fromarray(pixels.squeeze(2) if pixels.shape[2] == 1 else pixels)


def augmentation(module: Any, dataset: Dataset, config: Mapping[str, Any]) -> list[Any]:
    """The configuration's augmentation in the words of torchvision's `module` of transforms."""
    settings, size = config["augmentation"], config["image_size"]
    steps = []
    if settings["flip"]:
        steps.append(module.RandomHorizontalFlip(settings["flip"]))
    if settings["padding"]:
        size_before = dataset.train.shape[-2:]
        steps.append(module.RandomCrop(size_before, padding=settings["padding"], padding_mode=settings["padding_mode"]))
    if settings["scale"] is not None:
        steps.append(module.RandomResizedCrop((size, size), scale=settings["scale"], ratio=settings["ratio"]))
    elif tuple(dataset.train.shape[-2:]) != (size, size):
        steps.append(module.Resize((size, size)))
    return steps


def loader(
    data: Transformed | ImageFolder, config: Mapping[str, Any], batches: int, pin_memory: bool = False
) -> DataLoader:
    """Shuffled epochs cut after `batches`; the workers live on, for their start is not to count."""
    workers, size = config["workers"], config["dataset"]["batch_size"]
    return DataLoader(
        data,
        batch_size=size,
        sampler=RandomSampler(data, num_samples=batches * size),
        num_workers=workers,
        persistent_workers=workers > 0,
        prefetch_factor=PREFETCH if workers else None,
        pin_memory=pin_memory,
        drop_last=True,
    )
