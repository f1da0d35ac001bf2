"""The primitive cell and its motif from the positions of columns in a small patch.

A translation t belongs to the lattice when a column stands at p + t for (nearly) every column p, and looks
the same. The overlap of the set of columns with itself, shifted, is therefore one on the lattice and a
fraction (k of n motif sites) elsewhere: this is the Patterson function of the columns, counted only where
the shifted point still lies in the crystal, so that neither borders nor vacuum lower it.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt
from scipy.ndimage import gaussian_filter, maximum_filter
from scipy.spatial import Delaunay, cKDTree

from atomreel.core.lattice import reduce_vectors

Array = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]
TOLERANCE = 0.27  # of the nearest-neighbour distance: how far from p + t a column may stand
ENOUGH = 0.85  # share of the best overlap that a cell must reach: a motif of 7 with one gap would
UNLIKE = 0.2  # rise of the intensity difference, in units of its variance, that tells two sites apart
FILLED = 0.35  # share of the fullest motif site that makes another cluster a site
REACH = 5.2  # longest cell vector that is looked for, in mean spacings


@dataclass(frozen=True, eq=False)
class Columns:
    """Columns (N, 2) [px] with what a search asks of them. looks: (N,) brightness, local mean removed, or None."""

    points: Array
    looks: Array | None = None

    @cached_property
    def tree(self) -> cKDTree:
        return cKDTree(self.points)

    @cached_property
    def nearest(self) -> float:
        """Median distance to the nearest neighbour [px]."""
        return float(np.median(self.tree.query(self.points, k=2)[0][:, 1]))

    @cached_property
    def triangles(self) -> tuple[Delaunay, Bools]:
        """Triangulation, and which triangles lie in the crystal: those with no gap wider than usual."""
        mesh = Delaunay(self.points, qhull_options="QJ Qbb Qc")
        corner = self.points[mesh.simplices]
        sides = np.linalg.norm(corner - np.roll(corner, 1, axis=1), axis=2)
        radius = sides.prod(1) / np.maximum(4 * _areas(corner), 1e-9)
        return mesh, radius <= 2.5 * np.median(radius)

    @cached_property
    def spacing(self) -> float:
        """Root of the crystal's area per column [px]: a column has two triangles."""
        mesh, good = self.triangles
        return float(np.sqrt(2 * _areas(self.points[mesh.simplices[good]]).mean()))

    def covers(self, positions: Array) -> Bools:
        """Whether positions (…, 2) lie in the crystal."""
        mesh, good = self.triangles
        simplex = mesh.find_simplex(positions)
        return np.asarray((simplex >= 0) & good[simplex])


@dataclass(frozen=True, eq=False)
class Cell:
    """vectors: (2, 2) [px], reduced. sites: (S, 2) positions [px]. overlap: share of columns that repeat with
    the cell. chance: the overlap that columns without order would show. patch: rows of Columns used."""

    vectors: Array
    sites: Array
    overlap: float
    chance: float
    patch: npt.NDArray[np.int64]

    @property
    def score(self) -> float:
        """0 no better than chance … 1 every column repeats."""
        return max(0.0, (self.overlap - self.chance) / (1 - self.chance))


def find_cell(columns: Columns, patch: npt.NDArray[np.int64]) -> Cell | None:
    """The smallest cell that maps the columns of `patch` onto columns of the same kind; None if there is none."""
    centres = columns.points[patch]
    candidates = _candidates(columns, centres)
    if len(candidates) < 2:
        return None
    pairs = _pairs(candidates, minimum=0.5 * columns.spacing**2)
    if len(pairs) == 0:
        return None
    shell = np.stack([pairs[:, 0], pairs[:, 1], pairs[:, 0] + pairs[:, 1], pairs[:, 0] - pairs[:, 1]], 1)
    overlap, unlike = _overlap(columns, patch, shell.reshape(-1, 2))
    overlap, unlike = overlap.reshape(-1, 4).mean(1), unlike.reshape(-1, 4).mean(1)
    good = overlap >= ENOUGH * overlap.max()
    # Each shell compares about four pairs per column; its mean scatters by the root of twice their inverse number.
    good &= unlike <= unlike[good].min() + UNLIKE + 2.5 / np.sqrt(2 * len(patch))
    area = np.abs(np.linalg.det(pairs))
    near = good & (area <= 1.15 * area[good].min())
    best = int(np.flatnonzero(near)[np.argmax(overlap[near])])
    vectors = _polish(pairs[best], candidates, tolerance=TOLERANCE * columns.nearest)
    tolerance = TOLERANCE * columns.nearest
    vectors = reduce_vectors(vectors) @ vectors
    sites = find_motif(centres, vectors, tolerance=tolerance)
    looks = None if columns.looks is None else columns.looks[patch] / max(float(np.std(columns.looks)), 1e-30)
    finer = primitive(vectors, sites, _site_looks(centres, looks, vectors, sites), tolerance=tolerance)
    if abs(np.linalg.det(finer)) < 0.9 * abs(np.linalg.det(vectors)):
        vectors = _polish(finer, candidates, tolerance=tolerance)
        vectors = reduce_vectors(vectors) @ vectors
        sites = find_motif(centres, vectors, tolerance=tolerance)
    chance = min(0.9, np.pi * (TOLERANCE * columns.nearest / columns.spacing) ** 2)
    return Cell(vectors, sites, float(overlap[best]), chance, patch)


