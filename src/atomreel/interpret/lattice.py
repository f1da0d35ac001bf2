"""Lattices fitted to the columns of one frame: how many grains, which primitive cell, which motif, how well."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.spatial import cKDTree

from atomreel.core.errors import InputError
from atomreel.core.lattice import Lattice, Site, reduce_vectors
from atomreel.interpret.motif import Cell, Columns, find_cell
from atomreel.interpret.registration import LinearFit, Registered, fit_linear, grow

Array = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
FEWEST = 8  # columns below which no lattice is claimed
PATCH = 90  # columns in which a cell is looked for
SEEDS = 6
SCORE, SCORE_FEW = (
    0.45,
    1.4,
)  # a cell needs 0.45 + 1.4/columns: random packings hardly reach it (docs/lattice.md)
DISTORTION = 0.005  # shear that scan and drift may add without a lattice losing its class


@dataclass(frozen=True, eq=False)
class LatticeFit:
    """The lattices of one frame, largest grain first.

    grain: (N,) number of the lattice of each column, −1 for none. cell: (N, 2), site: (N,) which lattice
    site a column stands at (zeros where grain is −1). gap: (N, 2) column minus fitted site [px], NaN where
    none. score: 0 … 1, share of the columns that repeat with the best cell, above chance; what random
    packings may reach (0.45 + 1.4/columns) is not enough for a lattice.
    rows: one per grain, columns of the `lattice` table without `frame`.
    """

    lattices: tuple[Lattice, ...]
    grain: Ints
    cell: Ints
    site: Ints
    gap: Array
    score: float
    rows: pd.DataFrame


def fit_lattices(
    atoms: pd.DataFrame,
    *,
    shape: tuple[int, int],
    max_grains: int = 4,
    pixel: tuple[float, float] | None = None,
    distortion: float = DISTORTION,
) -> LatticeFit:
    """Find the lattices of the columns of one frame.

    atoms: table with y, x [px]; y_err, x_err weight the fit, intensity (or species) tells motif sites apart.
    shape: (Y, X) of the frame. max_grains: most lattices looked for. pixel: (dy, dx) [Å] for answers in Å.
    distortion: shear that imaging may have added, for the class. No lattice is an answer: `lattices` is
    then empty. Errors are of a robust linear fit, scaled by its residuals and their spatial correlation.
    """
    if max_grains < 1:
        raise InputError(f"max_grains: at least 1, got {max_grains}")
    points, usable = _points(atoms)
    n = len(points)
    fit = _nothing(n)
    index = np.flatnonzero(usable)
    if len(index) < FEWEST or np.linalg.matrix_rank(np.ptp(points[index], axis=0, keepdims=True)) == 0:
        return fit
    looks = _looks(atoms, points)
    columns = Columns(points[index], None if looks is None else looks[index])
    if min(np.linalg.svd(columns.points - columns.points.mean(0), compute_uv=False)) < 0.5:
        return fit
    grains, score = _find_grains(columns, max_grains)
    grain, cell, site = _labels(columns, grains)
    errors = _errors(atoms, usable)[index]
    return _assemble(
        atoms, index, (grain, cell, site), errors, score=score, pixel=pixel, distortion=distortion
    )


def _find_grains(columns: Columns, max_grains: int) -> tuple[list[Registered], float]:
    """Grains in order of discovery, and the score of the best cell."""
    free = np.ones(len(columns.points), dtype=bool)
    grains: list[Registered] = []
    score = 0.0
    for _ in range(2 * max_grains):
        open_ = _open_ground(columns, free)
        if len(open_) < max(FEWEST, 0.04 * len(columns.points)) or len(grains) == max_grains:
            break
        cell = _best_cell(columns, open_)
        score = max(score, cell.score if cell else 0.0)
        if cell is None or cell.score < SCORE + SCORE_FEW / len(cell.patch):
            break
        found = grow(columns, cell, allowed=free)
        if found.member.sum() < max(FEWEST - 2, 0.6 * min(len(open_), FEWEST)):
            free[cell.patch] = False
            continue
        twin = next((g for g in grains if _same(columns, g, found)), None)
        if twin is None:
            grains.append(found)
        else:
            grains[grains.index(twin)] = _merge(columns, twin, found)
        free &= ~found.member
    return grains, score


def _best_cell(columns: Columns, open_: Ints) -> Cell | None:
    """The most convincing cell among patches spread over the open ground."""
    points = columns.points[open_]
    middle = np.median(points, axis=0)
    far = np.linalg.norm(points - middle, axis=1)
    best: Cell | None = None
    seed = int(np.argmin(far))
    distance = np.full(len(points), np.inf)
    for _ in range(SEEDS):
        near = np.argsort(np.linalg.norm(points - points[seed], axis=1), kind="stable")[:PATCH]
        cell = find_cell(columns, np.sort(open_[near]))
        if cell is not None and (best is None or cell.score > best.score):
            best = cell
        if len(points) <= PATCH or (best is not None and best.score > 0.85):
            break
        distance = np.minimum(distance, np.linalg.norm(points - points[seed], axis=1))
        seed = int(np.argmax(distance * (far < 0.9 * far.max())))
    return best


def _open_ground(columns: Columns, free: npt.NDArray[np.bool_]) -> Ints:
    """Free columns whose neighbours are mostly free too: not the stray ones inside a known grain."""
    k = min(9, len(free))
    neighbours = columns.tree.query(columns.points, k=k)[1]
    return np.flatnonzero(free & (free[neighbours].mean(1) >= 0.6))


def _same(columns: Columns, one: Registered, other: Registered) -> bool:
    """Whether `other` is a further piece of the crystal of `one`."""
    _, _, gap = one.lattice.locate(columns.points[other.member])
    near = np.hypot(gap[:, 0], gap[:, 1]) < 0.25 * one.lattice.spacing()
    return bool(near.mean() > 0.8)


def _merge(columns: Columns, one: Registered, other: Registered) -> Registered:
    cell, site, _ = one.lattice.locate(columns.points)
    member = one.member | other.member
    return Registered(
        one.lattice,
        member,
        np.where(one.member[:, None], one.cell, cell),
        np.where(one.member, one.site, site),
    )


def _labels(columns: Columns, grains: list[Registered]) -> tuple[Ints, Ints, Ints]:
    """Grain, cell and site of each column; border columns go to the grain that most of their neighbours have."""
    n = len(columns.points)
    grains = sorted(grains, key=lambda g: -int(g.member.sum()))
    grain = np.full(n, -1)
    for number, g in reversed(list(enumerate(grains))):
        grain[g.member] = number
    cell, site = np.zeros((n, 2), dtype=np.int64), np.zeros(n, dtype=np.int64)
    neighbours = columns.tree.query(columns.points, k=min(9, n))[1]
    reach = [_local(columns, g) for g in grains]
    for _ in range(3 if len(grains) > 1 else 0):
        votes = np.stack([(grain[neighbours] == number).sum(1) for number in range(len(grains))], 1)
        fits = np.stack(
            [gap < 0.25 * g.lattice.spacing() for g, (_, _, gap) in zip(grains, reach, strict=True)], 1
        )
        choice = np.argmax(np.where(fits, votes, -1), axis=1)
        rows = np.arange(n)
        grain = np.where(fits[rows, choice] & (votes[rows, choice] >= 4), choice, -1)
    for number, g in enumerate(grains):
        here = grain == number
        kept = here & g.member
        cell[here], site[here] = reach[number][0][here], reach[number][1][here]
        cell[kept], site[kept] = g.cell[kept], g.site[kept]
    return grain, cell, site


def _local(columns: Columns, g: Registered) -> tuple[Ints, Ints, Array]:
    """Cell, site and distance of all columns from grain g's lattice, shifted as its nearest members are."""
    gap = columns.points[g.member] - g.lattice.positions(g.cell[g.member], g.site[g.member])
    k = min(6, int(g.member.sum()))
    near = cKDTree(columns.points[g.member]).query(columns.points, k=k)[1].reshape(len(columns.points), k)
    cell, site, away = g.lattice.locate(columns.points - gap[near].mean(1))
    return cell, site, np.hypot(away[:, 0], away[:, 1])


