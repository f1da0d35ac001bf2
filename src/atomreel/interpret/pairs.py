"""Distances and angles between neighbouring columns, and what they say about the quality of a table of atoms."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.spatial import Delaunay, QhullError, cKDTree

from atomreel.core.errors import InputError
from atomreel.core.registry import analysis

Array = npt.NDArray[np.float64]
BOND = 1.35  # times the nearest-neighbour distance: longest bond, unless given


@analysis(needs=("atoms", "pixel"), gives="bond_lengths")
def bond_lengths(
    atoms: pd.DataFrame,
    pixel: tuple[float, float] | None = None,
    *,
    cutoff_px: float | None = None,
    bins: int = 60,
) -> pd.DataFrame:
    """Histogram of the distances between bonded columns, all frames together.

    atoms: frame, y, x [px]. pixel: (dy, dx) [Å] or None. cutoff_px: longest bond [px]; default 1.35 times the
    median nearest-neighbour distance. Columns: from, to (edges; ending _A in Å where the pixel size is known,
    else _px), count, density (1 per unit, area 1).
    """
    lengths, unit = [], _unit(pixel)
    for _, scaled in _frames(atoms, pixel):
        pairs = _bonds(scaled, _limit(cutoff_px, pixel))
        lengths.append(np.linalg.norm(scaled[pairs[:, 0]] - scaled[pairs[:, 1]], axis=1))
    return _histogram(_join(lengths), bins=bins, unit=unit)


@analysis(needs=("atoms", "pixel"), gives="bond_angles")
def bond_angles(
    atoms: pd.DataFrame,
    pixel: tuple[float, float] | None = None,
    *,
    cutoff_px: float | None = None,
    bins: int = 60,
) -> pd.DataFrame:
    """Histogram of the angles between bonds that follow each other around a column [degrees], 0 … 180.

    Columns: from_deg, to_deg, count, density. Arguments as in bond_lengths.
    """
    angles = []
    for _, scaled in _frames(atoms, pixel):
        pairs = _bonds(scaled, _limit(cutoff_px, pixel))
        both = np.concatenate([pairs, pairs[:, ::-1]])
        step = scaled[both[:, 1]] - scaled[both[:, 0]]
        direction = np.degrees(np.arctan2(-step[:, 0], step[:, 1])) % 360
        order = np.lexsort((direction, both[:, 0]))
        centre, direction = both[order, 0], direction[order]
        first = np.flatnonzero(np.r_[True, centre[1:] != centre[:-1]])
        count = np.diff(np.r_[first, len(centre)])
        for start, n in zip(first, count, strict=True):
            if n < 2:
                continue
            own = direction[start : start + n]
            turn = np.diff(np.r_[own, own[0] + 360])
            turn = turn[:1] if n == 2 else turn
            angles.append(np.minimum(turn, 360 - turn))
    return _histogram(_join(angles), bins=bins, unit="deg", limits=(0.0, 180.0))


@analysis(needs=("atoms", "pixel", "shape"), gives="pair_distances")
def pair_distances(
    atoms: pd.DataFrame,
    pixel: tuple[float, float] | None = None,
    shape: tuple[int, int] | None = None,
    *,
    reach: float = 5.0,
    bins: int = 120,
) -> pd.DataFrame:
    """Pair distribution g(r) of the columns, all frames together, out to `reach` nearest-neighbour distances.

    shape: (Y, X) of the frames; the part of each ring inside the field is counted exactly where pairs are
    weighted by the overlap of the field with itself, shifted (Ripley's translation correction).
    Columns: from, to (as in bond_lengths), count, g (1 = no correlation) and g_err (Poisson 1σ).
    """
    scale = np.ones(2) if pixel is None else np.asarray(pixel, dtype=float)
    frames = list(_frames(atoms, pixel))
    spacing = typical_distance([scaled for _, scaled in frames])
    unit = _unit(pixel)
    if not np.isfinite(spacing) or not frames:
        return (
            _histogram(np.zeros(0), bins=bins, unit=unit).rename(columns={"density": "g"}).assign(g_err=0.0)
        )
    size = np.max([points.max(0) for points, _ in frames], axis=0) + 1 if shape is None else np.asarray(shape)
    field = size * scale
    edges = np.linspace(0, reach * spacing, bins + 1)
    weighted, count, expected = np.zeros(bins), np.zeros(bins), 0.0
    for _, scaled in frames:
        pairs = cKDTree(scaled).query_pairs(edges[-1], output_type="ndarray")
        gap = np.abs(scaled[pairs[:, 0]] - scaled[pairs[:, 1]])
        overlap = np.prod(np.maximum(field - gap, 1e-9), axis=1)
        length = np.hypot(gap[:, 0], gap[:, 1])
        weighted += np.histogram(length, edges, weights=1 / overlap)[0]
        count += np.histogram(length, edges)[0]
        expected += 0.5 * len(scaled) * (len(scaled) - 1) / np.prod(field) ** 2
    ring = np.pi * np.diff(edges**2) * expected
    g = weighted / np.maximum(ring, 1e-300)
    return pd.DataFrame(
        {
            f"from_{unit}": edges[:-1],
            f"to_{unit}": edges[1:],
            "count": count.astype(np.int64),
            "g": g,
            "g_err": g / np.sqrt(np.maximum(count, 1)),
        }
    )


def short_pairs(atoms: pd.DataFrame, *, below: float = 0.6) -> tuple[float, npt.NDArray[np.bool_]]:
    """Share of columns with another one nearer than `below` median nearest-neighbour distances, and which.

    Two columns that close are mostly one column found twice.
    """
    flag = np.zeros(len(atoms), dtype=bool)
    number = atoms["frame"].to_numpy() if "frame" in atoms else np.zeros(len(atoms), dtype=int)
    where = atoms[["y", "x"]].to_numpy(float)
    for frame in np.unique(number):
        rows = np.flatnonzero((number == frame) & np.isfinite(where).all(axis=1))
        if len(rows) >= 3:
            nearest = cKDTree(where[rows]).query(where[rows], k=2)[0][:, 1]
            flag[rows] = nearest < below * np.median(nearest)
    return (float(flag.mean()) if len(flag) else 0.0), flag


def coverage_gaps(atoms: pd.DataFrame, *, shape: tuple[int, int], wide: float = 2.0) -> tuple[float, Array]:
    """Share of the field further than `wide` typical gaps from every column, and the middles of the gaps.

    One frame. The typical gap is the median radius of the empty circles between columns (Delaunay). Middles:
    (M, 2) centres [px], in the field, of circles wider than that, the widest first.
    """
    if wide <= 1:
        raise InputError(f"wide: more than 1 typical gap, got {wide}")
    points = atoms[["y", "x"]].to_numpy(float)
    points = points[np.isfinite(points).all(axis=1)]
    try:
        mesh = Delaunay(points) if len(points) >= 4 else None
    except QhullError:
        mesh = None
    if mesh is None:
        return 1.0, np.zeros((0, 2))
    centre, radius = _circles(points[mesh.simplices])
    typical = float(np.median(radius))
    inside = np.all((centre >= 0) & (centre <= np.array(shape) - 1), axis=1) & (radius > wide * typical)
    order = np.argsort(-radius[inside], kind="stable")
    step = max(typical / 2, 1.0)
    grid = np.stack(np.meshgrid(*(np.arange(0.5 * step, n, step) for n in shape), indexing="ij"), -1).reshape(
        -1, 2
    )
    far = cKDTree(points).query(grid)[0] > wide * typical
    return float(far.mean()), centre[inside][order]


def _circles(corner: Array) -> tuple[Array, Array]:
    """Centre and radius of the circle through the corners (T, 3, 2) of each triangle."""
    a, b, c = corner[:, 0], corner[:, 1] - corner[:, 0], corner[:, 2] - corner[:, 0]
    cross = 2 * (b[:, 0] * c[:, 1] - b[:, 1] * c[:, 0])
    cross = np.where(np.abs(cross) < 1e-12, 1e-12, cross)
    bb, cc = (b**2).sum(1), (c**2).sum(1)
    offset = np.column_stack([c[:, 1] * bb - b[:, 1] * cc, b[:, 0] * cc - c[:, 0] * bb]) / cross[:, None]
    return a + offset, np.linalg.norm(offset, axis=1)


def _frames(atoms: pd.DataFrame, pixel: tuple[float, float] | None) -> list[tuple[Array, Array]]:
    """Positions of each frame in px and in Å (or px where the pixel size is unknown); frames of one are left out."""
    scale = np.ones(2) if pixel is None else np.asarray(pixel, dtype=float)
    tables = [table for _, table in atoms.groupby("frame")] if "frame" in atoms else [atoms]
    points = [table[["y", "x"]].to_numpy(float) for table in tables]
    points = [p[np.isfinite(p).all(axis=1)] for p in points]
    return [(p, p * scale) for p in points if len(p) > 1]


def _bonds(points: Array, cutoff: float | None) -> npt.NDArray[np.int64]:
    tree = cKDTree(points)
    limit = cutoff if cutoff is not None else BOND * float(np.median(tree.query(points, k=2)[0][:, 1]))
    return np.asarray(tree.query_pairs(limit, output_type="ndarray"), dtype=np.int64)


def _limit(cutoff_px: float | None, pixel: tuple[float, float] | None) -> float | None:
    """The cutoff in the unit of the scaled positions."""
    return (
        cutoff_px if cutoff_px is None or pixel is None else cutoff_px * float(np.sqrt(pixel[0] * pixel[1]))
    )


def typical_distance(frames: list[Array]) -> float:
    """Median distance of nearest neighbours over all frames, each (N, 2) with N > 1; NaN without any."""
    nearest = [cKDTree(points).query(points, k=2)[0][:, 1] for points in frames]
    return float(np.median(np.concatenate(nearest))) if nearest else np.nan


def _unit(pixel: tuple[float, float] | None) -> str:
    return "px" if pixel is None else "A"


def _join(parts: list[Array]) -> Array:
    return np.concatenate(parts) if parts else np.zeros(0)


def _histogram(
    values: Array, *, bins: int, unit: str, limits: tuple[float, float] | None = None
) -> pd.DataFrame:
    if limits is None:
        top = float(values.max()) if len(values) else 1.0
        limits = (max(0.0, float(values.min()) - 0.1 * top) if len(values) else 0.0, 1.02 * top)
    count, edges = np.histogram(values, bins=bins, range=limits)
    density = count / max(count.sum(), 1) / np.diff(edges)
    return pd.DataFrame(
        {f"from_{unit}": edges[:-1], f"to_{unit}": edges[1:], "count": count, "density": density}
    )
