"""The height reader: a fully convolutional network that finds columns in a focal series and tells their heights.

After J. Madsen et al., Adv. Theory Simul. 1 (2018) 1800037, section 2: residual blocks, additive long skips, ReLU then
batch norm, transpose convolutions that begin as bilinear interpolation, lowest resolution one eighth.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

STRIDE = 8  # sides of the input are multiples of it
BLOCK = 4  # the window of the normalisation is evaluated on means of this many px
BOX = 11  # three boxes of this many blocks make a window of nearly Gaussian shape, σ = 5.5 blocks
UNIT = 3.0  # log10 of the dose [e/Å² and image] that stands for 0


def normalise_series(series: Tensor) -> tuple[Tensor, Tensor]:
    """(N, F, Y, X) → each image minus its local mean, all divided by one number per series, and that number (N,).

    Equations 2 and 3 of the paper with one change: the divisor is the largest value that the window's root mean
    square over the series takes anywhere, since its variation from column to column tells their heights.
    """
    flat = series - _window(series)
    power = _window(flat.square().mean(1, keepdim=True))
    largest = power.amax((2, 3), keepdim=True).clamp_min(1e-12).sqrt()
    return flat / largest, largest[:, 0, 0, 0]


def _window(maps: Tensor) -> Tensor:
    """Local mean; Y and X are multiples of BLOCK."""
    coarse = F.avg_pool2d(maps, BLOCK)
    for _ in range(3):
        coarse = F.avg_pool2d(coarse, BOX, 1, BOX // 2, count_include_pad=False)
    return F.interpolate(coarse, scale_factor=BLOCK, mode="bilinear", align_corners=False)


def _told(value: Tensor) -> Tensor:
    """(N,) → (N, 2): the value, 0 where it is not known, and whether it is."""
    known = torch.isfinite(value)
    return torch.stack([torch.where(known, value, 0.0), known.to(value.dtype)], 1)


class _Layer(nn.Sequential):
    """3 × 3 convolution, ReLU, then batch norm."""

    def __init__(self, inside: int, outside: int) -> None:
        super().__init__(
            nn.Conv2d(inside, outside, 3, padding=1), nn.ReLU(inplace=True), nn.BatchNorm2d(outside)
        )


class _Residual(nn.Module):
    """Five convolutions, a skip over the middle three."""

    def __init__(self, inside: int, outside: int) -> None:
        super().__init__()
        self.first = _Layer(inside, outside)
        self.middle = nn.Sequential(*(_Layer(outside, outside) for _ in range(3)))
        self.last = _Layer(outside, outside)

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        return self.last(x + self.middle(x))


class _Context(nn.Module):
    """Adds what the whole field has in common (focus, blur, strength of the scattering) to every place of it."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Conv2d(channels, 1, 1)
        self.mix = nn.Sequential(nn.Linear(channels, channels), nn.ReLU(), nn.Linear(channels, channels))

    def forward(self, x: Tensor) -> Tensor:
        share = self.weight(x).flatten(1).softmax(1)
        common = torch.einsum("ncp,np->nc", x.flatten(2), share)
        return x + self.mix(common)[:, :, None, None]


class HeightReader(nn.Module):
    """images (N, F, Y, X) of any brightness, bright or dark columns; log_dose (N,): log10 of e/Å² and image; level (N,):
    of the vacuum above the detector's offset, in the units of the images; both NaN where not known → logits of "a column is here" (N, 1, Y, X) and of its number of atoms (N, K, Y / 2, X / 2)."""

    def __init__(self, images: int, heights: int, width: int) -> None:
        super().__init__()
        sizes = [width, 2 * width, 4 * width]
        self.down = nn.ModuleList(
            _Residual(i, o) for i, o in zip([4 * images + 4, *sizes[:-1]], sizes, strict=True)
        )
        self.context = _Context(sizes[-1])
        self.up = nn.ModuleList(nn.ConvTranspose2d(2 * s, s, 4, 2, 1, bias=False) for s in sizes[-2::-1])
        self.merge = nn.ModuleList(_Residual(s, s) for s in sizes[-2::-1])
        self.heat = nn.Conv2d(width, 4, 1)
        self.height = nn.Conv2d(width, heights, 1)
        for module in self.up.modules():
            if isinstance(module, nn.ConvTranspose2d):
                _bilinear(module.weight)

    def forward(self, images: Tensor, log_dose: Tensor, level: Tensor) -> tuple[Tensor, Tensor]:
        flat, largest = normalise_series(images)
        x = F.pixel_unshuffle(flat, 2)
        told = torch.cat([_told(log_dose - UNIT), _told(4 * (torch.log10(largest / level) + 0.5))], 1)
        x = torch.cat([x, told[:, :, None, None].expand(-1, -1, *x.shape[2:]).to(x.dtype)], 1)
        x = x.contiguous(memory_format=torch.channels_last)
        skips = []
        for depth, block in enumerate(self.down):
            x = block(F.max_pool2d(x, 2) if depth else x)
            skips.append(x)
        skips[-1] = x = self.context(x)
        for up, merge, skip in zip(self.up, self.merge, skips[-2::-1], strict=True):
            x = merge(up(x) + skip)
        return F.pixel_shuffle(self.heat(x), 2), self.height(x)


@torch.no_grad()
def _bilinear(weight: Tensor) -> None:
    """Bilinear interpolation of pairs of channels, averaged, as a transpose convolution (2C, C, 4, 4)."""
    ramp = torch.tensor([0.25, 0.75, 0.75, 0.25])
    weight.zero_()
    channels = weight.shape[1]
    for k in range(weight.shape[0]):
        weight[k, k % channels] = 0.5 * torch.outer(ramp, ramp)


def build(*, images: int = 3, heights: int = 12, width: int = 32) -> HeightReader:
    """images: of the focal series. heights: classes, 1 … this many atoms. width: channels of the finest level."""
    return HeightReader(images, heights, width)
