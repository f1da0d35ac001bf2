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
    tree = cKDTree(points)
    start = int(np.argmin(np.linalg.norm(points - np.median(points, axis=0), axis=1)))
    known = np.full(len(points), False)
    shift = np.zeros_like(points)  # column minus site
    site = np.zeros_like(points)
    todo = [start]
    _, _, gap = lattice.locate(points[start])
    shift[start], site[start], known[start] = gap[0], points[start] - gap[0], True
    limit = CLOSE * lattice.spacing()
    while todo:
        here = todo.pop(0)
        near = [j for j in tree.query_ball_point(points[here], reach) if not known[j]]
        if not near:
            continue
        around = [j for j in tree.query_ball_point(points[here], reach) if known[j]]
        moved = points[near] - shift[around].mean(0)
        _, _, gap = lattice.locate(moved)
        for j, move, away in zip(near, moved, gap, strict=True):
            if np.hypot(*away) < limit:
                site[j] = move - away
                shift[j] = points[j] - site[j]
                known[j] = True
                todo.append(j)
    return site[known], points[known]


def _fill(maps: Array, grid: Array, points: Array, ideal: Array, *, radius: float) -> None:
    tree = cKDTree(points)
    for k, near in enumerate(tree.query_ball_point(grid, radius)):
        if len(near) < FEWEST:
            continue
        # A column must stand within reach of the point, or a map would be drawn over vacuum.
        offset = points[near] - grid[k]
        if np.linalg.norm(offset.mean(0)) > 0.5 * radius:
            continue
        start = ideal[near] - ideal[near].mean(0)
        design = np.column_stack([np.ones(len(near)), start])
        move = points[near] - ideal[near]
        gram = design.T @ design
        if np.linalg.cond(gram) > 1e9:
            continue
        slope = np.linalg.solve(gram, design.T @ move)
        residual = move - design @ slope
        variance = (residual**2).sum(0) / max(len(near) - 3, 1)
        maps[:, k] = _strain(slope[1:], np.linalg.inv(gram)[1:, 1:], variance)


def _strain(slope: Array, spread: Array, variance: Array) -> Array:
    """exx, eyy, exy, rotation and errors from ∂u_j/∂x_i = slope[i, j], axes (y, x)."""
    (yy, yx), (xy, xx) = slope  # yx: ∂u_x/∂y
    e_yy, e_xx = math.sqrt(spread[0, 0] * variance[0]), math.sqrt(spread[1, 1] * variance[1])
    mixed = 0.5 * math.sqrt(spread[0, 0] * variance[1] + spread[1, 1] * variance[0])
    # On screen y points down: a turn that is counter-clockwise to the eye moves +x to −y, so ∂u_y/∂x < 0.
    rotation = math.degrees(math.atan2(yx - xy, 2 + xx + yy))
    return np.array([xx, yy, 0.5 * (xy + yx), rotation, e_xx, e_yy, mixed, math.degrees(mixed)])
