"""Dumbbells: pairs of columns, how far apart they are and which way they point, each with its error.

Dumbbell separation and angle from the found atoms follow Ziatdinov et al., ACS Nano 11 (2017) 12742; pairing by a
gap and the errors are ours. Where a dumbbell is one elongated blob see `interpret.twins`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.spatial import cKDTree

from atomreel.core.errors import InputError
from atomreel.core.tables import check_table, empty_table
from atomreel.interpret.graph import columns_of
from atomreel.interpret.sublattices import find_species, label_by_place, measured

Array = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
GAP = 1.1  # times: upper quartile of first to lower quartile of second neighbours
SYSTEMATIC = 0.02  # of the separation: see dumbbell_statistics
DIFFER = 0.8  # share of pairs whose ends are of two species, for the dumbbells to have a direction


@dataclass(frozen=True, eq=False)
class Dumbbells:
    """table: dumbbells (see core.tables). unpaired: rows of the atoms that are in none. within, between: typical distance
    to the first and the second neighbour, in Å where the pixel size is known, else px. warnings: in words."""

    table: pd.DataFrame
    unpaired: Ints
    within: float
    between: float
    warnings: tuple[str, ...] = ()


def find_dumbbells(
    atoms: pd.DataFrame,
    pixel: tuple[float, float] | None = None,
    *,
    longest: float | None = None,
    directed: bool | None = None,
) -> Dumbbells:
    """Pairs of columns that are each other's nearest and stand apart from all others.

    atoms: y, x [px]; for errors y_err, x_err; for direction intensity with intensity_err, or species; frame and score
    if there. pixel: (dy, dx) [Å] or None. longest: largest separation of a pair [Å, or px without pixel]; by default
    there must be a gap between the distances to first and to second neighbours, and its middle is the limit; without a
    gap there are no dumbbells and a warning says so. A pair with a third column within the limit is left out.
    directed: whether the two ends differ; by default, whether four pairs of five have ends of two species. Then
    the angle points from the weaker to the stronger end, else it is that of an axis.

    With d the difference of the two positions and σ², τ² the sums of their variances along and across d:
    separation = |d| − τ²/2|d| ± σ (noise across makes |d| too long on average: Rice 1944), angle ± τ/|d|.
    The errors of the ends are taken as independent and their axes as those of the image. Raises InputError.
    """
    where, errors, frame = _checked(atoms, longest)
    scale = np.ones(2) if pixel is None else np.asarray(pixel, dtype=float)
    points = where * scale
    rows = [np.flatnonzero((frame == f) & np.isfinite(where).all(1)) for f in np.unique(frame)]
    gaps, mates = _neighbours(points, rows)
    within, between = (float(np.nanmedian(g)) if np.isfinite(g).any() else np.nan for g in gaps.T)
    limit = longest if longest is not None else _middle_of_gap(gaps)
    if limit is None:
        words = (
            f"no dumbbells: first neighbours ({within:.3g} {'px' if pixel is None else 'Å'}) and second ones "
            f"({between:.3g}) are not apart; where a dumbbell is one blob use fit_twins, else pass longest"
        )
        return Dumbbells(empty_table("dumbbells"), np.arange(len(atoms)), within, between, (words,))
    own = np.arange(len(atoms))
    mutual = (
        (mates >= 0) & (mates[np.maximum(mates, 0)] == own) & (gaps[:, 0] <= limit) & ~(gaps[:, 1] <= limit)
    )
    first = own[mutual & (own < mates)]
    pairs = np.stack([first, mates[first]], axis=1)
    pairs = pairs[mutual[pairs[:, 1]]]
    points_one_way = _differ(atoms, pairs, rows) if directed is None else directed
    pairs = _ordered(pairs, points, atoms, points_one_way)
    table = _table(pairs, where, errors, scale=scale, with_a=pixel is not None)
    table = _described(table, atoms, pairs, frame, points_one_way)
    return Dumbbells(check_table(table, "dumbbells"), np.setdiff1d(own, pairs), within, between)


def dumbbell_statistics(table: pd.DataFrame, *, systematic: float = SYSTEMATIC) -> pd.DataFrame:
    """Mean separation and direction of the dumbbells of each frame, of whatever method.

    Columns: frame, count; separation, its _err (of the mean, from the scatter), _scatter (standard deviation) and
    _claimed (median 1σ of one dumbbell), ending _A or _px; angle_deg likewise, the mean over axes (dumbbells
    that are the same turned by 180°) or, where all are directed, over directions. One dumbbell has no scatter: NaN.
    separation_…_total: 1σ of the mean with the systematic share, √(err² + (systematic · separation)²). All ends have one
    peak shape, so what it does to overlapping ends does not average out: with ends 2.5 σ apart, tails and grey values
    bent by powers of 0.7 to 1.4 shift the joint fit's separation by 2 % rms. 0 where the ends stand clear of each other.
    Raises InputError when the table has no dumbbells' columns, or systematic is negative.
    """
    if not systematic >= 0:
        raise InputError(f"systematic: a share of the separation from 0 on is needed, got {systematic}")
    checked = check_table(table, "dumbbells")
    unit = "A" if "separation_A" in checked else "px"
    rows = []
    for frame, own in checked.groupby("frame"):
        length = own[f"separation_{unit}"].to_numpy()
        fold = 1 if bool(own["directed"].all()) else 2
        turned = np.exp(1j * fold * np.deg2rad(own["angle_deg"].to_numpy()))
        mean = np.degrees(np.angle(turned.mean())) / fold
        away = np.degrees(np.angle(turned * np.exp(-1j * fold * np.deg2rad(mean)))) / fold
        row: dict[str, float] = {"frame": int(frame), "count": len(own)}
        for name, value, middle, claim in (
            (f"separation_{unit}", length, float(length.mean()), own[f"separation_{unit}_err"]),
            ("angle_deg", away, float(mean), own["angle_deg_err"]),
        ):
            spread = float(np.std(value, ddof=1)) if len(own) > 1 else np.nan
            row |= {name: middle, f"{name}_err": spread / np.sqrt(len(own))}
            row |= {f"{name}_scatter": spread, f"{name}_claimed": float(claim.median())}
        common = systematic * row[f"separation_{unit}"]
        row[f"separation_{unit}_total"] = float(np.hypot(row[f"separation_{unit}_err"], common))
        rows.append(row)
    ends = ("", "_err", "_scatter", "_claimed")
    names = [f"separation_{unit}{end}" for end in (*ends, "_total")]
    names += [f"angle_deg{end}" for end in ends]
    return pd.DataFrame(rows, columns=["frame", "count", *names])


def axis_angle(step: Array) -> Array:
    """Angle of the axis of steps (N, 2) of (y, x), counter-clockwise on screen, in (−90, 90] degrees."""
    angle = np.degrees(np.arctan2(-step[:, 0], step[:, 1]))
    return np.asarray(90 - (90 - angle) % 180)


def _checked(atoms: pd.DataFrame, longest: float | None) -> tuple[Array, Array, Ints]:
    if longest is not None and not longest > 0:
        raise InputError(f"longest: a positive distance is needed, got {longest}")
    return columns_of(atoms)


def _neighbours(points: Array, rows: list[Ints]) -> tuple[Array, Ints]:
    """Distances (N, 2) to the two nearest of the same frame, inf where there is none, and the nearest one's row or −1."""
    gaps, mates = np.full((len(points), 2), np.nan), np.full(len(points), -1, np.int64)
    for own in rows:
        if len(own) < 2:
            continue
        distance, index = cKDTree(points[own]).query(points[own], k=3)
        gaps[own] = distance[:, 1:]
        mates[own] = own[index[:, 1]]
    return gaps, mates


