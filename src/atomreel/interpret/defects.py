"""Point defects as deviations from the lattice: empty sites, sites of unusual brightness, columns at no site."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components
from scipy.spatial import cKDTree
from scipy.special import expit
from scipy.stats import norm

from atomreel.core.errors import InputError
from atomreel.core.lattice import Lattice
from atomreel.core.material import Material
from atomreel.core.tables import check_table, empty_table
from atomreel.interpret.evidence import emptiness, shared_odds
from atomreel.interpret.glare import brightness_error
from atomreel.interpret.lattice import LatticeFit
from atomreel.interpret.mixture import odd_ones
from atomreel.interpret.naming import SiteNames, name_sites

Array = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
PRIOR = {
    "vacancy": 0.01,
    "substitution": 0.01,
    "extra": 0.02,
}  # expected share of sites (columns) before looking
NEIGHBOURS = 1.25  # of the nearest-site distance: how near two empty sites are that hang together
HOLE = 4  # neighbouring empty sites that are a hole or an edge and no longer point defects
BORDER = 0.8  # of the nearest-site distance: sites nearer to the border of the field are not judged
OVERLOOKED = 0.002  # columns that a finder misses for no visible reason
COMMON = 0.1  # share of a site's places above which empty ones are no point defects
CUT = 0.5  # of the nearest-site distance: a column nearer to the border has lost some of its light
_COLUMNS = ("y", "x", "y_err", "x_err", "kind", "score", "site", "grain", "ratio")


@dataclass(frozen=True, eq=False)
class Ground:
    """One grain, ready to be judged. rows: its columns in the table. positions, sites: every lattice site in
    the field, moved as the columns around it are; filled: the row of its column or −1. error: 1σ of a site [px]."""

    grain: int
    lattice: Lattice
    rows: Ints
    positions: Array
    sites: Ints
    filled: Ints
    error: float


@dataclass(frozen=True, eq=False)
class Evidence:
    """What a frame's columns are judged with besides the table. image: (Y, X) or None."""

    shape: tuple[int, int]
    prior: Mapping[str, float]
    image: Array | None
    bright: bool


def find_defects(
    atoms: pd.DataFrame,
    lattices: LatticeFit | Mapping[int, LatticeFit],
    *,
    shape: tuple[int, int],
    material: Material | None = None,
    images: Mapping[int, npt.ArrayLike] | None = None,
    bright: bool = True,
    threshold: float = 0.5,
    prior: Mapping[str, float] = PRIOR,
) -> pd.DataFrame:
    """Vacancies, substitutions and extra atoms of one frame or of all.

    atoms: table with frame, y, x, y_err, x_err, score, intensity. lattices: fit_lattices of the frame, or one
    per frame number. shape: (Y, X). material: gives the kinds its names (V_S, Mo_W); without it they are
    vacancy_<site>, substitution_<site> (site A, B, … from bright to dim) and extra. images: the
    frames (Y, X) by number: then the pixels of an empty site tell a vacancy from a column that was overlooked
    (bright: columns are brighter than the gaps). threshold: least posterior probability reported. prior: expected share of defects of each sort.
    Returns a `defects` table; besides, grain, and ratio: brightness over that of the site's population nearby.
    Empty sites in groups of four or more are a hole or an edge, and no defects; nor are
    those of a site that is empty in more than a tenth of its places.
    """
    unknown = set(prior) - set(PRIOR)
    if unknown or not all(0 < share < 1 for share in prior.values()):
        raise InputError(f"prior: shares between 0 and 1 of {', '.join(PRIOR)}, got {dict(prior)}")
    if isinstance(lattices, LatticeFit):
        frames = atoms["frame"].unique() if "frame" in atoms else np.zeros(1, dtype=int)
        if len(frames) > 1:
            raise InputError(f"one lattice fit for {len(frames)} frames: pass one fit per frame number")
        lattices = {int(frames[0]) if len(frames) else 0: lattices}
    tables = []
    for frame, fit in sorted(lattices.items()):
        here = atoms[atoms["frame"] == frame] if "frame" in atoms else atoms
        image = None if images is None or frame not in images else np.asarray(images[frame], dtype=float)
        evidence = Evidence(shape, {**PRIOR, **prior}, image, bright)
        table = _one_frame(here.reset_index(drop=True), fit, material, evidence)
        tables.append(table[table["score"] >= threshold].assign(frame=frame))
    tables = [table for table in tables if len(table)]
    if not tables:
        optional = {"site": "int64", "source": "str", "grain": "int64", "ratio": "float64"}
        return empty_table("defects").assign(**{k: pd.Series(dtype=t) for k, t in optional.items()})
    return check_table(pd.concat(tables, ignore_index=True), "defects")


