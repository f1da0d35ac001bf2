"""Strain maps: how the lattice around each point differs from the reference lattice."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.spatial import cKDTree

from atomreel.core.errors import InputError
from atomreel.core.field import Field
from atomreel.core.lattice import Lattice

Array = npt.NDArray[np.float64]
NAMES = ("exx", "eyy", "exy", "rotation_deg")
CLOSE = 0.4  # of the distance between sites: columns further from every site take no part
FEWEST = 6
SPAN = 1e-9  # least ratio of the two moments of inertia of the columns around a point


def map_strain(
    atoms: pd.DataFrame,
    lattice: Lattice,
    *,
    shape: tuple[int, int],
    step: float,
    radius: float | None = None,
) -> Field:
    """Strain and rotation of the columns of one frame against `lattice`, on a grid.

    Around each grid point the affine map that carries lattice vectors onto the columns within `radius`
    (default: 2.2 times the longer lattice vector) is fitted: x′ = F x, F = 1 + ∇u. exx, eyy and exy are the
    symmetric part of ∇u (x to the right, y down; exy is half the engineering shear; positive exx: the crystal
    is longer along x than the reference). rotation_deg: counter-clockwise as seen on screen. Each has an
    _err map (1σ, from the residuals). NaN where fewer than six columns stand. step: grid spacing [px].

    The nearest neighbours' real-space fit follows Hÿtch & Plamann, Ultramicroscopy 87 (2001) 199 (peak pairs).
    """
    if step <= 0:
        raise InputError(f"step of the strain map: a positive number of pixels, got {step}")
    radius = 2.2 * lattice.b if radius is None else radius
    rows, columns = (np.arange(0.5 * step, size, step) for size in shape)
    grid = np.stack(np.meshgrid(rows, columns, indexing="ij"), -1).reshape(-1, 2)
    maps = np.full((8, len(grid)), math.nan)
    points = atoms[["y", "x"]].to_numpy(float)
    points = points[np.isfinite(points).all(axis=1)]
    if len(points) >= FEWEST:
        ideal, points = _ideal(points, lattice)
        _fill(maps, grid, points, ideal, radius=radius)
    size = (len(rows), len(columns))
    names = [*NAMES, *(f"{name}_err" for name in NAMES)]
    return Field(
        {name: values.reshape(size) for name, values in zip(names, maps, strict=True)},
        (0.5 * step, 0.5 * step),
        (step, step),
    )


def _ideal(points: Array, lattice: Lattice) -> tuple[Array, Array]:
    """Where each column would stand in the undistorted lattice, by walking from column to column.

    Slow distortions move columns by more than half a cell across a field, so sites are counted from
    neighbour to neighbour: index differences of near columns are added along a spanning tree.
    """
    reach = 1.25 * max(lattice.b, float(np.linalg.norm(lattice.vectors.sum(0))))
    pairs = cKDTree(points).query_pairs(reach, output_type="ndarray")
    one, other = np.concatenate([pairs, pairs[:, ::-1]]).T
    start = int(np.argmin(np.linalg.norm(points - np.median(points, axis=0), axis=1)))
    known = np.full(len(points), False)
    shift = np.zeros_like(points)  # column minus site
    _, _, gap = lattice.locate(points[start])
    shift[start], known[start] = gap[0], True
    limit = CLOSE * lattice.spacing()
    new = known.copy()
    while new.any():  # all neighbours of those that were reached last, each by the known columns around it
        beside = np.zeros(len(points), bool)
        beside[other[new[one]]] = True
        at = np.flatnonzero(beside & ~known)
        use = known[one] & (beside & ~known)[other]
        count = np.bincount(other[use], minlength=len(points))[at, None]
        around = np.stack(
            [np.bincount(other[use], shift[one[use], k], minlength=len(points))[at] for k in (0, 1)], 1
        )
        moved = points[at] - around / count
        _, _, gap = lattice.locate(moved)
        near = np.hypot(gap[:, 0], gap[:, 1]) < limit
        new = np.zeros(len(points), bool)
        new[at[near]] = True
        shift[at[near]] = (points[at] - moved + gap)[near]
        known |= new
    return (points - shift)[known], points[known]


def _fill(maps: Array, grid: Array, points: Array, ideal: Array, *, radius: float) -> None:
    """All least-squares fits at once, by sums over the columns near each grid point; their means are taken off first."""
    near = cKDTree(points).query_ball_point(grid, radius)
    count = np.array([len(some) for some in near])
    at, place = np.concatenate([*near, []]).astype(int), np.repeat(np.arange(len(grid)), count)

    def total(values: Array) -> Array:
        return np.bincount(place, values, minlength=len(grid)).astype(float)

    def centred(values: Array) -> Array:
        means = np.stack([total(values[:, k]) for k in (0, 1)], 1) / np.maximum(count, 1)[:, None]
        return np.asarray(values - means[place])

    offset = np.stack([total((points[at] - grid[place])[:, k]) for k in (0, 1)], 1)
    start, move = centred(ideal[at]), centred(points[at] - ideal[at])
    a, b, c = (total(start[:, i] * start[:, j]) for i, j in ((0, 0), (0, 1), (1, 1)))
    middle, root = 0.5 * (a + c), np.hypot(0.5 * (a - c), b)
    # A column must stand within reach of the point, or a map would be drawn over vacuum; and they must span the plane.
    good = (
        (count >= FEWEST)
        & (np.hypot(*offset.T) <= 0.5 * radius * count)
        & (middle - root > SPAN * (middle + root))
    )
    scale = 1 / np.where(good, a * c - b * b, 1)
    spread = np.stack([c * scale, -b * scale, -b * scale, a * scale], 1).reshape(-1, 2, 2)
    product = np.array([[total(start[:, i] * move[:, j]) for j in (0, 1)] for i in (0, 1)])
    slope = np.einsum("kil,ljk->kij", spread, product)
    residual = move - np.einsum("ni,nij->nj", start, slope[place])
    variance = np.stack([total(residual[:, j] ** 2) for j in (0, 1)], 1) / np.maximum(count - 3, 1)[:, None]
    maps[:, good] = _strain(slope[good], spread[good], variance[good])


def _strain(slope: Array, spread: Array, variance: Array) -> Array:
    """(8, K) exx, eyy, exy, rotation and errors from ∂u_j/∂x_i = slope[:, i, j], axes (y, x)."""
    yy, yx, xy, xx = slope.reshape(-1, 4).T  # yx: ∂u_x/∂y
    by_y, by_x = spread[:, 0, 0], spread[:, 1, 1]
    mixed = 0.5 * np.sqrt(by_y * variance[:, 1] + by_x * variance[:, 0])
    # On screen y points down: a turn that is counter-clockwise to the eye moves +x to −y, so ∂u_y/∂x < 0.
    rotation = np.degrees(np.arctan2(yx - xy, 2 + xx + yy))
    own = np.sqrt(by_x * variance[:, 1]), np.sqrt(by_y * variance[:, 0])
    return np.array([xx, yy, 0.5 * (xy + yx), rotation, *own, mixed, np.degrees(mixed)])
