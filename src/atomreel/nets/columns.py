"""The column finder: a U-Net that maps columns, after the local normalisation of Madsen et al. 2018 (equations 2 and 3)."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

LEVELS = (
    1,
    2,
    4,
    8,
)  # channels at each level, in widths; the first works on a grid half as fine as the image
STRIDE = 2 ** len(LEVELS)  # the U-Net's coarsest grid: tiles start at multiples of it
HALO = (
    112  # px around a tile that the U-Net can see (89 from convolutions, 15 from pooling), in whole strides
)
BLOCK = 4  # the window of the normalisation is evaluated on blocks of this many px
WINDOW = 16.0  # its standard deviation [px]
WINDOW_HALO = 80  # px beyond which the window is cut, in whole strides
LIMIT = 8.0  # normalised values are clipped here: single counts in a vacuum


def local_normalise(image: Tensor, window: float = WINDOW) -> Tensor:
    """(N, 1, Y, X) → the same, locally of mean 0 and standard deviation 1 under one Gaussian window [px].

    Y and X are multiples of BLOCK. The window is applied to means over blocks, 16 times cheaper.
    """
    mean, square = F.avg_pool2d(image, BLOCK), F.avg_pool2d(image.square(), BLOCK)
    both = _blur(torch.cat([mean, square], 1), window / BLOCK)
    both = F.interpolate(both, scale_factor=BLOCK, mode="bilinear", align_corners=False)
    mean, square = both[:, :1], both[:, 1:]
    spread = (square - mean.square()).clamp_min(1e-8).sqrt()
    return ((image - mean) / spread).clamp(-LIMIT, LIMIT)


def _blur(maps: Tensor, sigma: float) -> Tensor:
    """Separable Gaussian with replicated border."""
    radius = math.ceil(4 * sigma)
    grid = torch.arange(-radius, radius + 1, dtype=maps.dtype, device=maps.device)
    kernel = torch.exp(-0.5 * (grid / sigma) ** 2)
    kernel = (kernel / kernel.sum()).repeat(maps.shape[1], 1)
    groups = maps.shape[1]
    maps = F.conv2d(F.pad(maps, (0, 0, radius, radius), "replicate"), kernel[:, None, :, None], groups=groups)
    return F.conv2d(F.pad(maps, (radius, radius, 0, 0), "replicate"), kernel[:, None, None, :], groups=groups)


def _double(inside: int, outside: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inside, outside, 3, padding=1, bias=False),
        nn.BatchNorm2d(outside),
        nn.ReLU(inplace=True),
        nn.Conv2d(outside, outside, 3, padding=1, bias=False),
        nn.BatchNorm2d(outside),
        nn.ReLU(inplace=True),
    )


class UNet(nn.Module):
    """(N, 1, Y, X) normalised, Y and X multiples of STRIDE → (N, 1, Y, X) logits.

    Works on a grid half as fine, each 2 × 2 px as four channels: columns are at least 5 px apart, and
    the finest level of a plain U-Net would take half of the time.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        sizes = [factor * width for factor in LEVELS]
        self.down = nn.ModuleList(_double(i, o) for i, o in zip([4, *sizes[:-1]], sizes, strict=True))
        self.up = nn.ModuleList(nn.ConvTranspose2d(2 * s, s, 2, stride=2) for s in sizes[-2::-1])
        self.merge = nn.ModuleList(_double(2 * s, s) for s in sizes[-2::-1])
        self.fine = nn.Conv2d(width, 32, 1)
        self.head = nn.Conv2d(8, 1, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return self._head(self.levels(x)[-1])

    def levels(self, x: Tensor) -> list[Tensor]:
        """What the network makes of the image on its way up, coarsest first."""
        skips: list[Tensor] = []
        x = _plain(F.pixel_unshuffle(x, 2))
        for level, block in enumerate(self.down):
            x = block(F.max_pool2d(x, 2) if level else x)
            skips.append(x)
        levels = [x]
        for up, merge, skip in zip(self.up, self.merge, skips[-2::-1], strict=True):
            levels.append(merge(torch.cat([up(levels[-1]), skip], 1)))
        return levels

    def _head(self, x: Tensor) -> Tensor:
        return self.head(F.relu(F.pixel_shuffle(self.fine(x), 2)))


class ColumnFinder(nn.Module):
    """The U-Net and the normalisation before it. Images are plain brightness, (N, 1, Y, X)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.columns = UNet(width)

    def forward(self, images: Tensor) -> Tensor:
        """Bright columns 5–14 px apart → logits (N, 1, Y, X) of "a column is here"."""
        return self.columns(local_normalise(images))


def _plain(images: Tensor) -> Tensor:
    return images.contiguous(memory_format=torch.channels_last)


def build(*, width: int = 32) -> ColumnFinder:
    """width: channels of the U-Net's finest level (32: 1.9 million weights)."""
    return ColumnFinder(width)
