"""A small U-Net that tells background, brighter and dimmer at every pixel, to be trained on one frame in minutes."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

STRIDE = 4  # sides of what it sees are multiples of it
CLASSES = ("background", "brighter", "dimmer")


def _double(inside: int, outside: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for channels in (inside, outside):
        layers += [
            nn.Conv2d(channels, outside, 3, padding=1, bias=False),
            nn.BatchNorm2d(outside),
            nn.ReLU(inplace=True),
        ]
    return nn.Sequential(*layers)


class Detector(nn.Module):
    """(N, inputs, Y, X), any sides → (N, 3, Y, X) logits of background, brighter, dimmer.

    Three levels; it sees 22 px around each pixel.
    """

    def __init__(self, inputs: int, width: int) -> None:
        super().__init__()
        self.first = _double(inputs, width)
        self.second = _double(width, 2 * width)
        self.third = _double(2 * width, 2 * width)
        self.middle = _double(4 * width, 2 * width)
        self.last = _double(3 * width, width)
        self.head = nn.Conv2d(width, len(CLASSES), 1)

    def forward(self, x: Tensor) -> Tensor:
        rows, columns = x.shape[-2:]
        x = F.pad(x, (0, -columns % STRIDE, 0, -rows % STRIDE), mode="replicate")
        fine = self.first(x)
        half = self.second(F.avg_pool2d(fine, 2))
        coarse = self.third(F.avg_pool2d(half, 2))
        half = self.middle(torch.cat([_twice(coarse), half], 1))
        fine = self.last(torch.cat([_twice(half), fine], 1))
        return self.head(fine)[..., :rows, :columns]


def _twice(x: Tensor) -> Tensor:
    return F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)


def build(*, inputs: int = 2, width: int = 12) -> Detector:
    """inputs: channels of the image. width: channels of the finest level (12: 0.04 million weights)."""
    return Detector(inputs, width)
