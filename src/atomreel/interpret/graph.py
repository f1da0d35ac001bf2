"""Which columns are bonded, how many neighbours each has, and how sure that is.

The graph over found atoms from which impurities are told apart by coordination follows Ziatdinov et al.,
ACS Nano 11 (2017) 12742; the pruning by angle and the probabilities are ours.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.spatial import cKDTree

from atomreel.core.errors import InputError
from atomreel.core.material import Material
from atomreel.core.tables import check_table, empty_table
from atomreel.interpret.pairs import typical_distance

Array = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]
MOST = 9  # the last column of the probabilities: this many neighbours or more
SIMILAR = 1.25  # times the median nearest distance: neighbours up to here count as nearest ones
FAR = 5.0  # σ: pairs that further errors would have to bring together are not drawn
NAMES = {2: "two-fold", 3: "three-fold", 4: "four-fold"}


@dataclass(frozen=True, eq=False)
class BondGraph:
    """Atoms and the bonds between them, all frames together; atoms are numbered by their row in the given table.

    bonds: table of bonds (see core.tables). atoms: one row per given row, in order: frame, neighbours, p (the
    probability of that number, NaN where positions carry no errors), edge (a neighbour may lie outside the field).
    number_p: (N, 10) probability of 0 … 8 and of 9 or more neighbours. points: (N, 2) positions in `unit`
    ("A" or "px"); errors: (N, 2) their 1σ. candidates: (P, 2) rows of pairs that may be bonded; drawn: (P, draws) in which draws they are.
    nearest: typical distance of nearest neighbours, in `unit`, on which the reach is based.
    """

    bonds: pd.DataFrame
    atoms: pd.DataFrame
    number_p: Array
    points: Array
    errors: Array
    unit: str
    candidates: Ints
    drawn: Bools
    nearest: float


@dataclass(frozen=True)
class _Rule:
    limit: float
    widest: float
    draws: int
    seed: int


def find_bonds(
    atoms: pd.DataFrame,
    pixel: tuple[float, float] | None = None,
    *,
    shape: tuple[int, int] | None = None,
    material: Material | None = None,
    reach: float = 1.6,
    widest: float = 75.0,
    draws: int = 200,
    rng: int = 0,
) -> BondGraph:
    """Bonds between the columns of each frame.

    atoms: frame (or one frame only), y, x [px], and y_err, x_err [1σ px] for the probabilities. pixel: (dy, dx) [Å]
    or None. Two columns are bonded when they are nearer than `reach` nearest-neighbour distances and no third
    one sees the two under more than `widest` [degrees] (a β-skeleton: Kirkpatrick & Radke, Computational
    Geometry (1985) 217). Between 60 and 90, all six bonds of a triangular lattice stay, the diagonals of squares and
    the second neighbours of graphene go, the long bonds of an impurity stay, and no two bonds cross.
    The nearest-neighbour distance is the material's where one is given (then the pixel size is needed), else the
    median in the atoms. Probabilities: the positions are drawn anew `draws` times from their errors (normal,
    independent), with seed `rng`. shape: (Y, X) of the frames; by default the box around all columns.
    Raises InputError on missing columns, a material without pixel size, or arguments out of range.
    """
    if reach <= 1 or not 60 <= widest <= 90 or draws < 1:
        raise InputError(
            f"a reach above 1, an angle in 60…90 and at least one draw are needed, got {reach}, {widest}, {draws}"
        )
    where, errors, frame = columns_of(atoms)
    scale = np.ones(2) if pixel is None else np.asarray(pixel, dtype=float)
    points, errors = where * scale, errors * scale
    tables = [np.flatnonzero((frame == f) & np.isfinite(where).all(1)) for f in np.unique(frame)]
    nearest = _nearest(points, tables, material, pixel)
    pairs, bonded, often = _all_bonds(points, errors, tables, _Rule(reach * nearest, widest, draws, rng))
    known = np.asarray(np.isfinite(errors).all(1))
    low, high = _field(where, shape, scale)
    near_edge = np.minimum(points - low, high - points).min(1, initial=np.inf) < reach * nearest
    counted, number_p = _neighbours(pairs, bonded, often, known)
    numbers = {
        "frame": frame,
        "neighbours": counted,
        "p": number_p[np.arange(len(counted)), np.minimum(counted, MOST)],
    }
    return BondGraph(
        bonds=_bond_table(
            pairs[bonded], often[bonded], points, errors, where=where, pixel=pixel, frame=frame
        ),
        atoms=pd.DataFrame({**numbers, "edge": near_edge}),
        number_p=number_p,
        points=points,
        errors=errors,
        unit="px" if pixel is None else "A",
        candidates=pairs,
        drawn=often,
        nearest=nearest,
    )


def classify_coordination(atoms: pd.DataFrame, graph: BondGraph, *, species: str = "Si") -> pd.DataFrame:
    """Atoms of one species by their number of bonds: three-fold and four-fold Si in graphene, say.

    atoms: the table that the graph was made of, with `species`. Columns: frame, atom (row in `atoms`), y, x [px],
    coordination ("two-fold", "three-fold", "four-fold", "other", or "edge" where a neighbour may lie outside), p_three,
    p_four (probability given the position errors), length and length_err (mean bond, 1σ, ending _A or _px),
    widest_deg (largest angle between bonds that follow each other: about 120 for three, 90 for four).
    Raises InputError without a species column or when the graph was made of another table.
    """
    if "species" not in atoms:
        raise InputError(
            "the atoms have no column species: pass find_columns' table, or name the impurity atoms"
        )
    if len(atoms) != len(graph.atoms):
        raise InputError(f"the graph was made of {len(graph.atoms)} atoms, the table has {len(atoms)}")
    rows = np.flatnonzero(atoms["species"].to_numpy() == species)
    ends = graph.bonds[["first", "second"]].to_numpy()
    unit = graph.unit
    out = []
    for row in rows:
        own = (ends == row).any(1)
        other = ends[own].sum(1) - row
        step = graph.points[other] - graph.points[row]
        length, error = _mean_length(step, graph.errors[other], graph.errors[row])
        number, near_edge = int(own.sum()), bool(graph.atoms["edge"].iloc[row])
        out.append(
            {
                "frame": graph.atoms["frame"].iloc[row],
                "atom": row,
                "y": atoms["y"].iloc[row],
                "x": atoms["x"].iloc[row],
                "coordination": "edge" if near_edge else NAMES.get(number, "other"),
                "p_three": graph.number_p[row, 3],
                "p_four": graph.number_p[row, 4],
                f"length_{unit}": length,
                f"length_{unit}_err": error,
                "widest_deg": _widest(step),
            }
        )
    names = ["frame", "atom", "y", "x", "coordination", "p_three", "p_four"]
    return pd.DataFrame(out, columns=[*names, f"length_{unit}", f"length_{unit}_err", "widest_deg"])


def columns_of(atoms: pd.DataFrame) -> tuple[Array, Array, Ints]:
    """Positions, errors (NaN where unknown) and frames of a table of atoms. Raises InputError on what is none."""
    missing = [name for name in ("y", "x") if name not in atoms]
    if missing:
        raise InputError(f"table of atoms: columns {', '.join(missing)} are missing")
    where = atoms[["y", "x"]].to_numpy(float)
    has = "y_err" in atoms and "x_err" in atoms
    errors = atoms[["y_err", "x_err"]].to_numpy(float) if has else np.full(where.shape, np.nan)
    if (errors < 0).any():
        raise InputError("y_err and x_err are standard deviations: none may be negative")
    frame = atoms["frame"].to_numpy(np.int64) if "frame" in atoms else np.zeros(len(atoms), np.int64)
    return where, errors, frame


def _nearest(
    points: Array, tables: list[Ints], material: Material | None, pixel: tuple[float, float] | None
) -> float:
    if material is None:
        frames = [points[rows] for rows in tables if len(rows) > 1]
        short = typical_distance(frames)
        if not np.isfinite(short):
            return short
        # the nearest of several noisy neighbours is too near; all that may be nearest ones are not
        return float(np.median(np.concatenate([_gaps(own, SIMILAR * short) for own in frames])))
    if pixel is None:
        raise InputError(f"the distances of {material.name} are in Å: pass pixel=(dy, dx) too")
    return material.project().nearest


def _gaps(points: Array, limit: float) -> Array:
    pairs = cKDTree(points).query_pairs(limit, output_type="ndarray")
    return np.asarray(np.linalg.norm(points[pairs[:, 0]] - points[pairs[:, 1]], axis=1))


def _field(where: Array, shape: tuple[int, int] | None, scale: Array) -> tuple[Array, Array]:
    if shape is not None:
        return -0.5 * scale, (np.asarray(shape) - 0.5) * scale
    if not np.isfinite(where).any():
        return np.zeros(2), np.zeros(2)
    return np.nanmin(where, axis=0) * scale, np.nanmax(where, axis=0) * scale


def _all_bonds(points: Array, errors: Array, tables: list[Ints], rule: _Rule) -> tuple[Ints, Bools, Bools]:
    """As _frame_bonds, with the rows of all frames."""
    pairs, kept = [np.zeros((0, 2), np.int64)], [np.zeros(0, bool)]
    drawn = [np.zeros((0, rule.draws), bool)]
    for rows in tables if np.isfinite(rule.limit) else []:
        own, sure, often = _frame_bonds(points[rows], errors[rows], rule)
        pairs.append(rows[own])
        kept.append(sure)
        drawn.append(often)
    return np.concatenate(pairs), np.concatenate(kept), np.concatenate(drawn)


def _frame_bonds(points: Array, errors: Array, rule: _Rule) -> tuple[Ints, Bools, Bools]:
    """Candidate pairs (P, 2), which are bonded (P,), and in which draws (P, draws)."""
    spread = np.nan_to_num(errors)
    worst = np.hypot(*spread.T) if len(spread) else np.zeros(0)
    # an atom that sees a bond under the widest angle or more is nearer to its ends than this
    limit = rule.limit / np.sin(np.deg2rad(rule.widest))
    pairs = cKDTree(points).query_pairs(limit + 2 * FAR * worst.max(initial=0), output_type="ndarray")
    pairs = np.asarray(pairs, dtype=np.int64)[np.lexsort(pairs.T[::-1])]
    length = np.linalg.norm(points[pairs[:, 0]] - points[pairs[:, 1]], axis=1)
    pairs = pairs[length < limit + FAR * np.hypot(worst[pairs[:, 0]], worst[pairs[:, 1]])]
    views = _views(pairs, len(points))
    generator = np.random.default_rng(rule.seed)
    drawn = np.zeros((len(pairs), rule.draws), dtype=bool)
    for k in range(rule.draws):
        drawn[:, k] = _bonded(points + spread * generator.normal(size=points.shape), pairs, views, rule)
    return pairs, _bonded(points, pairs, views, rule), drawn


def _views(pairs: Ints, n: int) -> tuple[Ints, Ints, Ints]:
    """Every third atom beside a pair: its ends (of 2P, the second half reversed) to the two, and the pair's number."""
    centre, other = np.concatenate([pairs, pairs[:, ::-1]]).T
    order = np.argsort(centre, kind="stable")
    count = np.bincount(centre, minlength=n)
    many = count[centre[order]]
    first = np.repeat(order, many)
    place = np.arange(len(first)) - np.repeat(np.cumsum(many) - many, many)
    second = order[np.repeat((np.cumsum(count) - count)[centre[order]], many) + place]
    ahead = other[first] < other[second]
    first, second = first[ahead], second[ahead]
    key, wanted = pairs[:, 0] * n + pairs[:, 1], other[first] * n + other[second]
    at = np.minimum(np.searchsorted(key, wanted), max(len(key) - 1, 0))
    there = key[at] == wanted if len(key) else np.zeros(0, dtype=bool)
    return first[there], second[there], at[there]