def _one_frame(
    atoms: pd.DataFrame,
    fit: LatticeFit,
    material: Material | None,
    evidence: Evidence,
) -> pd.DataFrame:
    shape, prior = evidence.shape, evidence.prior
    if len(fit.grain) != len(atoms):
        raise InputError(f"the lattice fit is of {len(fit.grain)} columns, the table has {len(atoms)}")
    parts = []
    grounds = [_ground(atoms, fit, number, shape) for number in range(len(fit.lattices))]
    for ground in grounds:
        names = name_sites(ground.lattice, material)
        parts.append(_vacancies(atoms, ground, grounds, names, evidence=evidence))
        parts.append(_substitutions(atoms, ground, names, prior=prior["substitution"], shape=shape))
    parts.append(_extras(atoms, fit, grounds, prior=prior["extra"]))
    parts = [part for part in parts if len(part)]
    if not parts:
        return pd.DataFrame({name: pd.Series(dtype=float) for name in _COLUMNS})
    return pd.concat(parts, ignore_index=True).assign(source="lattice").sort_values(["y", "x"])


def site_positions(
    points: Array, lattice: Lattice, *, at: tuple[Ints, Ints], wanted: tuple[Ints, Ints], neighbours: int = 6
) -> Array:
    """(M, 2) where sites `wanted` (cells, sites) should be: the lattice, moved as the nearest columns are.

    points (n, 2) are columns that stand `at` (cells, sites).
    """
    ideal = lattice.positions(*at)
    gap = points - ideal
    plain = lattice.positions(*wanted)
    tree = cKDTree(ideal)
    k = min(neighbours, len(points))
    near = tree.query(plain, k=k)[1].reshape(len(plain), k)
    return np.asarray(plain + np.median(gap[near], axis=1))


def _ground(atoms: pd.DataFrame, fit: LatticeFit, number: int, shape: tuple[int, int]) -> Ground:
    rows = np.flatnonzero(fit.grain == number)
    lattice = fit.lattices[number]
    points = atoms[["y", "x"]].to_numpy(float)[rows]
    cells, sites = lattice.inside(shape, margin=-0.5 * lattice.spacing())
    at = (fit.cell[rows], fit.site[rows])
    where = site_positions(points, lattice, at=at, wanted=(cells, sites))
    known = {
        (int(c[0]), int(c[1]), int(s)): int(r)
        for c, s, r in zip(fit.cell[rows], fit.site[rows], rows, strict=True)
    }
    filled = np.array(
        [known.get((int(c[0]), int(c[1]), int(s)), -1) for c, s in zip(cells, sites, strict=True)]
    )
    filled = _adopt(atoms, fit, where, filled.astype(np.int64), reach=0.55 * lattice.spacing())
    gap = points - site_positions(points, lattice, at=at, wanted=at)
    error = float(1.4826 * np.median(np.abs(gap))) / np.sqrt(3.0)
    return Ground(number, lattice, rows, where, sites, filled.astype(np.int64), error)


def _adopt(atoms: pd.DataFrame, fit: LatticeFit, where: Array, filled: Ints, *, reach: float) -> Ints:
    """`filled` with empty sites given to the loose column nearest to them: an impurity that relaxed off its site."""
    points = atoms[["y", "x"]].to_numpy(float)
    loose = np.flatnonzero((fit.grain < 0) & np.isfinite(points).all(axis=1))
    empty = np.flatnonzero(filled < 0)
    out = filled.copy()
    if len(loose) and len(empty):
        distance, slot = cKDTree(where[empty]).query(points[loose])
        for k in np.argsort(distance, kind="stable"):
            if distance[k] < reach and out[empty[slot[k]]] < 0:
                out[empty[slot[k]]] = loose[k]
    return out