def _assemble(
    atoms: pd.DataFrame,
    index: Ints,
    labels: tuple[Ints, Ints, Ints],
    errors: Array,
    *,
    score: float,
    pixel: tuple[float, float] | None,
    distortion: float,
) -> LatticeFit:
    """Fit each grain for good and bring everything back to the rows of the table."""
    n = len(atoms)
    points = atoms[["y", "x"]].to_numpy(float)
    out = _nothing(n)
    lattices: list[Lattice] = []
    rows = []
    for number in range(int(labels[0].max(initial=-1)) + 1):
        use = labels[0] == number
        if use.sum() < FEWEST - 2:
            continue
        where = index[use]
        lattice, cell, site = _final(atoms.iloc[where], labels[1][use], labels[2][use], errors[use], pixel)
        gap = points[where] - lattice.positions(cell, site)
        out.grain[where], out.cell[where], out.site[where], out.gap[where] = len(lattices), cell, site, gap
        rows.append(_row(lattice, gap, len(lattices), distortion))
        lattices.append(lattice)
    table = pd.DataFrame(rows) if rows else out.rows
    return LatticeFit(tuple(lattices), out.grain, out.cell, out.site, out.gap, score, table)


def _final(
    atoms: pd.DataFrame, cell: Ints, site: Ints, errors: Array, pixel: tuple[float, float] | None
) -> tuple[Lattice, Ints, Ints]:
    """Robust fit; reduced cell; site 0 the fullest brightest site, origin the one nearest the grain's middle."""
    points = atoms[["y", "x"]].to_numpy(float)
    sites = np.unique(site)
    site = np.searchsorted(sites, site)
    counts = np.bincount(site)
    brightness = _per_site(atoms, site, "intensity")
    rank = np.lexsort(
        (np.arange(len(counts)), -np.nan_to_num(np.round(brightness, 9)), counts < 0.6 * counts.max())
    )
    site = np.argsort(rank)[site]
    first = fit_linear(points, cell, site, errors=errors)
    tie = (
        3
        * math.sqrt(max(np.trace(first.covariance[2:4, 2:4]), 0.0))
        / min(np.linalg.norm(first.vectors, axis=1))
    )
    change = reduce_vectors(first.vectors, tie=min(tie, 0.02))
    cell = np.rint(cell @ np.linalg.inv(change)).astype(np.int64)
    middle = np.rint(np.median(cell[site == 0], axis=0)).astype(np.int64)
    cell = cell - middle
    fit = fit_linear(points, cell, site, errors=errors)
    fractional = fit.offsets @ np.linalg.inv(fit.vectors)
    whole = np.floor(fractional + 1e-9).astype(np.int64)
    whole[0] = 0
    cell = cell + whole[site]
    brightness, share = brightness[rank], _occupancy(points, fit, site)
    species = _names(atoms, site)
    motif = tuple(
        Site((float(f[0]), float(f[1])), species[s], float(brightness[s]), float(share[s]))
        for s, f in enumerate(np.where(np.arange(len(fractional))[:, None] == 0, 0.0, fractional - whole))
    )
    return Lattice(fit.origin, fit.vectors, fit.covariance, motif, pixel), cell, site


