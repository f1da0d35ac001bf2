"""Which column stands at which lattice site, and the linear fit of the lattice to them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.spatial import cKDTree

from atomreel.core.lattice import Lattice, Site
from atomreel.interpret.motif import Cell, Columns

Array = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]
CLOSE = 0.25  # of the distance between sites: how far from its site a column may stand
ROUNDS = 150


@dataclass(frozen=True, eq=False)
class Registered:
    """member: (N,) columns of this grain. cell: (N, 2), site: (N,) where member; elsewhere meaningless."""

    lattice: Lattice
    member: Bools
    cell: Ints
    site: Ints


@dataclass(frozen=True, eq=False)
class LinearFit:
    """origin (2,), vectors (2, 2), offsets (S, 2) of the motif [px]; covariance (6, 6) of origin and vectors."""

    origin: Array
    vectors: Array
    offsets: Array
    covariance: Array


def grow(columns: Columns, cell: Cell, *, allowed: Bools) -> Registered:
    """Spread a cell from its patch over all columns that continue it.

    A column joins when it stands at a site of the lattice shifted as its nearest members are, so that slow
    distortions are followed; it leaves when most of its neighbours do not fit, so that a grain does not leak
    into the next one through chance coincidences.
    """
    points = columns.points
    lattice = _lattice(cell.sites[0], cell.vectors, cell.sites - cell.sites[0])
    index, site, gap = lattice.locate(points)
    patch = np.zeros(len(points), dtype=bool)
    patch[cell.patch] = True
    member = patch & allowed & (np.hypot(gap[:, 0], gap[:, 1]) < CLOSE * lattice.spacing())
    member = _one_each(member, index, site, gap)
    neighbours = columns.tree.query(points, k=min(9, len(points)))[1][:, 1:]
    seen: set[bytes] = set()
    for _ in range(ROUNDS):
        if member.sum() < 4:
            break
        lattice, index, site = _refit(points, member, index, site, lattice)
        index, site, gap, tested = _against(columns, lattice, member, index, site)
        fits = tested & allowed & (np.hypot(gap[:, 0], gap[:, 1]) < CLOSE * lattice.spacing())
        share = (fits[neighbours]).sum(1) / np.maximum(tested[neighbours].sum(1), 1)
        member = _one_each(fits & (share >= 0.5), index, site, gap)
        key = member.tobytes()
        if key in seen:
            break
        seen.add(key)
    return Registered(lattice, member, index, site)


def fit_linear(points: Array, cell: Ints, site: Ints, *, errors: Array | None = None) -> LinearFit:
    """Least squares of points (n, 2) on origin + cell·vectors + offset of site, robust (Tukey's biweight).

    errors: (n, 2) claimed 1σ, used as relative weights. The covariance is scaled by the residuals, and up
    again by the ratio of its block-wise (sandwich) estimate where residuals of neighbours are correlated,
    as smooth distortions make them.
    """
    sites = int(site.max()) + 1
    design = np.concatenate([np.ones((len(points), 1)), cell, np.eye(sites)[site][:, 1:]], axis=1)
    prior = np.ones_like(points) if errors is None else 1 / errors**2
    weight = prior.copy()
    gap = np.zeros_like(points)
    for _ in range(12):
        solution = np.stack([_solve(design, points[:, axis], weight[:, axis]) for axis in (0, 1)], axis=1)
        gap = points - design @ solution
        scaled = gap * np.sqrt(prior)
        scale = 1.4826 * np.median(np.abs(scaled), axis=0) + 1e-12
        distance2 = ((scaled / scale) ** 2).sum(1)
        new = prior * (np.clip(1 - distance2 / 6.0**2, 0, None) ** 2)[:, None]
        if np.allclose(new, weight, rtol=1e-4, atol=1e-6 * prior.max()):
            break
        weight = new
    covariance = _covariance(design, weight, gap, points)
    return LinearFit(solution[0], solution[1:3], np.vstack([np.zeros((1, 2)), solution[3:]]), covariance)


def _covariance(design: Array, weight: Array, gap: Array, points: Array) -> Array:
    """(6, 6) of origin and vectors in the order (o_y, o_x, a_y, a_x, b_y, b_x)."""
    out = np.zeros((6, 6))
    freedom = max(len(points) - design.shape[1], 1)
    for axis in (0, 1):
        w = weight[:, axis]
        bread = np.linalg.pinv(design.T @ (design * w[:, None]))
        # Weighted residuals stand for those of a fit without outliers; (n/Σψ')² of M-estimation, to first order.
        relative = w / w.max()
        variance = (w * gap[:, axis] ** 2).sum() / freedom / max(relative.mean(), 0.2)
        plain = bread[:3, :3] * variance
        out[axis::2, axis::2] = plain * _clustering(design, w, gap[:, axis], points)
    return out


def _clustering(design: Array, weight: Array, gap: Array, points: Array) -> float:
    """≥ 1: by how much correlated residuals widen the errors, from sums over square blocks of the field."""
    span = np.ptp(points, axis=0)
    side = np.sqrt(span.prod() / max(len(points), 1)) * 4
    if span.min() < 3 * side:
        return 1.0
    number = np.floor((points - points.min(0)) / side).astype(int) @ np.array([1, 100003])
    _, block = np.unique(number, return_inverse=True)
    score = design[:, :3] * (weight * gap)[:, None]
    sums = np.stack([np.bincount(block, score[:, k]) for k in range(3)], axis=1)
    alone = (score**2).sum(0)
    ratio = float(np.mean((sums**2).sum(0) / np.maximum(alone, 1e-30)))
    # A block sum of independent residuals scatters around 1 with √(2/blocks): only what is beyond that counts.
    noise = 1 + 2 * np.sqrt(2 / (3 * (block.max() + 1)))
    return ratio if ratio > noise else 1.0


def _solve(design: Array, values: Array, weight: Array) -> Array:
    weighted = (
        design * weight[:, None]
    )  # few unknowns: their normal equations are small, and cell numbers no trouble
    return np.asarray(np.linalg.lstsq(design.T @ weighted, weighted.T @ values, rcond=None)[0])


def _refit(
    points: Array, member: Bools, index: Ints, site: Ints, lattice: Lattice
) -> tuple[Lattice, Ints, Ints]:
    """The lattice of the members so far; sites that lost all their columns go."""
    kept = np.unique(site[member])
    order = np.full(len(lattice.sites), 0)
    order[kept] = np.arange(len(kept))
    rank = np.linalg.matrix_rank(np.column_stack([np.ones(member.sum()), index[member]]))
    if rank < 3:
        return lattice, index, site
    fit = fit_linear(points[member], index[member], order[site[member]])
    known = np.isin(site, kept)
    return _lattice(fit.origin, fit.vectors, fit.offsets), index, np.where(known, order[site], 0)


def _against(
    columns: Columns, lattice: Lattice, member: Bools, index: Ints, site: Ints
) -> tuple[Ints, Ints, Array, Bools]:
    """Every column near a member against the lattice shifted as its nearest members (itself left out) are."""
    points = columns.points
    where = np.flatnonzero(member)
    residual = points[where] - lattice.positions(index[where], site[where])
    k = min(7, len(where))
    distance, near = cKDTree(points[where]).query(points, k=k)
    other = (where[near] != np.arange(len(points))[:, None]) & (distance < 2.6 * columns.spacing)
    count = other.sum(1)
    shift = (residual[near] * other[..., None]).sum(1) / np.maximum(count, 1)[:, None]
    new_index, new_site, gap = lattice.locate(points - shift)
    return new_index, new_site, gap, count >= min(3, k - 1)


def _one_each(member: Bools, index: Ints, site: Ints, gap: Array) -> Bools:
    """Of several columns at one site the nearest stays."""
    where = np.flatnonzero(member)
    order = where[np.argsort((gap[where] ** 2).sum(1), kind="stable")]
    key = np.column_stack([index[order], site[order]])
    _, first = np.unique(key, axis=0, return_index=True)
    out = np.zeros_like(member)
    out[order[first]] = True
    return out


def _lattice(origin: Array, vectors: Array, offsets: Array) -> Lattice:
    fractional = offsets @ np.linalg.inv(vectors)
    return Lattice(origin, vectors, sites=tuple(Site((float(u), float(v))) for u, v in fractional))
