"""The network of "94% on CIFAR-10 in 3.29 Seconds on a Single GPU": Jordan 2024, https://arxiv.org/abs/2404.00498.

A frozen 2×2 convolution whitens the image's patches; three blocks of two 3×3 convolutions follow, initialised as
identities as far as their widths allow. The last pooling is over the whole map, which is the paper's 3×3 for images of
32×32, so that other sizes work too.
"""

from collections.abc import Iterable, Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from cnnzoo.nn.layers import check_image_size, conv3x3


def patch_covariance(batches: Iterable[Tensor], kernel_size: int) -> Tensor:
    """Return the second moments of all patches of images `[N, C, H, W]`: `[C·k·k, C·k·k] float64`, in a filter's order.

    No mean is subtracted, as published: the images are normalised already.
    """
    total, count = torch.zeros(1), 0
    for images in batches:
        patches = nn.functional.unfold(images.float(), kernel_size)  # [N, C·k·k, places]
        total = total.to(images.device) + torch.einsum("nip,njp->ij", patches, patches).double()
        count += patches.shape[0] * patches.shape[2]
    return total / count


def whitening_filters(covariance: Tensor, channels: int, eps: float) -> Tensor:
    """Return filters `[C·k·k, C, k, k]` that make patches of this covariance uncorrelated with variance 1.

    They are the eigenvectors, largest eigenvalue first, divided by √(eigenvalue + eps).
    """
    eigenvalues, eigenvectors = torch.linalg.eigh(covariance)
    kernel_size = round((len(covariance) / channels) ** 0.5)
    filters = (eigenvectors / (eigenvalues + eps).sqrt()).T.flip(0)
    return filters.reshape(-1, channels, kernel_size, kernel_size)


def batch_norm(channels: int, momentum: float) -> nn.BatchNorm2d:
    """Return a batch norm whose scale is fixed at 1; `momentum` is the share of the old running statistics."""
    layer = nn.BatchNorm2d(channels, eps=1e-12, momentum=1 - momentum)  # torch's is the share of the new ones
    layer.weight.requires_grad_(False)
    return layer


def identity_conv(in_channels: int, out_channels: int) -> nn.Conv2d:
    """Return a 3×3 convolution whose first `in_channels` filters are the identity; the others are torch's default."""
    layer = conv3x3(in_channels, out_channels)
    nn.init.dirac_(layer.weight.data[:in_channels])
    return layer


def block(in_channels: int, out_channels: int, momentum: float) -> nn.Sequential:
    """Return two convolutions, each with batch norm and GELU, and a pooling to half the width and height."""
    return nn.Sequential(
        identity_conv(in_channels, out_channels),
        nn.MaxPool2d(2),
        batch_norm(out_channels, momentum),
        nn.GELU(),
        identity_conv(out_channels, out_channels),
        batch_norm(out_channels, momentum),
        nn.GELU(),
    )


class Airbench(nn.Module):
    """`[N, in_channels, H, W]` to logits `[N, num_classes]`; made for 32×32.

    widths: output channels of the blocks.
    batch_norm_momentum: share of the old running statistics at each step.
    logits_scale: factor of the linear layer's outputs.
    head_std: standard deviation to which the linear layer's initial weights are scaled; None: torch's default.
    whitening_images: number of training images that `initialize_from` uses.
    whitening_eps: added to the eigenvalues.
    """

    def __init__(
        self,
        *,
        in_channels: int,
        num_classes: int,
        image_size: int,
        widths: Sequence[int],
        batch_norm_momentum: float,
        logits_scale: float,
        head_std: float | None,
        whitening_images: int,
        whitening_eps: float,
    ) -> None:
        check_image_size("Airbench", image_size, 1 + 2 ** len(widths))
        super().__init__()
        self.logits_scale, self.whitening_images, self.whitening_eps = logits_scale, whitening_images, whitening_eps
        # Each filter and its negative, because the activation that follows suppresses one sign.
        self.whitening = nn.Conv2d(in_channels, 2 * in_channels * 2**2, 2)
        self.whitening.weight.requires_grad_(False)
        channels = [self.whitening.out_channels, *widths]
        self.blocks = nn.Sequential(nn.GELU(), *(block(*pair, batch_norm_momentum) for pair in pairwise(channels)))
        self.head = nn.Linear(channels[-1], num_classes, bias=False)
        if head_std is not None:
            self.head.weight.data *= head_std / self.head.weight.data.std()

    @torch.no_grad()
    def initialize_from(self, batches: Iterable[tuple[Tensor, Tensor]]) -> None:
        """Set the whitening filters from the first `whitening_images` of normalised training images."""

        def first() -> Iterable[Tensor]:
            left = self.whitening_images
            for images, _ in batches:
                yield images[:left]
                left -= len(images)
                if left <= 0:
                    return

        covariance = patch_covariance(first(), self.whitening.kernel_size[0])
        filters = whitening_filters(covariance, self.whitening.in_channels, self.whitening_eps)
        self.whitening.weight.copy_(torch.cat([filters, -filters]))

    def forward(self, x: Tensor) -> Tensor:
        x = self.blocks(self.whitening(x))
        return self.head(x.amax(dim=(2, 3))) * self.logits_scale