def find_motif(points: Array, vectors: Array, *, tolerance: float) -> Array:
    """(S, 2) positions of the sites of one cell, fullest first: clusters of the points folded into the cell."""
    inverse = np.linalg.inv(vectors)
    fractional = points @ inverse
    gaps = fractional[:, None] - fractional[None]
    gaps = (gaps - np.rint(gaps)) @ vectors
    close = (gaps**2).sum(2) < tolerance**2
    left = np.ones(len(points), dtype=bool)
    sites: list[Array] = []
    fullest = 0
    while left.any():
        counts = (close & left).sum(1)
        counts[~left] = 0
        centre = int(np.argmax(counts))
        members = close[centre] & left
        fullest = fullest or int(counts[centre])
        if counts[centre] < max(FILLED * fullest, 2):
            break
        shift = gaps[members, centre].mean(0)
        sites.append(points[centre] + shift)
        away = fractional - (points[centre] + shift) @ inverse
        left &= (((away - np.rint(away)) @ vectors) ** 2).sum(1) >= tolerance**2
        left &= ~members
    return np.array(sites) if sites else points[:1].copy()


def primitive(vectors: Array, sites: Array, looks: Array, *, tolerance: float) -> Array:
    """(2, 2) the smallest cell of a motif (S, 2): translations that map all of it onto itself join the lattice.

    looks: (S,) brightness of the sites in standard deviations of all columns; sites further apart than one differ.
    """
    inverse = np.linalg.inv(vectors)
    inner = []
    apart = (sites[1:] - sites[0]) @ inverse
    for shift in (apart - np.rint(apart)) @ vectors:
        gap = (sites[:, None] + shift - sites[None]) @ inverse
        length = np.linalg.norm((gap - np.rint(gap)) @ vectors, axis=2)
        image = length.argmin(1)
        if np.all(length.min(1) < tolerance) and np.all(np.abs(looks - looks[image]) < 1.0):
            inner.append(shift)
    if not inner:
        return vectors
    n = np.arange(-2, 3)
    cells = np.stack(np.meshgrid(n, n, indexing="ij"), -1).reshape(-1, 2) @ vectors
    points = (np.vstack([np.zeros((1, 2)), *inner])[:, None] + cells[None]).reshape(-1, 2)
    points = points[np.argsort(np.hypot(points[:, 0], points[:, 1]), kind="stable")]
    points = points[np.hypot(points[:, 0], points[:, 1]) > tolerance]
    first = points[0]
    area = np.abs(first[0] * points[:, 1] - first[1] * points[:, 0])
    return np.array([first, points[np.argmax(area > 0.7 * abs(np.linalg.det(vectors)) / (len(inner) + 1))]])


def _site_looks(points: Array, looks: Array | None, vectors: Array, sites: Array) -> Array:
    """(S,) median look of the columns nearest to each site."""
    if looks is None:
        return np.zeros(len(sites))
    gap = (points[:, None] - sites[None]) @ np.linalg.inv(vectors)
    nearest = np.linalg.norm((gap - np.rint(gap)) @ vectors, axis=2).argmin(1)
    return np.array(
        [np.median(looks[nearest == s]) if np.any(nearest == s) else 0.0 for s in range(len(sites))]
    )


