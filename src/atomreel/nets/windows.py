"""A small classifier of windows that ends in a mean over the place and one linear layer, so that its maps are exact.

B. Zhou et al., Learning deep features for discriminative localization, CVPR 2016 (arXiv:1512.04150): with features
f_k(y, x) and weights w_k^c of the last layer, the class activation map M_c = Σ_k w_k^c f_k has the class's logit, less its
bias, as its mean.
"""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn

STRIDE = 4  # px of the window per px of the last features


def normalise(windows: Tensor) -> Tensor:
    """(N, Y, X) → mean 0 and standard deviation 1 each, so that gain and offset do not matter; 0 where all is even."""
    centred = windows - windows.mean((1, 2), keepdim=True)
    spread = centred.square().mean((1, 2), keepdim=True).sqrt()
    return centred / spread.clamp_min(1e-12)


class _Layer(nn.Sequential):
    """3 × 3 convolution, batch norm, ReLU."""

    def __init__(self, inside: int, outside: int, *, stride: int = 1) -> None:
        super().__init__(
            nn.Conv2d(inside, outside, 3, stride, 1, bias=False),
            nn.BatchNorm2d(outside),
            nn.ReLU(inplace=True),
        )


class _Context(nn.Module):
    """Adds what the window has in common (sharpness, brightness of the usual columns) to every place of it."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.mix = nn.Sequential(nn.Linear(channels, channels), nn.ReLU(), nn.Linear(channels, channels))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.mix(x.mean((2, 3)))[:, :, None, None]


class WindowNet(nn.Module):
    """windows (N, Y, X) of any brightness, sides multiples of STRIDE → logits (N, classes), uncalibrated."""

    def __init__(self, *, classes: int, width: int, depth: int) -> None:
        super().__init__()
        w = width
        self.stem = nn.Sequential(_Layer(2, w), _Layer(w, 2 * w, stride=2), _Layer(2 * w, 2 * w))
        self.down = nn.Sequential(_Layer(2 * w, 4 * w, stride=2), _Layer(4 * w, 4 * w), _Context(4 * w))
        self.body = nn.Sequential(*(_Layer(4 * w, 4 * w) for _ in range(depth)))
        self.last = nn.Linear(4 * w, classes)

    def early(self, windows: Tensor) -> Tensor:
        """(N, K, Y / 4, X / 4) before the body. The network is told how far from the middle every place is."""
        image = normalise(windows)
        y, x = (torch.linspace(-1, 1, n, device=image.device, dtype=image.dtype) for n in image.shape[1:])
        far = torch.maximum(y.abs()[:, None], x.abs()[None]).expand(len(image), -1, -1)
        both = torch.stack([image, far], 1).contiguous(memory_format=torch.channels_last)
        return cast(Tensor, self.down(self.stem(both)))

    def features(self, windows: Tensor) -> Tensor:
        """(N, K, Y / 4, X / 4), none below 0: what the answer and the maps are made of."""
        return cast(Tensor, self.body(self.early(windows)))

    def answer(self, features: Tensor) -> Tensor:
        """(N, K, h, w) features → (N, classes) logits: their mean over the place through one linear layer."""
        return cast(Tensor, self.last(features.mean((2, 3))))

    def maps(self, features: Tensor) -> Tensor:
        """(N, K, h, w) features → (N, classes, h, w) class activation maps Σ_k w_k^c f_k."""
        return torch.einsum("ck,nkyx->ncyx", self.last.weight, features)

    def forward(self, windows: Tensor) -> Tensor:
        return self.answer(self.features(windows))


def gradient_maps(net: WindowNet, windows: Tensor, chosen: Tensor, *, left: int = 1) -> Tensor:
    """(N, Y, X) → (N, h, w) Grad-CAM of the class `chosen` (N,): ReLU(Σ_k α_k f_k), α_k the mean of ∂logit/∂f_k over the place.

    R. R. Selvaraju et al., ICCV 2017 (arXiv:1610.02391), equations 1 and 2. left: convolutions that come after the features f. With
    none α_k = w_k^c / (h·w), which is the activation map again; much earlier f_k speak for unlike things at unlike places, and a
    mean slope says little.
    """
    split = len(net.body) - left
    with torch.enable_grad():
        f = net.body[:split](net.early(windows)).detach().requires_grad_(True)
        logits = net.answer(net.body[split:](f))
        slope = torch.autograd.grad(logits.gather(1, chosen[:, None]).sum(), f)[0]
    return (slope.mean((2, 3), keepdim=True) * f).sum(1).relu().detach()


def build(*, classes: int = 6, width: int = 12, depth: int = 3) -> WindowNet:
    """The network of `tasks/windows.py`. width: channels at full resolution. depth: convolutions after the context."""
    return WindowNet(classes=classes, width=width, depth=depth)