def _occupancy(points: Array, fit: LinearFit, site: Ints) -> Array:
    """(S,) share of the sites in the crystal that have a column."""
    sites = tuple(Site((float(u), float(v))) for u, v in fit.offsets @ np.linalg.inv(fit.vectors))
    lattice = Lattice(fit.origin, fit.vectors, sites=sites)
    low = points.min(0)
    cells, numbers = replace(lattice, origin=lattice.origin - low).inside(tuple(np.ptp(points, axis=0) + 1))
    inside = Columns(points).covers(lattice.positions(cells, numbers))
    expected = np.bincount(numbers[inside], minlength=len(sites))
    return np.minimum(np.bincount(site, minlength=len(sites)) / np.maximum(expected, 1), 1.0)


def _row(lattice: Lattice, gap: Array, number: int, distortion: float) -> dict[str, object]:
    errors = lattice.errors
    row: dict[str, object] = {"grain": number}
    for name, value, key in (
        ("a_px", lattice.a, "a"),
        ("b_px", lattice.b, "b"),
        ("gamma_deg", lattice.gamma, "gamma"),
        ("angle_deg", lattice.angle, "angle"),
    ):
        row |= {name: value, f"{name}_err": errors[key]}
    metric = lattice.in_angstrom() or dict.fromkeys(("a_A", "a_A_err", "b_A", "b_A_err"), math.nan)
    row |= {key: metric[key] for key in ("a_A", "a_A_err", "b_A", "b_A_err")}
    return row | {
        "columns": len(gap),
        "residual_px": float(np.sqrt((gap**2).sum(1).mean())),
        "symmetry": lattice.symmetry(distortion=distortion),
    }


