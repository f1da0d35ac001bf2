"""Rings of a network such as graphene: the faces of its graph of bonds, drawn in the plane."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from atomreel.core.errors import InputError
from atomreel.core.tables import check_table, empty_table
from atomreel.interpret.graph import BondGraph

Array = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Rings:
    """table: rings (see core.tables), one row per ring. members: for each row, the rows of its atoms in the table
    of atoms, counter-clockwise as seen on screen, beginning with the lowest."""

    table: pd.DataFrame
    members: tuple[Ints, ...]


def find_rings(
    atoms: pd.DataFrame, graph: BondGraph, *, shape: tuple[int, int] | None = None, largest: int = 12
) -> Rings:
    """Every ring of at most `largest` members, for each frame.

    atoms: the table that the graph was made of, y, x [px]. The bonds of `find_bonds` do not cross, so they cut
    the plane into faces; bonds with the same face on both sides (loose ends, bridges) do not take part. A closed
    face is a ring of the network: no atom of it can lie outside the field, so each is counted rightly, but wide
    ones are cut by the border more often. weight: YX / ((Y − h)(X − w)) for a ring h × w px large in a field
    shape = (Y, X) sums to the unbiased number (Lantuéjoul, J. Microsc. 114 (1978) 71); 1 where no shape is given.
    p: share of the graph's draws in which all bonds of the ring are there and no other joins two members.
    A face of more members is a hole, no ring. Raises InputError when the graph was made of another table, largest < 3.
    """
    if len(atoms) != len(graph.atoms):
        raise InputError(f"the graph was made of {len(graph.atoms)} atoms, the table has {len(atoms)}")
    if largest < 3:
        raise InputError(f"largest: a ring has at least 3 members, got {largest}")
    frames = graph.bonds["frame"].to_numpy()
    ends = graph.bonds[["first", "second"]].to_numpy(np.int64)
    found: list[tuple[int, Ints]] = []
    for frame in np.unique(frames):
        rings = [ring for ring in _faces(ends[frames == frame], graph.points) if len(ring) <= largest]
        found += [(int(frame), ring) for ring in sorted(rings, key=lambda ring: tuple(ring))]
    return Rings(_table(found, atoms, graph, shape), tuple(ring for _, ring in found))


def ring_statistics(rings: Rings, *, sizes: tuple[int, int] = (4, 9)) -> pd.DataFrame:
    """How many rings of each size there are in each frame.

    Columns: frame, size (from sizes[0] to sizes[1]), count, count_err (1σ that the position errors leave, from p),
    share (of all rings found, corrected for the border by the weights), share_err (1σ, counting statistics).
    """
    if not 3 <= sizes[0] <= sizes[1]:
        raise InputError(f"sizes: the smallest and the largest size, at least 3, got {sizes}")
    rows = []
    for frame, own in rings.table.groupby("frame"):
        weight = own["weight"].to_numpy()
        freedom = weight.sum() ** 2 / (weight**2).sum()
        for size in range(sizes[0], sizes[1] + 1):
            chosen = (own["size"] == size).to_numpy()
            p = own["p"].to_numpy()[chosen]
            share = weight[chosen].sum() / weight.sum()
            # one more ring in either pan, so that a share of none or all has an error too
            middle = (share * freedom + 0.5) / (freedom + 1)
            rows.append(
                {
                    "frame": frame,
                    "size": size,
                    "count": int(chosen.sum()),
                    "count_err": float(np.sqrt((p * (1 - p)).sum())),
                    "share": share,
                    "share_err": float(np.sqrt(middle * (1 - middle) / (freedom + 1))),
                }
            )
    return pd.DataFrame(rows, columns=["frame", "size", "count", "count_err", "share", "share_err"])


def rings_around(rings: Rings, atom: int) -> pd.DataFrame:
    """The rings that an atom (its row in the table of atoms) is a member of: rows of the table, counter-clockwise
    as seen on screen around their common middle."""
    rows = [i for i, ring in enumerate(rings.members) if atom in ring]
    own = rings.table.iloc[rows]
    direction = np.arctan2(-(own["y"] - own["y"].mean()), own["x"] - own["x"].mean())
    return own.iloc[np.argsort(direction.to_numpy(), kind="stable")]


def _faces(ends: Ints, points: Array) -> list[Ints]:
    """Bounded faces without repeated atoms, counter-clockwise on screen; loose ends and bridges are taken off first."""
    while len(ends):
        start, face = _walk(ends, points)
        half = len(ends)
        same = face[:half] == face[half:]
        if not same.any():
            return _polygons(start, face, points)
        ends = ends[~same]
    return []


def _walk(ends: Ints, points: Array) -> tuple[Ints, Ints]:
    """Start atoms of the half-bonds (2B,) in the order of the walk's own numbering, and the face left of each.

    At its end a half-bond turns into the next bond clockwise from where it came: that keeps the face on its left.
    """
    start, stop = np.concatenate([ends, ends[:, ::-1]]).T
    step = points[stop] - points[start]
    direction = np.arctan2(-step[:, 0], step[:, 1])
    order = np.lexsort((direction, start))
    place = np.empty(len(order), np.int64)
    place[order] = np.arange(len(order))
    first = np.searchsorted(start[order], start)
    count = np.bincount(start)[start]
    before = order[first + (place - first - 1) % count]
    half = len(ends)
    twin = np.concatenate([np.arange(half, 2 * half), np.arange(half)])
    following = before[twin]
    face = np.full(2 * half, -1, np.int64)
    number = 0
    for edge in range(2 * half):
        at = edge
        while face[at] < 0:
            face[at] = number
            at = following[at]
        number += face[edge] == number
    return np.stack([start, following], axis=1), face


def _polygons(walk: Ints, face: Ints, points: Array) -> list[Ints]:
    """Atoms of each face with a positive area, from the lowest number on."""
    start, following = walk.T
    out = []
    for first in np.unique(face, return_index=True)[1]:
        ring = [int(start[first])]
        at = following[first]
        while at != first:
            ring.append(int(start[at]))
            at = following[at]
        member = np.array(ring, dtype=np.int64)
        if len(set(ring)) == len(ring) and _area(points[member]) > 0:
            out.append(np.roll(member, -int(member.argmin())))
    return out


def _area(corner: Array) -> float:
    """Signed area of a polygon (N, 2) of (y, x), positive when counter-clockwise on screen (y down)."""
    y, x = corner.T
    return float(0.5 * np.sum(np.roll(x, -1) * y - x * np.roll(y, -1)))


def _table(
    found: list[tuple[int, Ints]], atoms: pd.DataFrame, graph: BondGraph, shape: tuple[int, int] | None
) -> pd.DataFrame:
    if not found:
        return empty_table("rings")
    where = atoms[["y", "x"]].to_numpy(float)
    has = "y_err" in atoms and "x_err" in atoms
    errors = atoms[["y_err", "x_err"]].to_numpy(float) if has else np.full(where.shape, np.nan)
    number = {(int(i), int(j)): k for k, (i, j) in enumerate(np.sort(graph.candidates, axis=1))}
    rows, begin = [], {frame: i for i, (frame, _) in reversed(list(enumerate(found)))}
    for i, (frame, ring) in enumerate(found):
        middle = where[ring].mean(0)
        error = np.sqrt((errors[ring] ** 2).sum(0)) / len(ring)
        row = {
            "frame": frame,
            "ring": i - begin[frame],
            "size": len(ring),
            "y": middle[0],
            "x": middle[1],
        }
        row |= {"y_err": error[0], "x_err": error[1], "area_px2": _area(where[ring])}
        if graph.unit == "A":
            row["area_A2"] = _area(graph.points[ring])
        known = np.isfinite(error).all()
        rows.append(
            row
            | {"p": _sure(ring, number, graph) if known else np.nan, "weight": _weight(where[ring], shape)}
        )
    return check_table(pd.DataFrame(rows), "rings")


def _sure(ring: Ints, number: dict[tuple[int, int], int], graph: BondGraph) -> float:
    n = len(ring)
    there = np.ones(graph.drawn.shape[1], dtype=bool)
    for a in range(n):
        for b in range(a + 1, n):
            i, j = sorted((int(ring[a]), int(ring[b])))
            k = number.get((i, j))
            if k is not None:
                side = b - a in (1, n - 1)
                there &= graph.drawn[k] == side
    return float(there.mean())


def _weight(corner: Array, shape: tuple[int, int] | None) -> float:
    if shape is None:
        return 1.0
    extent = np.ptp(corner, axis=0) / np.asarray(shape)
    return float(1 / np.prod(np.maximum(1 - extent, 1e-3)))
