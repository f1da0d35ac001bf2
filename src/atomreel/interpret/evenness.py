"""What a lattice says about the errors of positions: columns that stand opposite each other have their middle where they should.

If c is a column and a, b two others with a + b ≈ 2c, the sum a + b − 2c is zero in a lattice, however it is turned, sheared or
bent on a larger scale. Its scatter is made of errors and of true displacements, so it bounds the errors from above.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
from scipy.spatial import cKDTree

from atomreel.interpret.loops import compiled

Array = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
NEIGHBOURS = 24  # of a centre, among which opposite ones are looked for
# in typical distances of nearest columns:
NEAR, FAR = 1.6, 3.6  # how far off they are: nearer ones share correlated noise, and the errors that it makes
SAME_ROW = 0.5  # columns as near in y were scanned together, and share what jitter and noise of lines did
OPPOSITE = 0.5  # how far from its place the second may be; a random column is as far on average
CENTRES = 700  # columns that are looked at: enough for a spread to 3 %
LEAST = 20  # opposite pairs from which on they say something
ROUNDS = 8  # of mending a spread that is cut off: each halves what is left, or better
MEDIAN_SQUARE = 2 * math.log(2)  # of the length of two standard normal variables


def opposite_pairs(points: Array) -> tuple[Ints, float]:
    """(M, 3) numbers of a centre and of two columns on opposite sides of it, and how far off the middle of those may be
    twice over [px]. points: (N, 2)."""
    if len(points) < 3:
        return np.zeros((0, 3), dtype=np.int64), 0.0
    tree = cKDTree(points)
    centre = np.arange(0, len(points), -(-len(points) // CENTRES))
    distance, near = tree.query(points[centre], k=min(NEIGHBOURS + 1, len(points)))
    typical = float(np.median(distance[:, 1]))
    points, pairs = np.ascontiguousarray(points), np.empty((near.size, 3), np.int64)
    scale = typical * np.array([NEAR, FAR, SAME_ROW, OPPOSITE])
    return pairs[: _opposite(points, (centre, near, scale), pairs)], OPPOSITE * typical


@compiled
def _opposite(points, given, out):
    """Of each neighbour of a centre the one that is nearest to the place opposite, each pair once: how many."""
    centre, near, (nearest, farthest, row, opposite) = given
    count = 0
    for i in range(len(centre)):
        c = centre[i]
        y, x = points[c, 0], points[c, 1]
        for one in near[i, 1:]:
            down, along = points[one, 0] - y, points[one, 1] - x
            if down * down + along * along > farthest * farthest:
                break
            if abs(down) < row or down * down + along * along < nearest * nearest:
                continue
            best, least = -1, opposite * opposite
            for other in near[i, 1:]:
                off, aside = points[other, 0] - y + down, points[other, 1] - x + along
                if other != one and off * off + aside * aside < least:
                    best, least = other, off * off + aside * aside
            if one < best:
                out[count, 0], out[count, 1], out[count, 2] = c, one, best
                count += 1
    return count


def scatter_over_claim(points: Array, errors: Array) -> float:
    """How large the scatter of opposite pairs is beside what errors (N, 2) of points (N, 2) make of it: a ratio of standard deviations.

    By medians, and larger by one standard deviation of the ratio's own. Below 1 the errors are claimed too large; above 1 the columns may
    be displaced in truth. Infinite where too few columns stand opposite each other, or where they scatter as far as is looked.
    """
    triple, farthest = opposite_pairs(points)
    if len(triple) < LEAST:
        return float("inf")
    middle, one, other = triple.T
    off = points[one] + points[other] - 2 * points[middle]
    variance = errors[one] ** 2 + errors[other] ** 2 + 4 * errors[middle] ** 2
    good = (variance > 0).all(1)
    if not good.any():
        return float("inf")
    square = np.median((off[good] ** 2 / variance[good]).sum(1)) / MEDIAN_SQUARE
    more = _uncut(float(np.median((off**2).sum(1))) / MEDIAN_SQUARE, farthest)
    return float(np.sqrt(square * more)) * (1 + len(np.unique(middle)) ** -0.5)


def _uncut(square: float, farthest: float) -> float:
    """By which the variance of a normal scatter in the plane is larger than `square`, the one seen of what lies within `farthest`.

    Of x² + y² of such a scatter with variance v, cut off at R², the median is −2v ln(½ + ½ exp(−R²/2v)) instead of 2v ln 2. As v
    grows that ends at R²/2: there is no more to learn, and from v = R² on the answer is infinity.
    """
    variance = square
    for _ in range(ROUNDS):
        seen = -math.log(0.5 + 0.5 * math.exp(-(farthest**2) / max(2 * variance, 1e-300))) / math.log(2)
        variance = square / seen
        if variance >= farthest**2:
            return math.inf
    return variance / square if square > 0 else 1.0