def _middle_of_gap(gaps: Array) -> float | None:
    """Between the distances to first and second neighbours, if their inner quartiles stand apart."""
    known = gaps[np.isfinite(gaps).all(1)]
    if len(known) < 3:
        return None
    if np.quantile(known[:, 1], 0.25) < GAP * np.quantile(known[:, 0], 0.75):
        return None
    return float(np.sqrt(np.prod(np.median(known, axis=0))))


def _differ(atoms: pd.DataFrame, pairs: Ints, rows: list[Ints]) -> bool:
    """Whether the ends of most pairs are of two species. rows: of each frame, those with a position."""
    if not len(pairs):
        return False
    if "species" in atoms and atoms["species"].nunique() > 1:
        name = atoms["species"].astype(str).to_numpy()
    elif "intensity" in atoms and "intensity_err" in atoms and np.isfinite(atoms["intensity"]).all():
        images = [measured(atoms.iloc[own]) for own in rows]
        model = find_species(images)
        name = np.full(len(atoms), "", dtype=object)
        for own, image in zip(rows, images, strict=True):
            name[own] = label_by_place(image, model).labels
    else:
        return False
    return bool((name[pairs[:, 0]] != name[pairs[:, 1]]).mean() >= DIFFER)


def _ordered(pairs: Ints, points: Array, atoms: pd.DataFrame, one_way: bool) -> Ints:
    """Each pair from its weaker to its stronger end, or along its axis."""
    if one_way:
        if "intensity" not in atoms:
            raise InputError(
                "directed dumbbells need the atoms' intensity: weaker and stronger cannot be told"
            )
        height = atoms["intensity"].to_numpy(float)
        turn = height[pairs[:, 0]] > height[pairs[:, 1]]
    else:
        step = points[pairs[:, 1]] - points[pairs[:, 0]]
        angle = np.degrees(np.arctan2(-step[:, 0], step[:, 1]))
        turn = (angle <= -90) | (angle > 90)
    return np.where(turn[:, None], pairs[:, ::-1], pairs)


