"""Empty lattice sites of a frame, told into holes (groups of neighbours) and vacancies (fewer of them)."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.sparse.csgraph import minimum_spanning_tree
from scipy.spatial import cKDTree
from scipy.spatial.distance import pdist, squareform
from scipy.stats import norm

from atomreel.core.errors import InputError
from atomreel.core.lattice import Lattice
from atomreel.interpret.defects import BORDER, HOLE, group_sizes, local_brightness, site_positions
from atomreel.interpret.lattice import LatticeFit

Array = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]
Ints = npt.NDArray[np.int64]
HEAVY = 0.5  # of the brightest site: dimmer sites are left out, for their columns are often overlooked
HALF = 0.5  # of the brightness of its site: a dimmer column does not fill it
NEAR = 0.45  # of the distance of sites: a column further off stands at another


@dataclass(frozen=True, eq=False)
class Openings:
    """Sites of one frame that can be judged, M of them.

    positions: (M, 2) [px]. empty: (M,). group: (M,) size of the group of neighbouring empty sites, 0 where filled.
    share: (M,) part of the field that the site stands for; sites at the border stand for the strip along it too.
    doubt: (M,) chance that noise put a site on the wrong side of half brightness. least: empty neighbours that make
    a hole. unit: share of the field that one site inside it is. reach: below which sites are neighbours [px].
    """

    positions: Array
    empty: Bools
    group: Ints
    share: Array
    doubt: Array
    least: int
    unit: float
    reach: float

    @property
    def in_hole(self) -> Bools:
        return self.group >= self.least

    @property
    def holes(self) -> float:
        """Share of the field in holes, less the vacancies that touch a rim by chance and so are counted with it."""
        outside = self._rims()[1]
        return max(
            0.0, float(self.share[self.in_hole].sum() - self.share[outside].sum() * self._chance(outside))
        )

    @property
    def holes_err(self) -> float:
        """1σ: sites of the rim on the wrong side of half brightness, and the vacancies that touch a rim by chance."""
        inside, outside = self._rims()
        chance = self._chance(outside)
        wrong = (self.share**2 * self.doubt * (1 - self.doubt))[inside | outside].sum()
        touching = (self.share[outside] ** 2).sum() * chance * (1 - chance)
        return float(np.sqrt(wrong + touching))

    def _chance(self, outside: Bools) -> float:
        """That a site far from holes is empty."""
        away = ~self.in_hole & ~outside
        return float(self.empty[away].mean()) if away.any() else 0.0

    @property
    def vacancies(self) -> float:
        """Share of the field in smaller groups of empty sites."""
        return float(self.share[self.empty & ~self.in_hole].sum())

    def _rims(self) -> tuple[Bools, Bools]:
        """(M,) sites of holes next to others, and others next to holes."""
        rims = np.zeros((2, len(self.empty)), dtype=bool)
        inside, outside = np.flatnonzero(self.in_hole), np.flatnonzero(~self.in_hole)
        if len(inside) and len(outside):
            for rim, own, other in ((rims[0], inside, outside), (rims[1], outside, inside)):
                rim[own] = cKDTree(self.positions[other]).query(self.positions[own])[0] < self.reach
        return rims[0], rims[1]

    def mask(self, shape: tuple[int, int]) -> Bools:
        """(Y, X) pixels nearest to a site of a hole."""
        if not self.in_hole.any():
            return np.zeros(shape, dtype=bool)
        grid = np.moveaxis(np.indices(shape), 0, -1).reshape(-1, 2)
        nearest = cKDTree(self.positions).query(grid)[1]
        return np.asarray(self.in_hole[nearest].reshape(shape))


def find_openings(
    atoms: pd.DataFrame,
    fit: LatticeFit,
    *,
    shape: tuple[int, int],
    origin: tuple[int, int] = (0, 0),
    least: int = HOLE,
) -> Openings | None:
    """Sites of the lattices of one frame, filled or empty; None where there is no lattice.

    atoms: table with y, x and, to tell faint false columns from real ones, intensity; fit: fit_lattices of just
    these rows. shape: (Y, X) that is judged, from `origin` (y, x) on. least: empty neighbours that make a hole.
    Sites are predicted from the lattice moved as the nearest columns are. One is filled by a column within 0.45
    of the distance of sites that has at least half of the brightness that is usual around it. Sites dimmer than half of
    the brightest are left out (S beside W): the share of the field is counted in the others. In a field of several grains each place belongs
    to the one whose columns are nearest. Positions are in the pixels of `atoms`.
    """
    if len(fit.grain) != len(atoms):
        raise InputError(f"the lattice fit is of {len(fit.grain)} columns, the table has {len(atoms)}")
    if least < 1:
        raise InputError(f"least: at least 1 empty site makes a hole, got {least}")
    if not fit.lattices:
        return None
    parts = [_sites(atoms, fit, number, shape=shape, origin=origin) for number in range(len(fit.lattices))]
    tables = [part for part in parts if part is not None]
    if not tables:
        return None
    columns = [cKDTree(atoms[["y", "x"]].to_numpy(float)[fit.grain == n]) for n in range(len(fit.lattices))]
    for number, table in enumerate(tables):
        away = np.stack([tree.query(table.positions)[0] for tree in columns], axis=1)
        tables[number] = table.take(away.argmin(axis=1) == table.grain)
    positions = np.concatenate([t.positions for t in tables])
    empty = np.concatenate([t.empty for t in tables])
    field = float(np.prod(shape))
    share = np.concatenate([np.full(len(t.positions), t.area / field) for t in tables])
    # What is left of the field is the strip along its border, too near to it to be judged.
    inner = np.concatenate([t.margin + np.sqrt(t.area) + 0 * t.doubt for t in tables])
    at = positions - np.asarray(origin, dtype=float)
    border = ((at < inner[:, None]) | (at > np.array(shape) - 1 - inner[:, None])).any(axis=1)
    unit = float(share.mean()) if len(share) else float("nan")
    if border.any():
        share = share + border * (1 - share.sum()) / border.sum()
    doubt = np.concatenate([t.doubt for t in tables])
    reach = max(table.reach for table in tables)
    group = np.zeros(len(empty), dtype=np.int64)
    group[empty] = group_sizes(positions[empty], reach)
    return Openings(positions, empty, group, share, doubt, least, unit, reach)


@dataclass(frozen=True, eq=False)
class _Sites:
    grain: int
    positions: Array
    empty: Bools
    doubt: Array
    area: float
    margin: float
    reach: float

    def take(self, keep: Bools) -> _Sites:
        return replace(self, positions=self.positions[keep], empty=self.empty[keep], doubt=self.doubt[keep])


def _sites(
    atoms: pd.DataFrame, fit: LatticeFit, number: int, *, shape: tuple[int, int], origin: tuple[int, int]
) -> _Sites | None:
    rows = np.flatnonzero(fit.grain == number)
    lattice = fit.lattices[number]
    heavy = _heavy(lattice)
    margin = BORDER * lattice.spacing()
    shifted = replace(lattice, origin=lattice.origin - np.asarray(origin, dtype=float))
    cells, sites = shifted.inside(shape, margin=margin)
    chosen = np.isin(sites, heavy)
    cells, sites = cells[chosen], sites[chosen]
    if len(sites) == 0:
        return None
    points = atoms[["y", "x"]].to_numpy(float)
    at = (fit.cell[rows], fit.site[rows])
    where = site_positions(points[rows], lattice, at=at, wanted=(cells, sites))
    empty, doubt = _judge(atoms, points, rows[np.isin(fit.site[rows], heavy)], where, lattice.spacing())
    return _Sites(number, where, empty, doubt, lattice.area / len(heavy), margin, _reach(lattice, heavy))


def _heavy(lattice: Lattice) -> Ints:
    """Motif sites that are bright and full enough to be judged; all where brightness is unknown."""
    bright = np.array([site.intensity for site in lattice.sites])
    full = np.array([site.occupancy for site in lattice.sites])
    keep = full >= HEAVY * full.max()
    if np.isfinite(bright).all() and bright.max() > 0:
        keep &= bright >= HEAVY * bright[keep].max()
    return np.flatnonzero(keep).astype(np.int64)


def _judge(
    atoms: pd.DataFrame, points: Array, rows: Ints, where: Array, spacing: float
) -> tuple[Bools, Array]:
    """(M,) empty, and the chance that noise of the brightness put the site on the wrong side."""
    usable = np.isfinite(points).all(axis=1)
    distance, nearest = cKDTree(points[usable]).query(where)
    nearest = np.flatnonzero(usable)[nearest]
    near = distance < NEAR * spacing
    if "intensity" not in atoms:
        return ~near, np.full(len(where), 0.01)
    intensity = atoms["intensity"].to_numpy(float)
    known = rows[np.isfinite(intensity[rows])]
    if len(known) < 6:
        return ~near, np.full(len(where), 0.01)
    local, scatter = local_brightness(points[known], intensity[known])
    usual = local[cKDTree(points[known]).query(where)[1]]
    spread = float(np.median(scatter / np.maximum(local, 1e-30)))
    filled = near & ~(intensity[nearest] < HALF * usual)
    doubt = norm.sf((1 - HALF) / max(spread, 1e-3))
    return ~filled, np.full(len(where), float(doubt))


def _reach(lattice: Lattice, heavy: Ints) -> float:
    """Distance below which two sites are neighbours [px]: the least that joins all of them, and some room."""
    cells = np.stack(np.meshgrid(np.arange(4), np.arange(4), indexing="ij"), -1).reshape(-1, 2)
    where = lattice.positions(np.repeat(cells, len(heavy), axis=0), np.tile(heavy, len(cells)))
    tree = minimum_spanning_tree(squareform(pdist(where)))
    return 1.15 * float(tree.max())
