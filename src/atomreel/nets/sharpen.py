"""Lattices of windows as sharp as their pixels allow: one step on the Fourier sums at exactly the predicted spots.

The spots of `nets.spectrum` are found and fitted on a padded grid of a tapered window, which is quick and robust but
scatters by a third more than the Cramér–Rao bound of the atoms' positions. One step of Fisher scoring on the power of an almost
untapered window at the spots of that lattice (Rife & Boorstyn, IEEE Trans. Inf. Theory 20, 591 (1974), for one wave)
takes most of that away.
"""

from __future__ import annotations

from functools import cache

import torch

from atomreel.nets.spectrum import (
    BINS,
    LEAST,
    ORDERS,
    PAD,
    SIZE,
    SPOT,
    Lattices,
    Spots,
    find_spots,
    fit_lattices,
    log_power,
    predicted,
    settle,
)

TAPER = 0.25  # power of the sine that fades the rim: without it strong spots disturb each other in images without noise
STRONGEST = 8  # spots of a lattice that are looked at; more of them change nothing
FURTHEST = 0.6  # cycles per window that one spot may ask for
ROUGH = 4e-4  # bins²: variance of what the tails of other spots do


def read_lattices(windows: torch.Tensor) -> tuple[Spots, Lattices]:
    """(N, SIZE, SIZE) → the spots of the windows, and the lattices that explain them, sharpened."""
    standard = standardise(windows)
    logs = log_power(standard)
    spots = find_spots(logs)
    return spots, sharpen(standard, logs, fit_lattices(logs, spots))


def standardise(windows: torch.Tensor) -> torch.Tensor:
    """(N, SIZE, SIZE) of any unit → without mean and ramp, root mean square 1; a constant window gives zeros or rounding, and says nothing.

    The largest value goes first, as squares of tiny or huge ones leave the range of single precision.
    """
    x = windows.float()
    peak = torch.linalg.vector_norm(x, ord=torch.inf, dim=(1, 2), keepdim=True)
    x = _level_out(x / torch.where(peak > 0, peak, 1.0))
    scale = torch.linalg.vector_norm(x, dim=(1, 2), keepdim=True) / SIZE
    return x.div_(torch.where(scale > 0, scale, 1.0))


def _level_out(x: torch.Tensor) -> torch.Tensor:
    """Without mean and ramp, whose streaks would cross the spots."""
    t = torch.linspace(-1, 1, SIZE, device=x.device)
    norm = t.square().sum() * SIZE
    rows, columns = x.sum(2), x.sum(1)
    down, across = (rows @ t) / norm, (columns @ t) / norm
    level = x - (rows.sum(1, keepdim=True) / SIZE**2 + down[:, None] * t)[:, :, None]
    return level.sub_((across[:, None] * t)[:, None])


def sharpen(standard: torch.Tensor, logs: torch.Tensor, found: Lattices) -> Lattices:
    """The lattices `found` (N, K) in windows (N, SIZE, SIZE) of `standardise`, one step nearer to the likeliest ones.

    logs: of `log_power`.
    Vectors, covariance, sigma and misfit are new; score and strength stay.
    """
    h, k, level, weight = _strongest(logs, found)
    first, second = found.first[..., None], found.second[..., None]
    n, candidates, use = h.shape
    spot = (first * h + second * k).flatten(1)
    move = _moves(standard, spot).view(n, candidates, use)
    saa, sab, sbb = ((weight * product).sum(-1) for product in (h * h, h * k, k * k))
    det = (saa * sbb - sab * sab).clamp_min(1e-12)
    ra, rb = (weight * h * move).sum(-1), (weight * k * move).sum(-1)
    change_a = (sbb * ra - sab * rb) / det
    change_b = (saa * rb - sab * ra) / det
    miss = (move - change_a[..., None] * h - change_b[..., None] * k).abs().square() * PAD**2
    used = torch.sigmoid((level - SPOT) / 0.3) * (weight > 1e-5)
    chi2 = (weight * miss).sum(-1) / (used.sum(-1) - 2).clamp_min(0.5) / 2
    covariance = torch.stack([sbb, -sab, saa], -1) / det[..., None] / PAD**2
    return settle(
        found.first + change_a,
        found.second + change_b,
        covariance,
        rest=(chi2.sqrt(), found.score, found.strength),
    )


def _strongest(
    logs: torch.Tensor, found: Lattices
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Orders h and k, log power over the floor, and weight [1/bins²] of the spots that say most, all (N, K, STRONGEST)."""
    h, k = ORDERS.to(logs.device).float().unbind(-1)
    y, x = (PAD * part for part in predicted(found.first, found.second, len(ORDERS)))
    far = y * y + x * x
    inside = (far >= LEAST**2) & (far <= (0.94 * BINS / 2) ** 2)
    row, column = y.round().long(), x.round().long()
    row = torch.where(column < 0, -row, row) % BINS
    place = row * logs.shape[2] + column.abs().clamp(max=BINS // 2)
    level = logs.flatten(1).gather(1, place.flatten(1)).view_as(y)
    weight = torch.sigmoid((level - SPOT) / 0.3) * inside / (torch.exp(-level) + ROUGH) + 1e-6
    weight, which = weight.topk(STRONGEST, -1)
    return h[which], k[which], level.gather(-1, which), weight


@cache
def _places(device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """(SIZE,) distance of the pixels from the middle, and the taper."""
    t = torch.arange(SIZE, device=device) - (SIZE - 1) / 2
    return t, torch.cos(torch.pi * t / SIZE) ** TAPER


def _moves(x: torch.Tensor, spots: torch.Tensor) -> torch.Tensor:
    """(N, M) how far the maxima of the power of windows (N, SIZE, SIZE) are from the complex frequencies (N, M) [cycles per
    window], as its slope there and its expected curvature have it; at most FURTHEST."""
    t, taper = _places(x.device)
    (cos_y, sin_y), (cos_x, sin_x) = (_wave(part, t, taper) for part in (spots.imag, spots.real))
    waves = torch.cat([cos_x, sin_x, t * cos_x, t * sin_x], 1)
    c, s, tc, ts = torch.bmm(waves, x.transpose(1, 2)).chunk(4, 1)
    real, imaginary = (cos_y * c).addcmul_(sin_y, s, value=-1), (cos_y * s).addcmul_(sin_y, c).neg_()
    f = torch.complex(real.sum(-1), imaginary.sum(-1))
    down = torch.complex(real @ t, imaginary @ t)
    real, imaginary = (cos_y * tc).addcmul_(sin_y, ts, value=-1), (cos_y * ts).addcmul_(sin_y, tc).neg_()
    across = torch.complex(real.sum(-1), imaginary.sum(-1))
    curve = (taper * t * t).sum() / taper.sum() * f.abs().square().clamp_min(1e-20)
    step = torch.complex((f.conj() * across).imag, (f.conj() * down).imag) / curve * (SIZE / (2 * torch.pi))
    return step * (FURTHEST / step.abs().clamp_min(FURTHEST))


def _wave(frequency: torch.Tensor, t: torch.Tensor, taper: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """(N, M) cycles per window → tapered cosines and sines (N, M, SIZE)."""
    phase = frequency[..., None] * (2 * torch.pi / SIZE * t)
    return phase.cos() * taper, phase.sin() * taper