def _vacancies(
    atoms: pd.DataFrame,
    ground: Ground,
    grounds: list[Ground],
    names: SiteNames,
    *,
    evidence: Evidence,
) -> pd.DataFrame:
    """Empty sites in the crystal; the score weighs the prior against the chance that a column was overlooked."""
    spacing = ground.lattice.spacing()
    points = atoms[["y", "x"]].to_numpy(float)
    empty = np.flatnonzero(ground.filled < 0)
    if len(empty) == 0 or len(points) == 0:
        return pd.DataFrame()
    where = ground.positions[empty]
    # A column of another grain, or one that stands off its site, fills the place too.
    occupied = cKDTree(points).query(where)[0] < 0.45 * spacing
    foreign = _foreign(where, ground, grounds)
    empty, where = empty[~occupied], where[~occupied]
    size = group_sizes(where, NEIGHBOURS * spacing)
    lonely = (size < HOLE) & ~foreign[~occupied]
    shape = evidence.shape
    border = np.all((where >= BORDER * spacing) & (where <= np.array(shape) - 1 - BORDER * spacing), axis=1)
    lonely &= border & _surrounded(where, ground)
    empty, where = empty[lonely], where[lonely]
    missed = np.array([_miss_rate(atoms, ground, int(s)) for s in range(len(ground.lattice.sites))])
    site = ground.sites[empty]
    prior = evidence.prior["vacancy"]
    log_odds = np.log(prior / (1 - prior)) - np.log(missed[site])
    if evidence.image is not None:
        for s in np.unique(site):
            own = site == s
            filled = ground.positions[(ground.sites == s) & (ground.filled >= 0)]
            look = emptiness(evidence.image, where[own], filled, spacing=spacing, bright=evidence.bright)
            log_odds[own] = look + shared_odds(look, start=float(log_odds[own][0]))
    score = expit(log_odds)
    # Where a tenth of a site is missing, the cell is wrong or the site is partly filled: no point defects.
    sites = len(ground.lattice.sites)
    share = np.bincount(site, score, sites) / np.maximum(np.bincount(ground.sites, minlength=sites), 1)
    score = np.where(share[site] > COMMON, 0.0, score)
    return _table(
        where, ground.error, [names.vacancy[s] for s in site], score, empty, ground.grain, ratio=0.0
    )


def _substitutions(
    atoms: pd.DataFrame, ground: Ground, names: SiteNames, *, prior: float, shape: tuple[int, int]
) -> pd.DataFrame:
    """Columns of odd brightness, beside the scatter of their site and their own error. One that the border cuts is
    not judged: half of its light is missing."""
    if "intensity" not in atoms:
        return pd.DataFrame()
    intensity = atoms["intensity"].to_numpy(float)
    points = atoms[["y", "x"]].to_numpy(float)
    rim = CUT * ground.lattice.spacing()
    whole = np.all((points >= rim) & (points <= np.array(shape) - 1 - rim), axis=1)
    levels, excess = [], np.full(len(atoms), np.nan)
    for s in range(len(ground.lattice.sites)):
        slots = np.flatnonzero((ground.sites == s) & (ground.filled >= 0))
        rows = ground.filled[slots]
        good = np.isfinite(intensity[rows]) & whole[rows]
        slots, rows = slots[good], rows[good]
        if len(rows) < 6:
            continue
        local, scale = local_brightness(points[rows], intensity[rows])
        levels.append((s, slots, rows, local, scale))
        excess[rows] = intensity[rows] - local
    claimed = atoms.get("intensity_err", pd.Series(np.nan, atoms.index)).to_numpy(float)
    error = brightness_error(points, excess, claimed, spacing=ground.lattice.spacing())
    parts = []
    for s, slots, rows, local, scatter in levels:
        scale = np.maximum(scatter, error[rows])
        ratio, z = intensity[rows] / np.where(local == 0, scale, local), (intensity[rows] - local) / scale
        score, odd = odd_ones(z, prior=prior)
        keep = odd & (score > 0.05)
        kinds = [names.substitution(s, r) for r in ratio[keep]]
        errors = _own_errors(atoms, rows[keep], ground.error)
        parts.append(
            _table(
                points[rows[keep]], errors, kinds, score[keep], slots[keep], ground.grain, ratio=ratio[keep]
            )
        )
    parts = [part for part in parts if len(part)]
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame()


def local_brightness(points: Array, intensity: Array, *, neighbours: int = 20) -> tuple[Array, Array]:
    """Median and scatter (1σ) of brightness among the columns of the same site around each column.

    The local median follows a brightness that varies slowly over the field. The scatter is a power, between
    0 (constant) and 1 (proportional), of that median, fitted to all columns.
    """
    k = min(neighbours + 1, len(points))
    near = cKDTree(points).query(points, k=k)[1].reshape(len(points), k)[:, 1:]
    local = np.median(intensity[near], axis=1)
    gap = np.abs(intensity - local)
    level = np.maximum(local / max(float(np.median(local)), 1e-30), 0.05)
    low, high = gap[level <= np.median(level)], gap[level > np.median(level)]
    power = 0.0
    if min(len(low), len(high)) >= 20:
        rise = np.log(max(np.median(high), 1e-30) / max(np.median(low), 1e-30))
        base = np.log(
            np.median(level[level > np.median(level)]) / np.median(level[level <= np.median(level)])
        )
        power = float(np.clip(rise / base, 0, 1)) if base > 0.05 else 0.0
    spread = 1.4826 * float(np.median(gap / level**power))
    return local, np.maximum(spread, 1e-3 * float(np.median(np.abs(local))) + 1e-30) * level**power


