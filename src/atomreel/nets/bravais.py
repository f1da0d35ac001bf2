"""Symmetry of a window from its Fourier amplitude: spots, the lattices that explain them, a dense head with dropout."""

from __future__ import annotations

import torch
from torch import nn

from atomreel.nets.sharpen import read_lattices
from atomreel.nets.spectrum import CANDIDATES, PEAKS, Lattices, Spots

CLASSES = 6
STRENGTHS = 8  # orders whose strength is looked at
WIDTH = CANDIDATES * (5 + 5 + 8 + STRENGTHS + 1) + PEAKS
FREE = (0.0, 1.0, 1.0, 0.0, 2.0, 0.0)  # numbers of a lattice's shape that each class leaves free
_HEXAGONAL = complex(0.5, 3**0.5 / 2)


def symmetry_distances(tau: torch.Tensor) -> torch.Tensor:
    """(…) reduced points → (…, 5) hyperbolic distances: square, rectangular, |τ| = 1, Re τ = ½, hexagonal."""
    x, y = tau.real.abs(), tau.imag.abs().clamp_min(1e-3)
    size = tau.abs().square()

    def point(other: complex) -> torch.Tensor:
        return torch.arccosh(1 + (tau_up - other).abs().square() / (2 * y * other.imag))

    tau_up = torch.complex(x, y)
    lines = ((x / y), (size - 1) / (2 * y), (0.5 - x) / y)
    rectangular, unit, half = (torch.arcsinh(line) for line in lines)
    return torch.stack([point(1j), rectangular, unit, half, point(_HEXAGONAL)], -1)


def describe(windows: torch.Tensor) -> torch.Tensor:
    """(N, 128, 128) → (N, features): everything that the head sees; the same for turned and for scaled lattices."""
    return read_windows(windows)[0]


def read_windows(windows: torch.Tensor) -> tuple[torch.Tensor, Lattices]:
    """(N, 128, 128) → what the head sees (N, features), and the lattices that it was derived from."""
    spots, found = read_lattices(windows)
    return features(spots, found), found


def features(spots: Spots, found: Lattices) -> torch.Tensor:
    tau = found.second / found.first
    distances = symmetry_distances(tau)
    error = (found.sigma * found.claim()).clamp(1e-4, 3)[..., None]
    first, second = found.first.abs(), found.second.abs()
    explained = _explained(spots, found)
    lattice = torch.cat(
        [
            (distances * 12.5).clamp(max=4),
            torch.asinh(distances / error)
            / 4,  # tells three from ten standard errors, and ten from a hundred
            error.log(),
            found.sigma.clamp(1e-4, 3).log()[..., None],
            found.misfit.clamp(0.1, 30).log()[..., None],
            tau.real.abs()[..., None],
            tau.imag.abs().clamp(0.5, 6).log()[..., None],
            (found.score / 10)[..., None].clamp(-5, 10),
            first.clamp(1, 64).log()[..., None],
            second.clamp(1, 64).log()[..., None],
            found.strength[..., :STRENGTHS] / 4,
            explained[..., None],
        ],
        -1,
    )
    return torch.cat([lattice.flatten(1), spots.strength / 4], 1)


def _explained(spots: Spots, found: Lattices) -> torch.Tensor:
    """(N, K) share of the clear spots, by log power, that lie on the lattice."""
    z = spots.where[:, None] / 2
    a, b = found.first[..., None], found.second[..., None]
    area = (a.conj() * b).imag
    area = torch.where(area.abs() < 1e-6, torch.full_like(area, 1e-6), area)
    h, k = (z * b.conj()).imag / -area, (z * a.conj()).imag / area
    off = ((h - h.round()) * a + (k - k.round()) * b).abs()
    weight = (spots.strength - 2.5).clamp_min(0)[:, None]
    return (weight * (off < 1.2)).sum(-1) / weight.sum(-1).clamp_min(0.1)


def probabilities(logits: torch.Tensor, *, temperature: float = 1.0, tilt: float = 0.0) -> torch.Tensor:
    """(…, 6) logits → calibrated probabilities. tilt: log odds that every number which a class leaves free is worth:
    how often lattices stand close to a more symmetric one is not the same everywhere as in the training."""
    return (logits / temperature + tilt * torch.tensor(FREE, device=logits.device)).softmax(-1)


class BravaisNet(nn.Module):
    """features → two dense layers with dropout → logits. Only the dense part is touched by dropout."""

    def __init__(self, *, hidden: int = 256, last: int = 128, dropout: float = 0.1) -> None:
        super().__init__()
        self.standard = nn.BatchNorm1d(WIDTH, affine=False)
        self.first = nn.Linear(WIDTH, hidden)
        self.second = nn.Linear(hidden, last)
        self.out = nn.Linear(last, CLASSES)
        self.dropout = dropout

    def read(self, windows: torch.Tensor) -> tuple[torch.Tensor, Lattices]:
        """(N, 128, 128) → what `forward` takes (N, features), and the lattices that it was derived from."""
        return read_windows(windows)

    def forward(self, described: torch.Tensor) -> torch.Tensor:
        """(N, features) → (N, 6) logits, uncalibrated."""
        hidden = self._drop(nn.functional.gelu(self.first(self.standard(described))))
        return self.out(self._drop(nn.functional.gelu(self.second(hidden))))

    def _drop(self, x: torch.Tensor) -> torch.Tensor:
        return nn.functional.dropout(x, self.dropout, training=self.training)

    def sample(self, described: torch.Tensor, *, passes: int, generator: torch.Generator) -> torch.Tensor:
        """(N, features) → (passes, N, 6) logits with dropout; what comes before the first mask is done once."""
        hidden = nn.functional.gelu(self.first(self.standard(described)))
        hidden = self._mask(hidden.expand(passes, -1, -1), generator)
        return self.out(self._mask(nn.functional.gelu(self.second(hidden)), generator))

    def _mask(self, x: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        kept = torch.rand(x.shape, generator=generator, device=x.device) >= self.dropout
        return x * kept / (1 - self.dropout)


def build(*, hidden: int = 256, last: int = 128, dropout: float = 0.1) -> BravaisNet:
    """The network of `tasks/bravais.py`."""
    return BravaisNet(hidden=hidden, last=last, dropout=dropout)
