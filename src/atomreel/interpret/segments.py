"""From maps of class probabilities to columns with a class: a watershed of the background map.

J. Madsen et al., Adv. Theory Simul. 1 (2018) 1800037, section 2.5, equations 7 and 8; F. Meyer, Signal Process. 38
(1994) 113 (watershed). Every minimum is a seed here, so that flooding and the path of steepest descent give the same basins.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import ndimage
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from atomreel.core.errors import InputError

Array = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
STEPS = ((0, 1), (1, -1), (1, 0), (1, 1))  # to half of the eight neighbours


@dataclass(frozen=True)
class Segments:
    """position: (N, 2) y, x [px], in reading order of `pixel`. probability: (N, K) of each class, rows sum to 1.
    likely: (N,) share of what is not background in all of the segment's probability. pixel: (N, 2) the minimum.
    labels: (Y, X) number of the segment, −1 for none."""

    position: Array
    probability: Array
    likely: Array
    pixel: Ints
    labels: Ints


def find_segments(
    probability: npt.ArrayLike, *, epsilon: float = 0.995, t: float = 0.5, reach: float = np.inf
) -> Segments:
    """Columns and their classes from probability maps (1 + K, Y, X), the background first; they sum to 1 at each pixel.

    A minimum of the background below `epsilon` seeds a segment, which ends where the background reaches `epsilon`, at
    the watershed to its neighbours, or `reach` [px] from the minimum. With sums over a segment of p₀ (background) and p_k:
    class probabilities are Σ p_k / Σ_k Σ p_k; the position is the centre of mass of 1 − p₀; a segment with
    Σ_k Σ p_k < t · Σ p₀ is dropped. A unit Gaussian that stands alone has a ratio of 0.23 at epsilon 0.995
    whatever its width, so t = 0.5 (the paper's) keeps it only among neighbours that narrow its segment: lower
    t or epsilon where columns stand apart. Raises InputError.
    """
    maps = _checked(probability, epsilon, t)
    background = maps[0]
    labels, pixel = _basins(background, epsilon)
    if np.isfinite(reach) and len(pixel):
        y, x = np.indices(background.shape)
        far = np.hypot(y - pixel[labels, 0], x - pixel[labels, 1]) > reach
        labels = np.where((labels >= 0) & far, -1, labels)
    inside = labels >= 0
    own, count = labels[inside], len(pixel)
    sums = np.stack([np.bincount(own, m[inside], count) for m in maps], axis=1)
    weight = 1 - background[inside]
    mass = np.bincount(own, weight, count)
    at = np.nonzero(inside)
    position = np.stack([np.bincount(own, weight * at[k], count) / mass for k in (0, 1)], axis=1)
    front = sums[:, 1:].sum(1)
    keep = front >= t * sums[:, 0]
    number = np.where(keep, np.cumsum(keep) - 1, -1)
    return Segments(
        position[keep],
        sums[keep, 1:] / front[keep, None],
        front[keep] / sums[keep].sum(1),
        pixel[keep],
        np.where(inside, number[labels] if count else -1, -1),
    )


def _checked(probability: npt.ArrayLike, epsilon: float, t: float) -> Array:
    maps = np.asarray(probability, dtype=float)
    if maps.ndim != 3 or len(maps) < 2 or not maps.size or not np.isfinite(maps).all():
        raise InputError(f"maps: (1 + classes, Y, X), finite, background first, got shape {maps.shape}")
    if maps.min() < -1e-6 or np.abs(maps.sum(0) - 1).max() > 1e-3:
        raise InputError("maps: probabilities that sum to 1 at each pixel are needed")
    if not (0 < epsilon <= 1 and t >= 0):
        raise InputError(f"epsilon lies between 0 and 1 and t is not negative, got {epsilon} and {t}")
    return maps


def _basins(height: Array, limit: float) -> tuple[Ints, Ints]:
    """(Y, X) number of the basin of each pixel below `limit`, −1 elsewhere, and the basins' lowest pixels (N, 2)."""
    shape = height.shape
    index = np.arange(height.size).reshape(shape)
    padded = np.pad(height, 1, constant_values=np.inf)
    best, lowest = np.array(index), np.array(height)
    for dy in (-1, 0, 1):
        for dx in (-1, 0, 1):
            near = padded[1 + dy : 1 + dy + shape[0], 1 + dx : 1 + dx + shape[1]]
            lower = near < lowest
            best, lowest = np.where(lower, index + dy * shape[1] + dx, best), np.where(lower, near, lowest)
    down = best.ravel()
    down = _level_ground(height, down)
    while not np.array_equal(further := down[down], down):
        down = further
    below = height.ravel() < limit
    root = down[below]
    seeds, number = np.unique(root, return_inverse=True)
    labels = np.full(height.size, -1, dtype=np.int64)
    labels[below] = number
    return labels.reshape(shape), np.stack(np.unravel_index(seeds, shape), axis=1).astype(np.int64)


def _level_ground(height: Array, down: Ints) -> Ints:
    """`down` with each plateau that has no way down made one minimum, and others sent to where they fall.

    Pixels of one plateau (equal and touching) point to their first pixel that falls, else to their first pixel.
    """
    still = down == np.arange(height.size)
    flat = still.reshape(height.shape)
    if not _touches_equal(height, flat).any():
        return down
    index = np.arange(height.size).reshape(height.shape)
    rows, columns = [], []
    for dy, dx in STEPS:
        here = (slice(0, height.shape[0] - dy), slice(max(0, -dx), height.shape[1] - max(0, dx)))
        there = (slice(dy, height.shape[0]), slice(max(0, dx), height.shape[1] - max(0, -dx)))
        equal = (height[here] == height[there]) & (flat[here] | flat[there])
        rows.append(index[here][equal])
        columns.append(index[there][equal])
    i, j = np.concatenate(rows), np.concatenate(columns)
    graph = coo_array((np.ones(len(i)), (i, j)), shape=(height.size, height.size))
    _, plateau = connected_components(graph, directed=False)
    # The first pixel of each plateau that falls, or else its first pixel.
    order = np.lexsort((np.arange(height.size), still, plateau))
    first = order[np.unique(plateau[order], return_index=True)[1]]
    target = first[plateau]
    return np.where(still, np.where(target == np.arange(height.size), down, target), down)


def _touches_equal(height: Array, flat: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """Minima with an equal neighbour."""
    ring = np.ones((3, 3), dtype=bool)
    ring[1, 1] = False
    return np.asarray(
        flat & (ndimage.minimum_filter(height, footprint=ring, mode="constant", cval=np.inf) == height)
    )