def _extras(atoms: pd.DataFrame, fit: LatticeFit, grounds: list[Ground], *, prior: float) -> pd.DataFrame:
    """Columns at no site inside a grain; the score is the finder's own, against the prior share of extra atoms."""
    points = atoms[["y", "x"]].to_numpy(float)
    loose = np.flatnonzero((fit.grain < 0) & np.isfinite(points).all(axis=1))
    parts = []
    for ground in grounds:
        if len(loose) == 0:
            break
        spacing = ground.lattice.spacing()
        distance, slot = cKDTree(ground.positions).query(points[loose])
        inside = (
            ~np.isin(loose, ground.filled)
            & (ground.filled[slot] >= 0)
            & (distance < 1.2 * spacing)
            & _surrounded(points[loose], ground)
        )
        rows, slots = loose[inside], slot[inside]
        odds = np.clip(atoms["score"].to_numpy(float)[rows], 0, 1) if "score" in atoms else np.ones(len(rows))
        # Columns that the finder is sure of but that fit no site: against its own chance of error, 1 − score.
        score = prior * odds / (prior * odds + (1 - prior) * (1 - odds) + 1e-12)
        errors = _own_errors(atoms, rows, ground.error)
        parts.append(
            _table(points[rows], errors, ["extra"] * len(rows), score, slots, ground.grain, ratio=np.nan)
        )
        loose = loose[~inside]
    parts = [part for part in parts if len(part)]
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame()


def _foreign(where: Array, ground: Ground, grounds: list[Ground]) -> npt.NDArray[np.bool_]:
    """Sites that lie nearer to filled sites of another grain than to those of their own, or between the two."""
    own = cKDTree(ground.positions[ground.filled >= 0]).query(where)[0]
    out = np.zeros(len(where), dtype=bool)
    for other in grounds:
        if other.grain != ground.grain and np.any(other.filled >= 0):
            out |= cKDTree(other.positions[other.filled >= 0]).query(where)[0] < 1.6 * own
    return out


def _surrounded(where: Array, ground: Ground) -> npt.NDArray[np.bool_]:
    """Whether at least two thirds of the nearest sites around are filled, on all sides."""
    near = cKDTree(ground.positions).query(where, k=min(9, len(ground.positions)))[1].reshape(len(where), -1)
    filled = ground.filled[near] >= 0
    return np.asarray(filled.mean(1) >= 0.6)


def group_sizes(where: Array, reach: float) -> Ints:
    """(M,) size of the connected group of empty sites that each belongs to."""
    if len(where) == 0:
        return np.zeros(0, dtype=np.int64)
    pairs = cKDTree(where).query_pairs(reach, output_type="ndarray")
    graph = coo_matrix((np.ones(len(pairs)), (pairs[:, 0], pairs[:, 1])), shape=(len(where),) * 2)
    _, label = connected_components(graph, directed=False)
    return np.asarray(np.bincount(label)[label], dtype=np.int64)


def _miss_rate(atoms: pd.DataFrame, ground: Ground, site: int) -> float:
    """Chance that the finder overlooked a column of this site, for its brightness or else.

    The part of the site's brightness that lies below the dimmest column found anywhere in the frame, and at
    least OVERLOOKED; one in fifty where brightness is unknown.
    """
    if "intensity" not in atoms:
        return 0.02
    intensity = atoms["intensity"].to_numpy(float)
    rows = ground.filled[(ground.sites == site) & (ground.filled >= 0)]
    rows = rows[np.isfinite(intensity[rows])]
    if len(rows) < 6:
        return 0.02
    local, scale = local_brightness(atoms[["y", "x"]].to_numpy(float)[rows], intensity[rows])
    dimmest = float(np.nanmin(intensity))
    return float(np.clip(norm.cdf((dimmest - local) / scale).mean(), OVERLOOKED, 0.5))


def _own_errors(atoms: pd.DataFrame, rows: Ints, fallback: float) -> Array:
    if not {"y_err", "x_err"} <= set(atoms):
        return np.full((len(rows), 2), fallback)
    errors = atoms[["y_err", "x_err"]].to_numpy(float)[rows]
    return np.where(np.isfinite(errors), errors, fallback)


def _table(
    where: Array,
    errors: Array | float,
    kinds: list[str],
    score: Array,
    slots: Ints,
    grain: int,
    *,
    ratio: Array | float,
) -> pd.DataFrame:
    errors = np.broadcast_to(errors, where.shape) if np.ndim(errors) == 0 else np.asarray(errors)
    return pd.DataFrame(
        {
            "y": where[:, 0],
            "x": where[:, 1],
            "y_err": errors[:, 0],
            "x_err": errors[:, 1],
            "kind": kinds,
            "score": score,
            "site": slots,
            "grain": grain,
            "ratio": ratio,
        }
    )
