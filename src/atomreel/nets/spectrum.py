"""Spots of a window's power spectrum and the reciprocal lattices that explain them, batched in torch.

A reciprocal lattice is similar to its real one turned by 90°, so its reduced-basis point τ = z₂/z₁ (z: spot
positions as complex numbers) is the lattice's own, up to a mirror image. Because τ is a holomorphic function of
z₁ and z₂, position errors of the spots give one isotropic error of τ in the hyperbolic plane.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from functools import cache

import torch
import torch.nn.functional as F

SIZE = 128  # px of a window
PAD = 2  # bins per cycle of the window, so that maxima can be interpolated
BINS = SIZE * PAD
LEAST = 2.8 * PAD  # bins; four cells across a window put every spot further out
TAPER = 0.5  # power of the sine that fades a window's rim
RANGE = 2e-3  # of the brightest spot: what lies below may be the skirt that the rim of the window gives to it
STREAK = 3  # bins on either side of an axis
EDGE = 4  # extra columns left of zero frequency
PEAKS = 10
CANDIDATES = 3
ORDERS = torch.tensor(  # half of the spots of a lattice, nearest first
    [
        1, 0, 0, 1, 1, 1, 1, -1, 2, 0, 0, 2, 2, 1, 2, -1, 1, 2, 1, -2, 2, 2, 2, -2,
        3, 0, 0, 3, 3, 1, 3, -1, 1, 3, 1, -3, 3, 2, 3, -2, 2, 3, 2, -3, 3, 3, 3, -3,
    ]
).view(-1, 2)  # fmt: skip
NOISE_LEVEL = 1.4  # of the pooled logarithm; a place with less speaks against a lattice that has a spot there
FULL_LEVEL = 5.0  # a spot stronger than e⁵ times the floor says no more about where the lattice lies
# Scatter of simulated lattices over what the spots' noise lets expect, by the log power of the strongest spot:
# near the floor more goes wrong than a spot's own noise, and what stands far above it is fitted better than assumed.
CLAIM, SLOPE, TYPICAL = 0.42, 0.45, 5.0
SPOT = 1.7  # log of the power over the floor from which a maximum counts as a spot


@dataclass(frozen=True)
class Lattices:
    """Per window and candidate (N, K); lengths in cycles per window.

    first, second: reduced reciprocal basis, complex (x + iy). covariance: (N, K, 3) of (first, first), (first,
    second), (second, second) in each coordinate, as expected from the noise of the spots. sigma: error of τ,
    hyperbolic. misfit: root mean square deviation of the spots from the lattice over that expected. score: evidence.
    strength: (N, K, 24) log power over the floor at each of ORDERS.
    """

    first: torch.Tensor
    second: torch.Tensor
    covariance: torch.Tensor
    sigma: torch.Tensor
    misfit: torch.Tensor
    score: torch.Tensor
    strength: torch.Tensor

    def claim(self) -> torch.Tensor:
        """(N, K) by what factor the errors that follow from the noise of the spots (sigma, roots of covariance) are to be
        multiplied to be those of a lattice in a window."""
        top = self.strength.amax(-1)
        return CLAIM * (1 + self.misfit.square()).sqrt() * torch.exp(SLOPE * (TYPICAL - top))


def join_lattices(parts: list[Lattices]) -> Lattices:
    """Windows of several batches as one."""
    joined = [torch.cat([getattr(part, f.name) for part in parts]) for f in fields(Lattices)]
    return Lattices(*joined)


@dataclass(frozen=True)
class Spots:
    """The strongest maxima (N, PEAKS): complex positions [bins] and log power over the floor, strongest first."""

    where: torch.Tensor
    strength: torch.Tensor


@cache
def _taper(device: torch.device) -> torch.Tensor:
    """Weak, so that the atoms near the rim, which fix the lattice best, keep their say."""
    t = (torch.arange(SIZE, device=device) + 0.5) / SIZE
    profile = torch.sin(torch.pi * t) ** TAPER
    return profile[:, None] * profile


@cache
def _radius(device: torch.device, stride: int) -> torch.Tensor:
    y = torch.fft.fftfreq(BINS, 1 / BINS, device=device)[::stride, None]
    x = torch.arange(0, BINS // 2 + 1, stride, device=device)
    return torch.hypot(y, x.float())


def log_power(standard: torch.Tensor) -> torch.Tensor:
    """(N, SIZE, SIZE) of `sharpen.standardise` → (N, BINS, BINS/2+1) log of the power over the floor of its ring.

    The floor is a geometric mean over the ring with what stands out held down: shot noise and the diffuse
    scattering of disorder go into it, spots do not. A constant window says nothing.
    """
    x = standard * _taper(standard.device)
    real, imaginary = torch.view_as_real(torch.fft.rfft2(x, s=(BINS, BINS))).unbind(-1)
    power = torch.addcmul(real * real, imaginary, imaginary)  # several times faster than the modulus
    brightest = _brightest(power)
    logs = torch.log_(power.add_(brightest * RANGE + 1e-9))
    flat, count, low, share = _rings(x.device)
    coarse = logs[:, ::PAD, ::PAD].flatten(1)
    floor = torch.zeros(len(x), len(count), device=x.device).index_add_(1, flat, coarse) / count
    for _ in range(2):
        held = torch.minimum(coarse, floor.add(1.5).index_select(1, flat))
        floor = torch.zeros_like(floor).index_add_(1, flat, held) / count
    floor = F.avg_pool1d(F.pad(floor[:, None], (1, 1), mode="replicate"), 3, 1)[:, 0]
    below = (floor + 0.5772).index_select(1, low)
    smooth = below.addcmul_(floor.diff(dim=1).index_select(1, low), share)
    logs -= smooth.view_as(logs)
    return _without_streaks(logs)


@cache
def _rings(device: torch.device) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Ring of every PAD-th frequency, frequencies per ring; of all frequencies the ring below and how far they are beyond it."""
    flat = (_radius(device, PAD) / PAD).round().long().flatten()
    count = torch.bincount(flat).float()
    place = (_radius(device, 1) / PAD).flatten().clamp(max=len(count) - 1.001)
    low = place.long()
    return flat, count, low, place - low


