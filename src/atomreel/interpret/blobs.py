"""Centres of round blobs by the scale-normalised Laplacian of Gaussian (Lindeberg, Int. J. Comput. Vision 30 (1998) 79)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import ndimage
from scipy.spatial import cKDTree

from atomreel.core.errors import InputError

Array = npt.NDArray[np.float64]
SCALES = (0.8, 0.9, 1.0, 1.125, 1.25)  # times the radius: blobs of one kind hardly differ in size


@dataclass(frozen=True)
class Blobs:
    """position: (N, 2) y, x [px], in reading order. score: (N,) height of the Gaussian that would answer alike,
    in units of the map. sigma: (N,) the scale at which the answer is strongest [px], σ of a Gaussian blob.
    pixel: (N, 2) the pixel of each maximum."""

    position: Array
    score: Array
    sigma: Array
    pixel: npt.NDArray[np.int64]


def find_blobs(
    values: npt.ArrayLike,
    radius: float,
    *,
    threshold: float = 0.05,
    scales: tuple[float, ...] = SCALES,
) -> Blobs:
    """Bright blobs of about `radius` [px] in a map (Y, X), such as the probability map of a network.

    radius: σ of the Gaussian that a blob resembles [px]. scales: of the filters, in units of the radius.
    threshold: least score, in units of the map. A blob A·exp(−r²/2s²) answers −σ²∇²(G_σ ∗ map) with
    2Aσ²s²/(σ² + s²)² at its centre, which is A/2 at σ = s, so the score is twice the strongest answer.
    Centres go to the top of a parabola through three pixels per axis; two are never within a radius of each other.
    Raises InputError on anything but a 2-D map of finite numbers and a positive radius.
    """
    data = _checked(values, radius, scales)
    sigmas = radius * np.sort(np.asarray(scales, dtype=float))
    answer = np.stack([-2 * s**2 * ndimage.gaussian_laplace(data, s, mode="nearest") for s in sigmas])
    best = answer.max(0)
    reach = max(1, round(radius))
    y, x = np.nonzero(
        (best == ndimage.maximum_filter(best, 2 * reach + 1, mode="nearest")) & (best > threshold)
    )
    y, x = _one_per_plateau(y, x, reach)
    position = np.stack([y + _top(best, y, x, axis=0), x + _top(best, y, x, axis=1)], axis=1)
    sigma = sigmas[answer[:, y, x].argmax(0)]
    return Blobs(position, best[y, x], sigma, np.stack([y, x], axis=1).astype(np.int64))


def _checked(values: npt.ArrayLike, radius: float, scales: tuple[float, ...]) -> Array:
    data = np.asarray(values, dtype=float)
    if data.ndim != 2 or not data.size or not np.isfinite(data).all():
        raise InputError(f"a map must be two-dimensional and finite, got shape {data.shape}")
    if not (np.isfinite(radius) and radius > 0):
        raise InputError(f"radius: a positive number of pixels is needed, got {radius}")
    if not scales or min(scales) <= 0:
        raise InputError(f"scales: positive multiples of the radius are needed, got {scales}")
    return data


def _one_per_plateau(
    y: npt.NDArray[np.intp], x: npt.NDArray[np.intp], reach: int
) -> tuple[npt.NDArray[np.intp], ...]:
    """Equal maxima within `reach` of each other count once: the first in reading order stays."""
    if len(y) == 0:
        return y, x
    ties = np.sort(
        cKDTree(np.stack([y, x], axis=1)).query_pairs(reach, p=np.inf, output_type="ndarray"), axis=1
    )
    keep = np.ones(len(y), dtype=bool)
    for first, second in ties[np.lexsort(ties.T[::-1])]:
        keep[second] &= not keep[first]
    return y[keep], x[keep]


def _top(best: Array, y: npt.NDArray[np.intp], x: npt.NDArray[np.intp], *, axis: int) -> Array:
    """Offset of the top of the parabola through a maximum and its two neighbours, 0 at the border."""
    at = (y, x)[axis]
    inner = (at > 0) & (at < best.shape[axis] - 1)
    dy, dx = ((1, 0), (0, 1))[axis]
    iy, ix = y[inner], x[inner]
    below, here, above = best[iy - dy, ix - dx], best[iy, ix], best[iy + dy, ix + dx]
    bend = np.minimum(below + above - 2 * here, -1e-12)
    offset = np.zeros(len(y))
    offset[inner] = np.clip((below - above) / (2 * bend), -0.5, 0.5)
    return offset
