"""The column finder: a U-Net that maps columns, and a reader of scale and contrast that watches it.

Both see the image after the local normalisation of Madsen et al. 2018 (equations 2 and 3).
"""

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
RINGS, ANGLES = 32, 64  # of the polar map of the spectrum
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

    def summary(self, x: Tensor) -> Tensor:
        """(N, features): mean and spread of every channel over the image, and of the answer."""
        levels = self.levels(x)
        answer = torch.sigmoid(self._head(levels[-1]).float())
        doubt = answer * (1 - answer)
        maps = [level.float() for level in levels] + [answer, doubt]
        return torch.cat([statistic for m in maps for statistic in (m.mean((2, 3)), m.std((2, 3)))], 1)

    def _head(self, x: Tensor) -> Tensor:
        return self.head(F.relu(F.pixel_shuffle(self.fine(x), 2)))


class Surveyor(nn.Module):
    """Scale and contrast of a crop, from what the U-Net makes of it and of its negative, and from its spectrum.

    (N, features) → (N, 3): log2 of the column spacing [px], log of its scale, bright logit.
    """

    mean: Tensor
    scale: Tensor

    def __init__(self, features: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(features))
        self.register_buffer("scale", torch.ones(features))
        self.read = nn.Sequential(
            nn.Dropout(0.2), nn.Linear(features, 96), nn.ReLU(), nn.Dropout(0.2), nn.Linear(96, 3)
        )

    def forward(self, features: Tensor) -> Tensor:
        standard = ((features - self.mean) / self.scale).clamp(-6.0, 6.0)
        scale, spread, bright = self.read(standard).unbind(1)
        return torch.stack([3.0 + scale, spread.clamp(-4.0, 2.0), bright], 1)


def spectral_rings(x: Tensor) -> Tensor:
    """(N, 1, Y, X) normalised → (N, 2·RINGS): mean and maximum of the log power on rings of 2 to 40 px spacing."""
    ny, nx = x.shape[-2:]
    window = torch.outer(torch.hann_window(ny, False), torch.hann_window(nx, False)).to(x)
    power = torch.fft.fftshift(torch.fft.fft2(x.float() * window).abs().square(), dim=(-2, -1))
    power = F.avg_pool2d(power, 3, 1, 1).clamp_min(1e-6).log()
    power = power - power.mean((2, 3), keepdim=True)
    q = torch.logspace(math.log10(1 / 40), math.log10(1 / 2.05), RINGS)
    angle = torch.arange(ANGLES) * (math.pi / ANGLES)
    # fftshift puts q = 0 at pixel n // 2; grid_sample counts from −1 to 1 over pixel centres
    grid = [
        2 * (q[:, None] * wave(angle) * n + n // 2) / (n - 1) - 1
        for wave, n in ((torch.cos, nx), (torch.sin, ny))
    ]
    grid_yx = torch.stack(grid, -1).to(x).expand(len(x), -1, -1, -1)
    rings = F.grid_sample(power, grid_yx, mode="bilinear", padding_mode="border", align_corners=True)[:, 0]
    return torch.cat([rings.mean(-1), rings.amax(-1)], 1)


class ColumnFinder(nn.Module):
    """Both networks; each normalises its own input. Images are plain brightness, (N, 1, Y, X)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.columns = UNet(width)
        self.surveyor = Surveyor(4 * (sum(LEVELS) * width + 2) + 2 * RINGS)

    def forward(self, images: Tensor) -> Tensor:
        """Bright columns 5–14 px apart → logits (N, 1, Y, X) of "a column is here"."""
        return self.columns(local_normalise(images))

    def survey(self, crops: Tensor) -> Tensor:
        """Crops of any scale and contrast → (N, 3), see Surveyor."""
        return self.surveyor(self.survey_features(crops))

    def survey_features(self, crops: Tensor) -> Tensor:
        """(N, features) float32 that the Surveyor reads."""
        crops = local_normalise(crops)
        seen = [self.columns.summary(crops), self.columns.summary(-crops), spectral_rings(crops)]
        return torch.cat([part.float() for part in seen], 1)


def _plain(images: Tensor) -> Tensor:
    return images.contiguous(memory_format=torch.channels_last)


def build(*, width: int = 32) -> ColumnFinder:
    """width: channels of the U-Net's finest level (32: 1.9 million weights)."""
    return ColumnFinder(width)