def _brightest(power: torch.Tensor) -> torch.Tensor:
    """(N, 1, 1) largest power outside LEAST."""
    near = int(LEAST) + 1
    far = power[:, near : 1 - near].amax((1, 2), keepdim=True)
    radius = _radius(power.device, 1)
    for rows in (slice(0, near), slice(1 - near, None)):
        some = (power[:, rows] * (radius[rows] >= LEAST)).amax((1, 2), keepdim=True)
        far = torch.maximum(far, some)
    return far


def _without_streaks(logs: torch.Tensor) -> torch.Tensor:
    """In place: columns and rows near the axes lowered to the floor, as brightness jumps from scan line to scan line."""
    upright = logs[:, :, :STREAK].clamp(max=3).mean(1, keepdim=True).add(0.3).clamp_min(0)
    rows = torch.cat([logs[:, :STREAK], logs[:, 1 - STREAK :]], 1)
    raised = rows.clamp(max=3).mean(2, keepdim=True).add(0.3).clamp_min(0)
    logs[:, :, :STREAK] -= upright
    logs[:, :STREAK] -= raised[:, :STREAK]
    logs[:, 1 - STREAK :] -= raised[:, STREAK:]
    return logs


def _extended(logs: torch.Tensor) -> torch.Tensor:
    """With EDGE columns of negative frequency on the left and wrapped rows, so that stencils never leave it."""
    n, height, width = logs.shape
    out = logs.new_empty(n, height + 2 * EDGE, width + EDGE)
    middle = out[:, EDGE:-EDGE]
    middle[:, :, EDGE:] = logs
    middle[:, :, :EDGE] = torch.roll(logs[:, :, 1 : EDGE + 1].flip(1, 2), 1, dims=1)
    out[:, :EDGE], out[:, -EDGE:] = middle[:, -EDGE:], middle[:, :EDGE]
    return out


