"""How much of what stands around a place stands there again around its neighbours: what a lattice says about a candidate.

If x is a column of a lattice and c another one, t = c − x leads from the columns near x to other columns. For a place that is none,
noise or the hole of a honeycomb, no such t leads anywhere, or half of the columns only. Nothing is assumed about the
lattice, and only what is near counts: grains, strain and drift do not disturb it.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
from scipy.spatial import cKDTree

Array = npt.NDArray[np.float64]
Float32 = npt.NDArray[np.float32]
LIKELY = 0.1  # least score of a candidate that others are compared with
REACH = 3.2  # spacings: how far a neighbour may be
TRIED = 10  # neighbours of a place from which translations are taken
SHIFTED = 14  # neighbours to which each is applied
BEST = 4  # translations that count: those which agree best; the unit cell has no more independent ones
SAME = 0.2  # spacings: nearer than this it is the same place
FEW = 0.5  # columns: sum of scores by which agreement among few is shrunk towards none
STEPS = 8  # raster points in a spacing
CHUNK, TILE = 4096, 100  # places at a time, in a tile of so many spacings: bounds the memory


def repeats(
    position: Array, score: Array, *, spacing: float, which: npt.NDArray[np.int_] | None = None
) -> Array:
    """(K, 2) agreement of places `which` (all) of candidates (N, 2) [px] with what stands around them, 0…1.

    score: (N,) probability that each is a column. spacing: typical distance of columns [px]. For a neighbour c of x, t = c − x and
    a(t) = Σ w m(s + t) / (FEW + Σ w), the sums over the neighbours s of x with scores w, m(y) being the greatest score
    within SAME of y; s + t = x is left out, as nothing speaks for itself. First column: mean of the BEST largest w_c · a,
    second: of the BEST largest a.
    """
    which = np.arange(len(position)) if which is None else which
    likely = np.flatnonzero(score > LIKELY)
    if len(likely) <= BEST or not len(which):
        return np.zeros((len(which), 2))
    at, weight = position[likely], score[likely].astype(np.float32)
    tree, step = cKDTree(at), spacing / STEPS
    margin = (2 * REACH + 1) * spacing  # as far as two translations lead
    own = np.full(len(position), -1)
    own[likely] = np.arange(len(likely))
    many = min(max(TRIED, SHIFTED) + 1, len(likely))
    out = np.empty((len(which), 2))
    for here in _pieces(position[which], spacing):
        place = position[which[here]]
        ends = place.min(0) - margin, place.max(0) + margin
        inside = ((at >= ends[0]) & (at <= ends[1])).all(1)
        corner = ends[0] - step
        raster = _raster(
            (at[inside] - corner) / step, weight[inside], shape=np.ceil((ends[1] - corner) / step) + 2 * STEPS
        )
        distance, index = tree.query(place, k=many, distance_upper_bound=REACH * spacing)
        near = np.isfinite(distance) & (index != own[which[here], None])
        index = np.where(near, index, 0)
        away = np.where(near[..., None], at[index] - place[:, None], 0)
        w = np.where(near, weight[index], 0).astype(np.float32)
        out[here] = _agreement(raster, (place - corner) / step, (away / step).astype(np.float32), w)
    return out


def _pieces(place: Array, spacing: float) -> Iterator[npt.NDArray[np.intp]]:
    """Places in tiles of the field, CHUNK at most at a time."""
    tile = np.floor((place - place.min(0)) / (TILE * spacing)).astype(np.int64)
    key = tile[:, 0] * (int(tile[:, 1].max()) + 1) + tile[:, 1]
    order = np.argsort(key, kind="stable")
    for some in np.split(order, np.flatnonzero(np.diff(key[order])) + 1):
        for first in range(0, len(some), CHUNK):
            yield some[first : first + CHUNK]


def _agreement(raster: Float32, place: Array, around: Float32, weight: Float32) -> Array:
    """(K, 2), see `repeats`. place: (K, 2) raster points; around: (K, M, 2) from there to neighbours of `weight` (K, M)."""
    y, x = (around[:, :TRIED, None, k] + around[:, None, :SHIFTED, k] for k in (0, 1))
    counted = np.where(y * y + x * x > (2 * SAME * STEPS) ** 2, weight[:, None, :SHIFTED], 0)
    y += place[:, 0, None, None].astype(np.float32) + np.float32(0.5)
    x += place[:, 1, None, None].astype(np.float32) + np.float32(0.5)
    there = raster.ravel().take(y.astype(np.int32) * raster.shape[1] + x.astype(np.int32))
    agreed = (counted * there).sum(2) / (FEW + counted.sum(2))
    agreed = np.where(weight[:, :TRIED] > 0, agreed, 0)
    return np.stack([_best(agreed * weight[:, :TRIED]), _best(agreed)], 1).astype(float)


def _best(values: Float32) -> Float32:
    most = min(BEST, values.shape[1])
    return np.asarray(np.partition(values, -most, axis=1)[:, -most:].sum(1) / BEST)


def _raster(at: Array, weight: Float32, *, shape: Array) -> Float32:
    """The greatest weight within SAME spacings of `at` (N, 2), at every raster point."""
    rows, cols = (int(n) for n in shape)
    radius = SAME * STEPS
    grid = np.arange(-int(np.ceil(radius)), int(np.ceil(radius)) + 1)
    whole = np.rint(at).astype(np.intp)
    y, x = (whole[:, k, None] + grid for k in (0, 1))
    square = ((y - at[:, :1]) ** 2)[:, :, None] + ((x - at[:, 1:]) ** 2)[:, None, :]
    value = np.where(square <= radius**2, weight[:, None, None], 0).astype(np.float32)
    flat = np.zeros(rows * cols, dtype=np.float32)
    np.maximum.at(flat, (y[:, :, None] * cols + x[:, None, :]).ravel(), value.ravel())
    return flat.reshape(rows, cols)