def _points(atoms: pd.DataFrame) -> tuple[Array, npt.NDArray[np.bool_]]:
    missing = [name for name in ("y", "x") if name not in atoms]
    if missing:
        raise InputError(
            f"atoms: columns {', '.join(missing)} are missing; it has {', '.join(map(str, atoms))}"
        )
    points = atoms[["y", "x"]].to_numpy(float)
    return points, np.isfinite(points).all(axis=1)


def _errors(atoms: pd.DataFrame, usable: npt.NDArray[np.bool_]) -> Array:
    """(N, 2) claimed errors, floored at half their median (a claim of zero must not take over the fit)."""
    if not {"y_err", "x_err"} <= set(atoms):
        return np.ones((len(atoms), 2))
    errors = atoms[["y_err", "x_err"]].to_numpy(float)
    good = errors[usable]
    good = good[np.isfinite(good) & (good > 0)]
    if len(good) == 0:
        return np.ones((len(atoms), 2))
    typical = float(np.median(good))
    return np.clip(np.where(np.isfinite(errors), errors, typical), 0.5 * typical, 3 * typical)


def _looks(atoms: pd.DataFrame, points: Array) -> Array | None:
    """What tells motif sites apart: intensity less its local mean, outliers clipped; else species as numbers."""
    if "intensity" in atoms and np.isfinite(atoms["intensity"]).sum() > FEWEST:
        value = atoms["intensity"].to_numpy(float)
    elif "species" in atoms and atoms["species"].nunique() > 1:
        value = atoms["species"].map(atoms["species"].value_counts().rank(method="first")).to_numpy(float)
    else:
        return None
    good = np.isfinite(value) & np.isfinite(points).all(axis=1)
    value = np.where(good, value, np.median(value[good]))
    low, high = np.percentile(value[good], [4, 96])
    value = np.clip(value, low, high)
    near = cKDTree(points[good]).query(np.nan_to_num(points), k=min(25, int(good.sum())))[1]
    return np.asarray(value - value[good][near].mean(1))


def _per_site(atoms: pd.DataFrame, site: Ints, column: str) -> Array:
    if column not in atoms:
        return np.full(int(site.max()) + 1, math.nan)
    values = atoms[column].to_numpy(float)
    return np.array(
        [
            np.median(v) if len(v := values[(site == s) & np.isfinite(values)]) else math.nan
            for s in range(site.max() + 1)
        ]
    )


def _names(atoms: pd.DataFrame, site: Ints) -> list[str]:
    if "species" not in atoms:
        return [""] * (int(site.max()) + 1)
    species = atoms["species"].to_numpy()
    return [str(pd.Series(species[site == s]).mode().iloc[0]) for s in range(int(site.max()) + 1)]


def _nothing(n: int) -> LatticeFit:
    names = ["a_px", "b_px", "gamma_deg", "angle_deg"]
    floats = [name + end for name in names for end in ("", "_err")] + ["a_A", "a_A_err", "b_A", "b_A_err"]
    rows = pd.DataFrame({"grain": pd.Series(dtype="int64")} | {f: pd.Series(dtype=float) for f in floats})
    rows = rows.assign(
        columns=pd.Series(dtype="int64"), residual_px=pd.Series(dtype=float), symmetry=pd.Series(dtype=str)
    )
    return LatticeFit(
        (),
        np.full(n, -1),
        np.zeros((n, 2), dtype=np.int64),
        np.zeros(n, dtype=np.int64),
        np.full((n, 2), math.nan),
        0.0,
        rows,
    )