def _table(pairs: Ints, where: Array, errors: Array, *, scale: Array, with_a: bool) -> pd.DataFrame:
    first, second = pairs.T
    step = where[second] - where[first]
    variance = errors[first] ** 2 + errors[second] ** 2
    out = {"y": (where[first] + where[second])[:, 0] / 2, "x": (where[first] + where[second])[:, 1] / 2}
    out |= {"y_err": np.sqrt(variance[:, 0]) / 2, "x_err": np.sqrt(variance[:, 1]) / 2}
    for unit, k in (("px", np.ones(2)), ("A", scale)) if with_a else (("px", np.ones(2)),):
        length, error, angle_err = _measured(step * k, variance * k**2)
        out |= {f"separation_{unit}": length, f"separation_{unit}_err": error}
    angle = np.degrees(np.arctan2(-step[:, 0] * scale[0], step[:, 1] * scale[1]))
    return pd.DataFrame(out | {"angle_deg": angle, "angle_deg_err": angle_err})


def _measured(step: Array, variance: Array) -> tuple[Array, Array, Array]:
    """Separation, its 1σ, and that of the angle [degrees]. Without errors both are NaN and nothing is corrected."""
    length = np.maximum(np.hypot(*step.T), 1e-12)
    unit = step / length[:, None]
    along = (unit**2 * variance).sum(1)
    across = (unit[:, ::-1] ** 2 * variance).sum(1)
    # the correction holds for small errors; it never takes more than half
    correct = np.minimum(np.nan_to_num(across) / (2 * length), 0.5 * length)
    return length - correct, np.sqrt(along), np.degrees(np.sqrt(across) / length)


def _described(
    table: pd.DataFrame, atoms: pd.DataFrame, pairs: Ints, frame: Ints, one_way: bool
) -> pd.DataFrame:
    first, second = pairs.T
    table.insert(0, "frame", frame[first])
    score = atoms["score"].to_numpy(float) if "score" in atoms else np.full(len(atoms), np.nan)
    table = table.assign(directed=one_way, score=score[first] * score[second], first=first, second=second)
    if "intensity" in atoms:
        height = atoms["intensity"].to_numpy(float)
        sigma = (
            atoms["intensity_err"].to_numpy(float)
            if "intensity_err" in atoms
            else np.full(len(atoms), np.nan)
        )
        ratio = height[second] / height[first]
        part = np.hypot(sigma[first] / height[first], sigma[second] / height[second])
        table = table.assign(ratio=ratio, ratio_err=np.abs(ratio) * part)
    return table
