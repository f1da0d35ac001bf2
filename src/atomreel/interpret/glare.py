"""How well the brightness of single columns is known: counting noise, and light from a neighbour that is unusually bright.

A fit gives all columns one peak shape. A probe's tails reach the next columns; what is usual of it is part of every column's brightness, but a
heavy atom sends more than is usual to its neighbours.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy.spatial import cKDTree

Array = npt.NDArray[np.float64]
SHARE = 0.05  # of what a neighbour has more than usual; 0.01 to 0.1 in simulated graphene with Si by the probe's tails, 0.03 on a real Si
REACH = 1.5  # nearest-site distances: as far as first neighbours


def brightness_error(points: Array, excess: Array, claimed: Array, *, spacing: float) -> Array:
    """(N,) 1σ of the brightness of columns at `points` (N, 2).

    excess: (N,) by how much each is brighter than is usual where it stands, NaN where unknown. claimed: (N,) 1σ of the
    fit, NaN where there is none. spacing: nearest-site distance [px].
    """
    own = np.where(np.isfinite(claimed), claimed, 0.0)
    lit = np.where(np.isfinite(excess), np.maximum(excess, 0), 0.0)
    if len(points) < 2:
        return own
    pairs = cKDTree(points).query_pairs(REACH * spacing, output_type="ndarray")
    light = np.zeros(len(points))
    for one, other in (pairs.T, pairs[:, ::-1].T):
        np.maximum.at(light, one, lit[other])
    return np.asarray(np.hypot(own, SHARE * light))
