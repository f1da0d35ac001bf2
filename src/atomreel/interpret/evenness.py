"""What a lattice says about the errors of positions: columns that stand opposite each other have their middle where they should.

If c is a column and a, b two others with a + b ≈ 2c, the sum a + b − 2c is zero in a lattice, however it is turned, sheared or
bent on a larger scale. Its scatter is made of errors and of true displacements, so it bounds the errors from above.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy.spatial import cKDTree

from atomreel.interpret.loops import compiled

Array = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
NEIGHBOURS = 14  # of a centre, among which opposite ones are looked for
REACH = 3.2  # typical distances of nearest columns: how far off they may be
OPPOSITE = (
    0.5  # typical distances: how far from its place the second may be; a random column is as far on average
)
CENTRES = 300  # columns that are looked at: enough for a spread to 3 %
LEAST = 20  # opposite pairs from which on they say something
CUT = 1.04  # by which what lies within OPPOSITE scatters less than all, in noisy images (simulated; benchmarks/bench_errors.py)
MEDIAN_SQUARE = 0.4549  # of a standard normal variable


def opposite_pairs(points: Array) -> Ints:
    """(M, 3) numbers of a centre and of two columns on opposite sides of it. points: (N, 2)."""
    if len(points) < 3:
        return np.zeros((0, 3), dtype=np.int64)
    tree = cKDTree(points)
    centre = np.arange(0, len(points), -(-len(points) // CENTRES))
    distance, near = tree.query(points[centre], k=min(NEIGHBOURS + 1, len(points)))
    typical = float(np.median(distance[:, 1]))
    points, pairs = np.ascontiguousarray(points), np.empty((near.size, 3), np.int64)
    return pairs[: _opposite(points, (centre, near, REACH * typical, OPPOSITE * typical), pairs)]


@compiled
def _opposite(points, given, out):
    """Of each neighbour of a centre the one that is nearest to the place opposite, each pair once: how many."""
    centre, near, reach, opposite = given
    count = 0
    for i in range(len(centre)):
        c = centre[i]
        y, x = points[c, 0], points[c, 1]
        for one in near[i, 1:]:
            down, along = points[one, 0] - y, points[one, 1] - x
            if down * down + along * along > reach * reach:
                break
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
    be displaced in truth. Infinite where too few columns stand opposite each other.
    """
    triple = opposite_pairs(points)
    if len(triple) < LEAST:
        return float("inf")
    middle, one, other = triple.T
    off = points[one] + points[other] - 2 * points[middle]
    variance = errors[one] ** 2 + errors[other] ** 2 + 4 * errors[middle] ** 2
    good = variance > 0
    if not good.any():
        return float("inf")
    ratio = float(np.sqrt(np.median(off[good] ** 2 / variance[good]) / MEDIAN_SQUARE))
    return CUT * ratio * (1 + len(np.unique(middle)) ** -0.5)
