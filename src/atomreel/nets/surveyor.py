"""The surveyor: how far apart are the columns of a crop, and are they bright or dark?

The two questions have one answer: a bright honeycomb and the dark triangular lattice of its holes look alike, √3 apart in spacing.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

BINS, FIRST, STEP = 48, 0.6, 0.1  # of log2 of the column spacing [px]: 1.5 to 39 px
HIDDEN = 256
RINGS, ANGLES = 32, 64  # of the polar map of the spectrum


class Surveyor(nn.Module):
    """(N, features) → (N, 2, BINS) log-probabilities: contrast (dark, bright) by spacing."""

    mean: Tensor
    scale: Tensor

    def __init__(self, features: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(features))
        self.register_buffer("scale", torch.ones(features))
        self.read = nn.Sequential(
            nn.Dropout(0.3),
            nn.Linear(features, HIDDEN),
            nn.ReLU(),
            nn.Dropout(0.3),
            nn.Linear(HIDDEN, 2 * BINS),
        )

    def forward(self, features: Tensor) -> Tensor:
        standard = ((features - self.mean) / self.scale).clamp(-6.0, 6.0)
        return F.log_softmax(self.read(standard), 1).unflatten(1, (2, BINS))


def spacing_bins() -> Tensor:
    """(BINS,) log2 of the spacings [px] at the centres of the bins."""
    return FIRST + STEP * torch.arange(BINS)


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