def _candidates(columns: Columns, centres: Array) -> Array:
    """(C, 2) difference vectors that occur often, upper half-plane, shortest first."""
    limit = REACH * columns.spacing
    neighbours = columns.tree.query_ball_point(centres, limit)
    gaps = np.concatenate(
        [columns.points[n] - c for n, c in zip(neighbours, centres, strict=True)] or [np.zeros((0, 2))]
    )
    gaps = gaps[np.hypot(gaps[:, 0], gaps[:, 1]) > 0.5 * columns.nearest]
    gaps = np.concatenate([gaps, -gaps])
    step = 0.1 * columns.nearest
    size = 2 * int(np.ceil(limit / step)) + 3
    bins = np.rint(gaps / step).astype(int) + size // 2
    density = np.zeros((size, size))
    np.add.at(density, (bins[:, 0], bins[:, 1]), 1.0)
    density = gaussian_filter(density, 1.2, mode="constant")
    peaks = np.argwhere((density == maximum_filter(density, 5)) & (density > 0.2 * density.max()))
    vectors = (peaks - size // 2) * step
    vectors = vectors[(vectors[:, 0] > 1e-9) | ((np.abs(vectors[:, 0]) <= 1e-9) & (vectors[:, 1] > 0))]
    tree = cKDTree(gaps)
    members = tree.query_ball_point(vectors, TOLERANCE * columns.nearest)
    vectors = np.array(
        [np.median(gaps[m], axis=0) if m else v for m, v in zip(members, vectors, strict=True)], dtype=float
    )
    order = np.argsort(np.hypot(*vectors.reshape(-1, 2).T), kind="stable")
    return np.asarray(vectors.reshape(-1, 2)[order][:48], dtype=float)


def _pairs(candidates: Array, *, minimum: float) -> Array:
    """(P, 2, 2) reduced-looking pairs of candidates whose cell is not smaller than `minimum` [px²]."""
    i, j = np.triu_indices(len(candidates), 1)
    a, b = candidates[i], candidates[j]
    area = np.abs(a[:, 0] * b[:, 1] - a[:, 1] * b[:, 0])
    length = (a**2).sum(1)
    reduced = np.abs((a * b).sum(1)) <= 0.62 * length
    keep = (area >= minimum) & reduced
    order = np.argsort(area[keep], kind="stable")[:90]
    return np.stack([a[keep][order], b[keep][order]], axis=1)


def _overlap(columns: Columns, patch: npt.NDArray[np.int64], vectors: Array) -> tuple[Array, Array]:
    """For each vector (V, 2): share of the patch that lands on a column, and how unlike the two look (0 … 2)."""
    target = columns.points[patch][:, None] + vectors[None]
    target = np.concatenate([target, columns.points[patch][:, None] - vectors[None]])
    distance, partner = columns.tree.query(target)
    hit = distance < TOLERANCE * columns.nearest
    counted = hit | columns.covers(target)
    # A few lucky hits at a corner of a small particle are no proof: two misses are added to all.
    share = hit.sum(0) / (counted.sum(0) + 2.0)
    if columns.looks is None:
        return share, np.ones_like(share)
    own = np.tile(columns.looks[patch], 2)[:, None]
    gap = np.where(hit, (own - columns.looks[partner]) ** 2, 0.0).sum(0) / np.maximum(hit.sum(0), 1)
    return share, gap / max(2 * float(np.var(columns.looks)), 1e-30)


def _polish(vectors: Array, candidates: Array, *, tolerance: float) -> Array:
    """The pair that fits all frequent differences which are whole numbers of it: longer ones measure better."""
    for _ in range(3):
        index = np.rint(candidates @ np.linalg.inv(vectors))
        gap = np.linalg.norm(candidates - index @ vectors, axis=1)
        use = (gap < tolerance) & np.any(index != 0, axis=1)
        if np.linalg.matrix_rank(index[use]) < 2:
            return vectors
        vectors = np.linalg.lstsq(index[use], candidates[use], rcond=None)[0]
    return vectors


def _areas(corner: Array) -> Array:
    u, v = corner[:, 1] - corner[:, 0], corner[:, 2] - corner[:, 0]
    return np.asarray(np.abs(u[:, 0] * v[:, 1] - u[:, 1] * v[:, 0]) / 2)
