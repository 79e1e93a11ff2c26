"""Random crops, flips and brightness of a whole batch at once, drawn for each image on its own, on any device.

Crop, resize, flip and zero-padding are all linear and separable: an output row is a weighted sum of input rows, an
output column one of input columns. So a batch is augmented by two batched matrix products, with a small matrix of
weights for each image and axis.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from cnnzoo.config.schema import AugmentationConfig
from cnnzoo.errors import UserError


@dataclass(frozen=True)
class Crops:
    """One crop an image, in pixels: `top`, `left`, `height`, `width`: `[N] float32`; `flip`: `[N] bool`.

    A crop may reach over the image's edge; there it is black.
    """

    top: Tensor
    left: Tensor
    height: Tensor
    width: Tensor
    flip: Tensor

    def __getitem__(self, index: slice) -> "Crops":
        return Crops(*(field[index] for field in self._fields()))

    def to(self, device: torch.device | str) -> "Crops":
        return Crops(*(field.to(device, non_blocking=True) for field in self._fields()))

    def _fields(self) -> tuple[Tensor, ...]:
        return self.top, self.left, self.height, self.width, self.flip


def draw_crops(
    augmentation: AugmentationConfig, count: int, height: int, width: int, generator: torch.Generator
) -> Crops:
    """Draw `count` crops of images of `height` × `width` pixels from a CPU generator.

    The distribution of the resized crop is that of `torchvision.transforms.RandomResizedCrop`: up to ten tries for a
    box that fits, else the largest central one whose ratio is within bounds.

    Raises:
        UserError: the images are padded by as much as their size.
    """

    def uniform(low: float, high: float) -> Tensor:
        return torch.rand((count, tries), generator=generator) * (high - low) + low

    def integers(below: Tensor) -> Tensor:
        """Uniform over 0 .. below - 1, each with a bound of its own."""
        return (torch.rand(len(below), generator=generator) * below).floor_().clamp_(max=below - 1)

    if augmentation.padding >= min(height, width):
        raise UserError(
            f"augmentation.padding={augmentation.padding}: the images have {height}×{width} pixels; expected less than"
            " their shorter side, or crops would hold nothing of them."
        )
    tries = 10
    flip = torch.rand(count, generator=generator) < augmentation.flip
    if augmentation.scale is not None:
        assert augmentation.ratio is not None
        area = height * width * uniform(*augmentation.scale)
        low, high = torch.tensor(augmentation.ratio).log().tolist()
        ratio = uniform(low, high).exp_()
        widths, heights = (area * ratio).sqrt_().round_(), (area / ratio).sqrt_().round_()
        fits = (widths > 0) & (widths <= width) & (heights > 0) & (heights <= height)
        first = fits.int().argmax(dim=1, keepdim=True)  # the first that fits, 0 where none does
        fallback_height, fallback_width = _central_crop(augmentation.ratio, height, width)
        any_fits = fits.any(dim=1)
        crop_height = torch.where(any_fits, heights.gather(1, first)[:, 0], fallback_height)
        crop_width = torch.where(any_fits, widths.gather(1, first)[:, 0], fallback_width)
        top = torch.where(any_fits, integers(height - crop_height + 1), (height - crop_height).div(2).floor())
        left = torch.where(any_fits, integers(width - crop_width + 1), (width - crop_width).div(2).floor())
    else:
        crop_height, crop_width = torch.full((count,), float(height)), torch.full((count,), float(width))
        top, left = torch.zeros(count), torch.zeros(count)
        if augmentation.padding:
            offsets = torch.full((count,), 2.0 * augmentation.padding + 1)
            top, left = integers(offsets) - augmentation.padding, integers(offsets) - augmentation.padding
    return Crops(top, left, crop_height, crop_width, flip)


def alternating_flips(probability: float, count: int, epoch: int, generator: torch.Generator) -> Tensor:
    """Which of `count` images are flipped in an epoch, `[N] bool`; `generator` must have the same state every epoch."""
    first = torch.rand(count, generator=generator) < probability
    return first if epoch % 2 == 0 else ~first


def _central_crop(ratio: Sequence[float], height: int, width: int) -> tuple[float, float]:
    in_ratio = width / height
    if in_ratio < ratio[0]:
        return float(round(width / ratio[0])), float(width)
    if in_ratio > ratio[1]:
        return float(height), float(round(height * ratio[1]))
    return float(height), float(width)


def full_image_crops(count: int, height: int, width: int) -> Crops:
    """The crops that contain each image as a whole."""
    zeros = torch.zeros(count)
    return Crops(zeros, zeros, zeros + height, zeros + width, torch.zeros(count, dtype=torch.bool))


def crop_reflect(images: Tensor, crops: Crops) -> Tensor:
    """Crops of the images' own size, mirrored where they reach over an edge: `[N, C, H, W] uint8`.

    One gather suffices, because a shift by whole pixels needs no arithmetic. The result is channels-last in memory.
    """
    height, width = images.shape[2:]
    rows = _mirrored(crops.top, height)
    columns = _mirrored(crops.left, width)
    columns = torch.where(crops.flip[:, None], columns.flip(1), columns)
    index = torch.arange(len(images), device=images.device)
    return images[index[:, None, None], :, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)


def _mirrored(start: Tensor, pixels: int) -> Tensor:
    """Input pixels of a crop that begins at `start`: `[N, pixels] int64`; the edge itself is not repeated."""
    position = start.long()[:, None] + torch.arange(pixels, device=start.device)
    return (pixels - 1) - ((pixels - 1) - position.abs()).abs()


def crop_and_resize(images: Tensor, crops: Crops, size: int) -> Tensor:
    """Resize each image's crop: `[N, C, H, W] uint8` to `[N, C, size, size] float32`, values 0..255.

    Bilinear, with antialiasing where it shrinks, as PIL resizes (pixels outside the crop never count).
    """
    count, channels, height, width = images.shape
    rows = _weights(crops.top, crops.height, height, size, None)
    columns = _weights(crops.left, crops.width, width, size, crops.flip)
    wide = torch.bmm(images.to(torch.float32).reshape(count, channels * height, width), columns.transpose(1, 2))
    return torch.matmul(rows[:, None], wide.view(count, channels, height, size))


def draw_jitter(augmentation: AugmentationConfig, count: int, generator: torch.Generator) -> Tensor:
    """Draw factors of brightness and contrast for `count` images: `[N, 2] float32`, uniform around 1."""
    spread = torch.tensor([augmentation.brightness, augmentation.contrast])
    return 1 + spread * (2 * torch.rand((count, 2), generator=generator) - 1)


def jitter(images: Tensor, factors: Tensor) -> Tensor:
    """Multiply each image's brightness, then its contrast, as torchvision's `ColorJitter` does.

    Args:
        images: `[N, C, H, W] float32`, values 0..255.
        factors: `[N, 2]`; contrast is the distance to the mean of the grey image.
    """
    brightness, contrast = factors.to(images.device).T[:, :, None, None, None]
    images = (images * brightness).clamp_(0, 255)
    grey = images.mean(dim=(2, 3), keepdim=True)
    luma = torch.tensor([0.2989, 0.587, 0.114] if images.shape[1] == 3 else [1 / images.shape[1]] * images.shape[1])
    grey = (grey * luma.to(images.device).view(1, -1, 1, 1)).sum(dim=1, keepdim=True)
    return torch.lerp(grey, images, contrast).clamp_(0, 255)


def _weights(start: Tensor, length: Tensor, pixels: int, size: int, flip: Tensor | None) -> Tensor:
    """The weight of each of `pixels` input pixels in each of `size` output pixels: `[N, size, pixels]`.

    A triangle of half-width max(1, length / size) around the output pixel's centre, cut off at the crop's borders and
    normalised: the coefficients of PIL's bilinear filter.
    """
    device = start.device
    output = torch.arange(size, device=device, dtype=torch.float32) + 0.5
    position = torch.arange(pixels, device=device, dtype=torch.float32) + 0.5
    scale = (length / size)[:, None]
    centre = (
        start[:, None] + (torch.where(flip[:, None], size - output, output) if flip is not None else output) * scale
    )
    inside = (position > start[:, None]) & (position < (start + length)[:, None])
    weights = (position - centre[:, :, None]).abs_().div_(-scale.clamp(min=1)[:, :, None]).add_(1).clamp_(min=0)
    weights *= inside[:, None, :]
    return weights / weights.sum(dim=2, keepdim=True).clamp_(min=1e-6)  # a black row of padding stays zero