def _gather(grid: torch.Tensor, y: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    """Values of an extended grid (N, H, W) at integer frequencies (N, …), conjugate-symmetric, cut at its rim."""
    index, _ = _index(grid, y, x)
    return grid.flatten(1).gather(1, index.flatten(1)).view_as(index)


def _index(grid: torch.Tensor, y: torch.Tensor, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Places in a flat extended grid, and −1 where the mirror image is meant, whose neighbours lie the other way."""
    way = torch.where(x < 0, -1, 1)
    half = BINS // 2
    row = ((y * way).clamp(-half, half - 1) % BINS) + EDGE
    return row * grid.shape[2] + (x * way).clamp(max=half) + EDGE, way


def _around(grid: torch.Tensor, y: torch.Tensor, x: torch.Tensor, *, reach: int) -> torch.Tensor:
    """(N, …, (2 reach + 1)²) values around integer frequencies (N, …); reach ≤ EDGE. Beyond the outermost frequency in x
    the values mean nothing."""
    index, way = _index(grid, y, x)
    dy, dx = _stencil(reach, grid.device)
    index = index[..., None] + way[..., None] * (dy * grid.shape[2] + dx)
    return grid.flatten(1).gather(1, index.flatten(1)).view_as(index)


def _vertex(grid: torch.Tensor, y: torch.Tensor, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Position (complex bins) and height of the parabola through a maximum and its four neighbours."""
    _, up, _, left, centre, right, _, down, _ = _around(grid, y, x, reach=1).unbind(-1)
    moves = []
    for before, after in ((up, down), (left, right)):
        curve = (before - 2 * centre + after).clamp(max=-1e-3)
        moves.append((0.5 * (before - after) / curve).clamp(-0.6, 0.6))
    return torch.complex(x + moves[1], y + moves[0]), centre


def find_spots(logs: torch.Tensor) -> Spots:
    """The strongest maxima of the half plane, strongest first."""
    grid = _extended(logs)
    radius = _radius(logs.device, 1)
    allowed = (radius >= LEAST) & (radius <= 0.94 * BINS / 2)
    allowed[1 : BINS // 2, 0] = False  # each spot of the column x = 0 once
    inner = torch.where(allowed[:, : BINS // 2], logs[:, :, : BINS // 2], -9.0)
    rows = inner.unflatten(1, (BINS // 4, 4)).amax(2)
    _, which = rows.unflatten(2, (BINS // 8, 4)).amax(3).flatten(1).topk(4 * PEAKS, dim=1)
    step = torch.arange(4, device=logs.device)
    y = (which // (BINS // 8) * 4)[..., None, None] + step[:, None]
    x = (which % (BINS // 8) * 4)[..., None, None] + step
    tiles = inner.flatten(1).gather(1, (y * (BINS // 2) + x).flatten(1)).view(*which.shape, 16)
    place = tiles.argmax(-1)
    y = which // (BINS // 8) * 4 + place // 4
    x = which % (BINS // 8) * 4 + place % 4
    y = torch.where(y >= BINS // 2, y - BINS, y)
    around = _around(grid, y, x, reach=2)
    value = around[..., around.shape[-1] // 2]
    strength, order = torch.where(value >= around.amax(-1), value, -9.0).topk(PEAKS, dim=1)
    where, _ = _vertex(grid, y.gather(1, order), x.gather(1, order))
    return Spots(where, strength)


def _stencil(reach: int, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """Offsets (dy, dx) of a square neighbourhood, the centre in the middle of the list."""
    steps = torch.arange(-reach, reach + 1, device=device)
    dy, dx = torch.meshgrid(steps, steps, indexing="ij")
    return dy.flatten(), dx.flatten()


def _dilated(grid: torch.Tensor) -> torch.Tensor:
    """Largest value of each 3 × 3 neighbourhood; the rim is left as it is."""
    flat = grid.flatten(1)
    width = grid.shape[2]
    # neighbours as shifts of the flat grid, which are contiguous; the rim is put right afterwards
    rows = torch.maximum(flat[:, :-2], flat[:, 1:-1])
    torch.maximum(rows, flat[:, 2:], out=rows)
    best = torch.maximum(rows[:, : -2 * width], rows[:, width:-width])
    torch.maximum(best, rows[:, 2 * width :], out=best)
    out = torch.empty_like(flat)
    out[:, width + 1 : -width - 1] = best
    out = out.view_as(grid)
    for side in (0, -1):
        out[:, side], out[:, :, side] = grid[:, side], grid[:, :, side]
    return out


def reduce_basis(first: torch.Tensor, second: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Gauss's reduction of complex bases: |first| ≤ |second|, 60° ≤ angle between them ≤ 90°."""
    for _ in range(7):
        swap = first.abs() > second.abs()
        first, second = torch.where(swap, second, first), torch.where(swap, first, second)
        along = (second * first.conj()).real / first.abs().square().clamp_min(1e-12)
        second = second - along.round() * first
    swap = first.abs() > second.abs()
    first, second = torch.where(swap, second, first), torch.where(swap, first, second)
    return first, torch.where((second * first.conj()).real < 0, -second, second)


def _candidates(spots: Spots) -> tuple[torch.Tensor, torch.Tensor]:
    """Bases that pairs of spots span, and the centred ones in which both spots are of second order."""
    i, j = torch.triu_indices(PEAKS, PEAKS, 1, device=spots.where.device)
    p, q = spots.where[:, i], spots.where[:, j]
    first = torch.cat([p, (p + q) / 2], 1)
    second = torch.cat([q, (p - q) / 2], 1)
    return reduce_basis(first, second)


def _evidence(
    pooled: torch.Tensor, first: torch.Tensor, second: torch.Tensor, reach: torch.Tensor
) -> torch.Tensor:
    """Sum over the predicted spots nearer than `reach` of log power over what noise would have there."""
    y, x = predicted(first, second, len(ORDERS))
    level = _gather(pooled, y.round().long(), x.round().long()).clamp(-1, FULL_LEVEL)
    total = torch.where(x * x + y * y <= reach.square()[:, None, None], level - NOISE_LEVEL, 0.0).sum(-1)
    area = (first.conj() * second).imag.abs()
    sound = (first.abs() >= LEAST) & (area >= 0.5 * first.abs() * second.abs())
    return torch.where(sound, total, -99.0)


def predicted(first: torch.Tensor, second: torch.Tensor, use: int) -> tuple[torch.Tensor, torch.Tensor]:
    """y and x (…, use) of the first orders of a lattice; complex numbers would take several times as long."""
    orders = ORDERS.to(first.device)[:use].float()
    h, k = orders.unbind(-1)
    return (
        first.imag[..., None] * h + second.imag[..., None] * k,
        first.real[..., None] * h + second.real[..., None] * k,
    )


def _refine(
    grid: torch.Tensor, first: torch.Tensor, second: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Weighted least squares of the spots near the predicted ones, nearest orders first.

    Returns both vectors, the 2 × 2 covariance of (first, second) per coordinate as (N, K, 3), misfit, strengths.
    """
    orders = ORDERS.to(first.device)
    dy, dx = _stencil(2, first.device)
    for use in (4, 24):
        h, k = orders[:use, 0].float(), orders[:use, 1].float()
        qy, qx = predicted(first, second, use)
        y, x = qy.round().long(), qx.round().long()
        around = _around(grid, y, x, reach=2)
        # a little preference for the place that was predicted, against neighbouring noise
        off_y, off_x = (y - qy)[..., None] + dy, (x - qx)[..., None] + dx
        best = (around - 0.15 * (off_y * off_y + off_x * off_x)).argmax(-1)
        spot, level = _vertex(grid, y + dy[best], x + dx[best])
        q, far = torch.complex(qx, qy), qx * qx + qy * qy
        inside = (far >= LEAST**2) & (far <= (0.94 * BINS / 2) ** 2)
        variance = torch.exp(-level) + 4e-4  # what noise and what interpolation do
        weight = torch.sigmoid((level - SPOT) / 0.3) * inside / variance
        weight = weight + 1e-6
        saa, sab, sbb = (weight * h * h).sum(-1), (weight * h * k).sum(-1), (weight * k * k).sum(-1)
        det = (saa * sbb - sab * sab).clamp_min(1e-12)
        ra, rb = (weight * h * (spot - q)).sum(-1), (weight * k * (spot - q)).sum(-1)
        first = first + _held((sbb * ra - sab * rb) / det)
        second = second + _held((saa * rb - sab * ra) / det)
    miss = spot - first[..., None] * h - second[..., None] * k
    used = torch.sigmoid((level - SPOT) / 0.3) * inside
    chi2 = (used / variance * miss.abs().square()).sum(-1) / (used.sum(-1) - 2).clamp_min(0.5) / 2
    covariance = torch.stack([sbb, -sab, saa], -1) / det[..., None]
    return first, second, covariance, chi2.sqrt(), level


def _held(move: torch.Tensor) -> torch.Tensor:
    """A correction of at most two bins."""
    return move * (2 / move.abs().clamp_min(2.0))


def fit_lattices(logs: torch.Tensor, spots: Spots, *, candidates: int = CANDIDATES) -> Lattices:
    """The lattices that explain the spots best; each differs from the better ones."""
    grid = _extended(logs)
    pooled = _dilated(grid)
    far = torch.where(spots.strength > 2.7, spots.where.abs(), 0.0).amax(1)
    reach = (1.15 * far).clamp_min(8 * PAD)
    p, q = _candidates(spots)
    score = _evidence(pooled, p, q, reach)
    kept = []
    for _ in range(candidates):
        value, which = score.max(1, keepdim=True)
        a, b = p.gather(1, which), q.gather(1, which)
        kept.append((a, b, value))
        score = torch.where(_same(a, b, p, q), -99.0, score)
    first, second, value = (torch.cat(parts, 1) for parts in zip(*kept, strict=True))
    first, second, covariance, misfit, strength = _refine(grid, first, second)
    return settle(first / PAD, second / PAD, covariance / PAD**2, rest=(misfit, value, strength))


def settle(
    first: torch.Tensor,
    second: torch.Tensor,
    covariance: torch.Tensor,
    *,
    rest: tuple[torch.Tensor, torch.Tensor, torch.Tensor],
) -> Lattices:
    """Vectors (N, K) and their covariance (N, K, 3), in cycles, as a reduced basis with its error. rest: misfit, score, strength."""
    first = torch.where(first.abs() < 0.5, torch.full_like(first, 0.5), first)  # nothing there: any will do
    second = torch.where((first.conj() * second).imag.abs() < 0.25, first * 1j, second)
    shape = second / first
    spread = (
        covariance[..., 2] - 2 * shape.real * covariance[..., 1] + shape.abs().square() * covariance[..., 0]
    )
    sigma = spread.clamp_min(2.5e-11).sqrt() / (first.abs() * shape.imag.abs()).clamp_min(5e-4)
    p, q = reduce_basis(first, second)
    return Lattices(p, q, _turned(covariance, (first, second), (p, q)), sigma, *rest)


def _turned(
    covariance: torch.Tensor, old: tuple[torch.Tensor, torch.Tensor], new: tuple[torch.Tensor, torch.Tensor]
) -> torch.Tensor:
    """The covariance (…, 3) of basis `old` for the basis `new` of the same lattice."""
    a, b = old
    area = (a.conj() * b).imag
    (h, k), (u, v) = (((z.conj() * b).imag / area, (a.conj() * z).imag / area) for z in new)
    aa, ab, bb = covariance.unbind(-1)
    mixed = h * u * aa + (h * v + k * u) * ab + k * v * bb
    return torch.stack(
        [h * h * aa + 2 * h * k * ab + k * k * bb, mixed, u * u * aa + 2 * u * v * ab + v * v * bb], -1
    )


def _same(a: torch.Tensor, b: torch.Tensor, p: torch.Tensor, q: torch.Tensor) -> torch.Tensor:
    """Whether bases (p, q) span the lattice of (a, b) within a tenth of its cell."""
    area = (a.conj() * b).imag
    area = torch.where(area.abs() < 1e-6, torch.full_like(area, 1e-6), area)
    integer = torch.ones_like(p.real, dtype=torch.bool)
    for z in (p, q):
        for index in ((z * b.conj()).imag / -area, (z * a.conj()).imag / area):
            integer = integer & ((index - index.round()).abs() < 0.12)
    return integer & (((p.conj() * q).imag.abs() / area.abs() - 1).abs() < 0.15)
