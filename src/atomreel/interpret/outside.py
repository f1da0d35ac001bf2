"""Columns just outside the field, of which only the tails are seen: where the lattice near the border goes on.

Left out of a joint fit, their light is taken for background, and all columns within a few spacings of the border come out too
dim (by a fifth for S beside W in WS2, the more the weaker a column is beside its neighbours).
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components
from scipy.spatial import cKDTree

from atomreel.interpret.refine import Refined, refine_columns

Array = npt.NDArray[np.float64]
BAND = 1.1  # distances of the sixth neighbour from the border: the columns that say how the lattice goes on
REACH = 0.75  # spacings beyond the border: what stands further off gives no light to the field
INNER = 0.15  # spacings within the border: what a finder easily overlooks there counts as outside
PARTNERS = 9  # neighbours that a column's surroundings are compared with
AROUND = 8  # neighbours that are its surroundings
SAME = 0.2  # spacings: nearer than this it is the same place
AGREE = 0.7  # share of the surroundings that must stand around the partner too
FEWEST = 3  # of them that lie in the field
APART = 0.5  # spacings from all other columns


def columns_outside(positions: npt.ArrayLike, shape: tuple[int, int]) -> Array:
    """(M, 2) y, x [px] of columns beyond the border of a field (Y, X), up to REACH spacings, by the columns (N, 2) in it.

    If most of what stands around column x stands around another one, c = x + t, too, then what else stands around c also stands
    around x, be it outside: its place there less t. Two such pairs at least must name a place. Nothing where columns do not repeat.
    """
    at = np.asarray(positions, dtype=float)
    if len(at) <= PARTNERS:
        return np.zeros((0, 2))
    tree = cKDTree(at)
    distance, near = tree.query(at, k=PARTNERS + 1)
    spacing = float(np.median(distance[:, 1]))
    edge = np.minimum(at, np.array(shape) - 1 - at).min(axis=1)
    rim = np.flatnonzero(edge < BAND * float(np.median(distance[:, 6])))
    rim = rim[np.isfinite(distance[rim]).all(axis=1)]
    x, c = np.repeat(rim, PARTNERS), near[rim, 1:].ravel()
    step = at[c] - at[x]
    there = at[near[x, 1 : AROUND + 1]] + step[:, None]
    inside = _depth(there, shape) > SAME * spacing
    hit = np.isfinite(tree.query(there, distance_upper_bound=SAME * spacing)[0])
    seen = inside.sum(axis=1)
    same = (seen >= FEWEST) & ((hit & inside).sum(axis=1) >= AGREE * seen)
    named = (at[near[c[same], 1 : AROUND + 1]] - step[same, None]).reshape(-1, 2)
    depth = _depth(named, shape)
    named = named[(depth < INNER * spacing) & (depth > -REACH * spacing)]
    named = named[tree.query(named)[0] > APART * spacing] if len(named) else named
    return _gathered(named, SAME * spacing, apart=APART * spacing)


def refine_with_outside(image: npt.ArrayLike, positions: npt.ArrayLike, *, bright: bool = True) -> Refined:
    """`refine_columns` with the columns just outside the field among them; its table has those of `positions` (N, 2) alone."""
    data, at = np.asarray(image), np.asarray(positions, dtype=float)
    outer = columns_outside(at, (data.shape[0], data.shape[1]))
    done = refine_columns(data, np.concatenate([at, outer]), bright=bright)
    return replace(done, table=done.table.iloc[: len(at)]) if len(outer) else done


def _depth(places: Array, shape: tuple[int, int]) -> Array:
    """Distance from the nearest border, negative outside."""
    return np.asarray(np.minimum(places, np.array(shape) - 1 - places).min(axis=-1))


def _gathered(places: Array, reach: float, *, apart: float) -> Array:
    """Means of the groups of two places or more that hang together; of two groups that are not `apart` the larger."""
    if not len(places):
        return np.zeros((0, 2))
    pairs = cKDTree(places).query_pairs(reach, output_type="ndarray")
    graph = coo_matrix((np.ones(len(pairs)), (pairs[:, 0], pairs[:, 1])), shape=(len(places),) * 2)
    count, label = connected_components(graph, directed=False)
    size = np.bincount(label)
    mean = np.stack([np.bincount(label, places[:, k], count) for k in (0, 1)], axis=1) / size[:, None]
    order = np.argsort(-size, kind="stable")
    order = order[size[order] > 1]
    kept: list[int] = []
    for group in order:
        if not kept or np.hypot(*(mean[kept] - mean[group]).T).min() > apart:
            kept.append(int(group))
    return mean[np.sort(kept)] if kept else np.zeros((0, 2))