def _bonded(points: Array, pairs: Ints, views: tuple[Ints, Ints, Ints], rule: _Rule) -> Bools:
    step = points[pairs[:, 1]] - points[pairs[:, 0]]
    length = np.maximum(np.hypot(step[:, 0], step[:, 1]), 1e-12)
    unit = np.concatenate([step, -step]) / np.tile(length, 2)[:, None]
    first, second, pair = views
    between = np.einsum("ij,ij->i", unit[first], unit[second]) < np.cos(np.deg2rad(rule.widest))
    kept = length < rule.limit
    kept[pair[between]] = False
    return np.asarray(kept)


def _neighbours(pairs: Ints, bonded: Bools, drawn: Bools, known: Bools) -> tuple[Ints, Array]:
    n = len(known)
    count = np.bincount(pairs[bonded].ravel(), minlength=n)
    number_p = np.zeros((n, MOST + 1))
    draws = drawn.shape[1]
    for k in range(draws):
        found = np.minimum(np.bincount(pairs[drawn[:, k]].ravel(), minlength=n), MOST)
        number_p[np.arange(n), found] += 1 / draws
    number_p[~known] = np.nan
    return count, number_p


def _bond_table(
    pairs: Ints,
    drawn: Bools,
    points: Array,
    errors: Array,
    *,
    where: Array,
    pixel: tuple[float, float] | None,
    frame: Ints,
) -> pd.DataFrame:
    if not len(pairs):
        return empty_table("bonds")
    first, second = pairs.T
    scale = np.ones(2) if pixel is None else np.asarray(pixel, dtype=float)
    step = points[second] - points[first]
    out = {"frame": frame[first], "first": first, "second": second}
    out |= _length(where[second] - where[first], np.hypot(errors[first], errors[second]) / scale, "px")
    if pixel is not None:
        out |= _length(step, np.hypot(errors[first], errors[second]), "A")
    out["angle_deg"] = np.degrees(np.arctan2(-step[:, 0], step[:, 1]))
    known = np.isfinite(errors[first] + errors[second]).all(1)
    out["p"] = np.where(known, drawn.mean(1), np.nan)
    return check_table(pd.DataFrame(out), "bonds")


def _length(step: Array, error: Array, unit: str) -> dict[str, Array]:
    length = np.hypot(*step.T)
    along = np.hypot(*(step * error).T) / np.maximum(length, 1e-12)
    return {f"length_{unit}": length, f"length_{unit}_err": along}


def _mean_length(step: Array, errors: Array, centre: Array) -> tuple[float, float]:
    """Mean length of the steps (N, 2) from one atom, and its 1σ: what the atom itself moves cancels in part."""
    if not len(step):
        return float("nan"), float("nan")
    length = np.maximum(np.hypot(*step.T), 1e-12)
    unit = step / length[:, None] / len(step)
    variance = ((unit * errors) ** 2).sum() + ((unit.sum(0) * centre) ** 2).sum()
    return float(length.mean()), float(np.sqrt(variance))


def _widest(step: Array) -> float:
    """Largest angle between directions that follow each other [degrees], NaN for fewer than two."""
    if len(step) < 2:
        return float("nan")
    direction = np.sort(np.degrees(np.arctan2(-step[:, 0], step[:, 1])))
    return float(np.diff(np.r_[direction, direction[0] + 360]).max())
