"""Pre-processing and augmentation of whole batches, on the fly, on the images' own device (questions 1.1 to 2.1).

A script composes these into one function `prepare(images, statistics, generator=None)`, which takes
uint8 images `(N, 3, 32, 32)` and returns the network's input. Training passes a generator and
evaluation does not; random operations are applied only with a generator.
"""

from typing import NamedTuple

import torch
from torch.nn import functional as F


class Statistics(NamedTuple):
    """Mean and standard deviation of each color channel in intensity levels, both `(3, 1, 1)`."""

    mean: torch.Tensor
    std: torch.Tensor


def channel_statistics(images: torch.Tensor) -> Statistics:
    """Statistics over all pixels of `images`, uint8 `(N, 3, H, W)`."""
    std, mean = torch.std_mean(images.float(), dim=(0, 2, 3), keepdim=True)
    return Statistics(mean[0], std[0])


def raw(images: torch.Tensor) -> torch.Tensor:
    """The unchanged pixels: intensity levels 0..255, only converted to float32.

    "Be mindful of what's fed into the network" (question 1.1): a convolution does not accept uint8,
    and division by 255 would already be a normalization.
    """
    return images.float()


def normalize(images: torch.Tensor, statistics: Statistics) -> torch.Tensor:
    """Zero mean and unit standard deviation in each channel (question 1.2).

    Test images are normalized by the training set's statistics, too: the test set must stay unseen.
    """
    return (images.float() - statistics.mean) / statistics.std


def random_flip(images: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Flip each image horizontally and independently with probability 0.5 (question 1.3)."""
    heads = torch.rand(len(images), 1, 1, 1, generator=generator, device=images.device) < 0.5
    return torch.where(heads, images.flip(-1), images)


def random_crop(images: torch.Tensor, generator: torch.Generator, padding: int = 4) -> torch.Tensor:
    """Zero-pad each side, then crop each image to its original size at a random position (question 1.4).

    Each of the (2 · padding + 1)² positions is equally likely. After normalization, zero is the mean
    color of the training set. Returns float `(N, 3, H, W)` laid out channels last.
    """
    top, left = torch.randint(2 * padding + 1, (2, len(images)), generator=generator, device=images.device)
    return crop(images, top, left, padding)


def crop(images: torch.Tensor, top: torch.Tensor, left: torch.Tensor, padding: int) -> torch.Tensor:
    """Zero-pad each side, then crop to the original size at `top` and `left`, int64 `(N,)` in 0..2 · padding."""
    number, _, height, width = images.shape
    padded = F.pad(images, [padding] * 4)
    rows = top.view(number, 1, 1) + torch.arange(height, device=images.device).view(1, height, 1)
    columns = left.view(number, 1, 1) + torch.arange(width, device=images.device).view(1, 1, width)
    image = torch.arange(number, device=images.device).view(number, 1, 1)
    return padded[image, :, rows, columns].permute(0, 3, 1, 2)  # indexed as (N, H, W, 3)


def random_cutout(images: torch.Tensor, generator: torch.Generator, size: int = 8) -> torch.Tensor:
    """Set a `size` × `size` square to zero, at a random place in each image (DeVries & Taylor 2017, for 2.1).

    Every place where the whole square fits into the image is equally likely.
    """
    number, _, height, width = images.shape

    def covered(length: int) -> torch.Tensor:
        """Which of `length` rows or columns the square covers, `(N, length)`."""
        first = torch.randint(length - size + 1, (number, 1), generator=generator, device=images.device)
        position = torch.arange(length, device=images.device)
        return (first <= position) & (position < first + size)

    rows, columns = covered(height), covered(width)
    return images.masked_fill((rows[:, :, None] & columns[:, None, :])[:, None], 0)
