"""Columns just outside the field, of which only the tails are seen: where the lattice near the border goes on.

Left out of a joint fit, their light is taken for background, and all columns within a few spacings of the border come out too
dim, the more the weaker a column is beside its neighbours.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components
from scipy.spatial import cKDTree

from atomreel.interpret.loops import compiled
from atomreel.interpret.refine import Refined, checked, refine_columns

Array = npt.NDArray[np.float64]
BAND = 1.1  # distances of the sixth neighbour from the border: the columns that say how the lattice goes on
REACH = 0.75  # spacings beyond the border: what stands further off gives no light to the field
INNER = 0.15  # spacings within the border: what a finder easily overlooks there counts as outside
WIDER = 2.0  # the same, of those that they are compared with beyond that
ENOUGH = 300  # columns for a median distance
PARTNERS = 9  # neighbours that a column's surroundings are compared with
AROUND = 8  # neighbours that are its surroundings
SEEN = 14  # neighbours of the partner among which they are looked for
SAME = 0.2  # spacings: nearer than this it is the same place
AGREE = 0.7  # share of the surroundings that must stand around the partner too
FEWEST = 3  # of them that lie in the field
APART = 0.5  # spacings from all other columns


def columns_outside(positions: npt.ArrayLike, shape: tuple[int, int]) -> Array:
    """(M, 2) y, x [px] of columns beyond the border of a field (Y, X), up to REACH spacings, by the columns (N, 2) in it.

    If most of what stands around column x stands around another one, c = x + t, too, then what else stands around c also stands
    around x, be it outside: its place there less t. Two such pairs at least must name a place. Nothing where columns do not repeat.
    """
    at = np.ascontiguousarray(positions, dtype=float)
    if len(at) <= SEEN:
        return np.zeros((0, 2))
    tree = cKDTree(at)
    spacing, sixth = np.median(tree.query(at[:: -(-len(at) // ENOUGH)], k=7)[0][:, [1, 6]], axis=0)
    edge = np.minimum(at, np.array(shape) - 1 - at).min(axis=1)
    looked = np.flatnonzero(edge < (BAND + WIDER) * sixth)
    near = np.full((len(at), SEEN + 1), -1)
    near[looked] = tree.query(at[looked], k=SEEN + 1)[1]
    rim = looked[edge[looked] < BAND * sixth]
    named = np.empty((len(rim) * PARTNERS * AROUND, 2))
    band = SAME * spacing, INNER * spacing, REACH * spacing
    named = named[: _named(at, (rim, near, np.array(shape) - 1.0, band), named)]
    named = named[tree.query(named)[0] > APART * spacing] if len(named) else named
    return _gathered(named, SAME * spacing, apart=APART * spacing)


@compiled
def _named(at, given, out):
    """Places beyond the border that columns of the rim and their partners name, written to `out`: how many."""
    rim, near, last, (same, inner, reach) = given
    count = 0
    for x in rim:
        for p in range(1, PARTNERS + 1):
            c = near[x, p]
            down, along = at[c, 0] - at[x, 0], at[c, 1] - at[x, 1]
            seen, hits = 0, 0
            for s in range(1, AROUND + 1):  # what surrounds x, taken to c
                y, z = at[near[x, s], 0] + down, at[near[x, s], 1] + along
                if min(y, z, last[0] - y, last[1] - z) <= same:
                    continue
                seen += 1
                for k in near[c]:
                    if k >= 0 and (at[k, 0] - y) ** 2 + (at[k, 1] - z) ** 2 < same * same:
                        hits += 1
                        break
            if seen < FEWEST or hits < AGREE * seen:
                continue
            for s in range(1, AROUND + 1):  # what surrounds c, taken to x
                y, z = at[near[c, s], 0] - down, at[near[c, s], 1] - along
                if -reach < min(y, z, last[0] - y, last[1] - z) < inner:
                    out[count, 0], out[count, 1] = y, z
                    count += 1
    return count


def refine_with_outside(image: npt.ArrayLike, positions: npt.ArrayLike, *, bright: bool = True) -> Refined:
    """`refine_columns` with the columns just outside the field among them; its table has those of `positions` (N, 2) alone.

    Raises InputError as `refine_columns` does.
    """
    data, at = checked(image, positions)
    outer = columns_outside(at, (data.shape[0], data.shape[1]))
    done = refine_columns(data, np.concatenate([at, outer]), bright=bright)
    return replace(done, table=done.table.iloc[: len(at)]) if len(outer) else done


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
    mean = mean[order[size[order] > 1]]
    near = cKDTree(mean).query_pairs(apart, output_type="ndarray") if len(mean) else np.zeros((0, 2), int)
    kept = np.ones(len(mean), bool)
    for larger, smaller in np.sort(near, axis=1)[np.lexsort(near.max(1)[None])]:
        kept[smaller] &= not kept[larger]
    return mean[kept]
