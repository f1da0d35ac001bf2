"""The places of a movie at which a column may stand, and which of them is filled in which frame.

A place (site) is where columns were found again and again after the movie's own motion is taken off; no lattice is
needed, so that relaxed surfaces, steps and several grains are sites like any other. For what occupancy and events of
surface sites are good for see J. Madsen et al., Adv. Theory Simul. 1 (2018) 1800037, section 4.2.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import ndimage
from scipy.spatial import cKDTree

from atomreel.core.errors import InputError

Array = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
FINE = 0.1  # of the spacing: bins in which positions of all frames are collected
SMOOTH = 0.15  # of the spacing: σ of the filter that joins them
NEAR = 1.3  # of the spacing: two sites nearer than this are neighbours
BORDER = 0.5  # of the spacing: a column nearer to the border of the field is not surely found
FILLED = 0.5  # occupancy from which a site counts as a neighbour
COMMON = 0.15  # of the sites must have the bulk's number of neighbours
ROUNDS = 4


@dataclass(frozen=True)
class Sites:
    """table: one row per site: site, y, x, y_err, x_err [px, in frame `reference`], present, frames (in the field),
    neighbours, surface, edge. atoms: the rows given, with `site` (−1: at none). motion: one row per frame: frame, dy,
    dx [px], turn_deg, that carry a site into the frame, and columns matched. found: (S, T) 1 (or the score) found, 0 not, NaN where
    the site lay outside the field or the frame had no columns. spacing: [px]. reference: frame number."""

    table: pd.DataFrame
    atoms: pd.DataFrame
    motion: pd.DataFrame
    found: Array
    spacing: float
    reference: int

    def at(self, frame: int) -> Array:
        """(S, 2) y, x [px] of all sites in a frame."""
        motion = self.motion.iloc[frame]
        turned = _turned(self.table[["y", "x"]].to_numpy(), float(np.radians(motion["turn_deg"])))
        return np.asarray(turned + motion[["dy", "dx"]].to_numpy(float))


def find_sites(
    atoms: pd.DataFrame,
    *,
    shape: tuple[int, int] | None = None,
    frames: int | None = None,
    drift: pd.DataFrame | None = None,
    reach: float = 0.4,
    least: float = 0.02,
    bulk: int | None = None,
    scores: bool = False,
) -> Sites:
    """Persistent sites of a movie, and the column at each of them in each frame.

    atoms: frame, y, x [px] of all frames. shape: (Y, X) of the frames: sites outside, or within half a spacing of the
    border, are then not taken for vacant and those near it not for surface. frames: length of the movie. drift: table
    with frame, dy, dx; without it each frame must lie within a third of the spacing of the one before. A shift and a small turn of every frame are
    fitted in any case. reach: how far from its site a column may stand, in spacings. least: share of the frames in
    which a site must be filled (at least two). bulk: neighbours of a site inside the crystal; by default the largest
    number that 15 % of the sites have. scores: `found` holds the column's `score` instead of 1. A site with fewer neighbours, of those filled in at least half of the
    frames, is at the surface. Raises InputError.
    """
    missing = [name for name in ("frame", "y", "x", *(["score"] if scores else [])) if name not in atoms]
    if missing:
        raise InputError(f"sites need columns frame, y, x; {', '.join(missing)} missing")
    where = atoms[["y", "x"]].to_numpy(float)
    frame = atoms["frame"].to_numpy(np.int64)
    count = int(frame.max(initial=-1)) + 1 if frames is None else frames
    if not len(atoms) or not np.isfinite(where).all() or frame.min() < 0 or frame.max() >= count:
        raise InputError(f"sites need finite positions in frames 0 to {count - 1}, got {len(atoms)} rows")
    if not (0 < reach <= 0.5 and 0 <= least < 1):
        raise InputError(f"reach is at most 0.5 spacings and least a share, got {reach} and {least}")
    rows = [np.flatnonzero(frame == t) for t in range(count)]
    spacing = _spacing(where, rows)
    reference = int(np.argmax([len(r) for r in rows]))
    start = np.zeros((count, 3)) if drift is None else _from_drift(drift, count, reference)
    motion = _follow(where, rows, start, target=where[rows[reference]], limit=0.35 * spacing)
    number = max(2, int(np.ceil(least * count)))
    for _ in range(ROUNDS):
        still = _taken_off(where, frame, motion)
        sites = _cluster(still, spacing, number)
        at, sites, size = _assign(still, rows, sites, reach=reach * spacing)
        if not (size >= number).any():
            raise InputError(
                f"no place is filled in {number} of {count} frames: hand over the drift, or lower `least`"
            )
        sites = sites[size >= number]
        motion = _follow(where, rows, motion, target=sites, limit=reach * spacing)
    still = _taken_off(where, frame, motion)
    at, sites, size = _assign(still, rows, sites, reach=reach * spacing)
    worth = atoms["score"].to_numpy(float) if scores else np.ones(len(atoms))
    found = _found((at, frame), worth, (len(sites), count))
    if shape is not None:
        found[~_inside(sites, motion, shape, margin=BORDER * spacing)] = np.nan
    table = _table(still, at, sites, found)
    table = table.join(_surface(table, NEAR * spacing, shape=shape, bulk=bulk))
    matched = np.bincount(frame[at >= 0], minlength=count)
    moves = pd.DataFrame({"frame": np.arange(count), "dy": motion[:, 0], "dx": motion[:, 1]})
    moves = moves.assign(turn_deg=np.degrees(motion[:, 2]), columns=matched)
    return Sites(table, atoms.assign(site=at), moves, found, spacing, reference)


def _spacing(where: Array, rows: list[Ints]) -> float:
    """Median distance of nearest columns of one frame [px]."""
    gaps = [cKDTree(where[r]).query(where[r], k=2)[0][:, 1] for r in rows if len(r) > 1]
    if not gaps:
        raise InputError("sites need at least two columns in a frame")
    return float(np.median(np.concatenate(gaps)))


def _from_drift(drift: pd.DataFrame, count: int, reference: int) -> Array:
    moves = drift.set_index("frame")[["dy", "dx"]].reindex(range(count)).to_numpy(float)
    if not np.isfinite(moves).all():
        raise InputError(f"the drift table must have finite dy, dx for each of the {count} frames")
    return np.column_stack([moves - moves[reference], np.zeros(count)])


def _follow(where: Array, rows: list[Ints], start: Array, *, target: Array, limit: float) -> Array:
    """(T, 3) shift (y, x) [px] and turn [rad, counter-clockwise on screen] of each frame against `target`, outwards from the richest."""
    tree = cKDTree(target)
    out = start.copy()
    origin = int(np.argmax([len(r) for r in rows]))
    for way in (range(origin, len(rows)), range(origin - 1, -1, -1)):
        carried = np.zeros(3)  # what the frame before was off its start
        for t in way:
            guess = start[t] + carried
            for _ in range(6):
                guess = _rigid(where[rows[t]], guess, tree, limit)
            out[t], carried = guess, guess - start[t]
    return out


def _rigid(points: Array, move: Array, tree: cKDTree, limit: float) -> Array:
    """`move` improved by one match of nearest points: median shift, and a turn where ten or more agree."""
    gap, near = tree.query(_back(points, move), distance_upper_bound=limit)
    good = np.isfinite(gap)
    if good.sum() < 3:
        return move
    here, there = points[good], tree.data[near[good]]
    turn = float(move[2])
    if good.sum() >= 10:
        a, b = there - there.mean(0), here - here.mean(0)
        turn = float(np.arctan2((a[:, 0] * b[:, 1] - a[:, 1] * b[:, 0]).sum(), (a * b).sum()))
    shift = np.median(here - _turned(there, turn), axis=0)
    return np.array([*shift, turn])


def _turned(points: Array, turn: float | Array) -> Array:
    c, s = np.cos(turn), np.sin(turn)
    return np.stack([c * points[..., 0] - s * points[..., 1], s * points[..., 0] + c * points[..., 1]], -1)


def _back(points: Array, move: Array) -> Array:
    return _turned(points - move[..., :2], -move[..., 2])


def _taken_off(where: Array, frame: Ints, motion: Array) -> Array:
    return _back(where, motion[frame])


def _cluster(points: Array, spacing: float, least: int) -> Array:
    """Maxima of the density of all points of all frames, at least half a spacing apart."""
    step = FINE * spacing
    low = points.min(0) - 2 * spacing
    size = np.ceil((points.max(0) + 2 * spacing - low) / step).astype(int) + 1
    density = np.zeros(size)
    np.add.at(density, tuple(np.rint((points - low) / step).astype(int).T), 1.0)
    density = ndimage.gaussian_filter(density, SMOOTH / FINE, mode="constant")
    top = density == ndimage.maximum_filter(density, 2 * round(0.5 / FINE) + 1, mode="constant")
    # A site whose columns scatter like the filter reaches half of n/(2πσ²).
    top &= density > 0.25 * least / (2 * np.pi * (SMOOTH / FINE) ** 2)
    tops = np.argwhere(top)
    # Columns that share two bins evenly make two equal tops.
    twins = cKDTree(tops).query_pairs(0.5 / FINE, output_type="ndarray")
    return np.delete(tops, twins.max(axis=1), axis=0) * step + low


def _assign(still: Array, rows: list[Ints], sites: Array, *, reach: float) -> tuple[Ints, Array, Ints]:
    """Site of every point (−1: none; of several in one frame the nearest), sites' mean positions and sizes."""
    for _ in range(2):
        at = np.full(len(still), -1, dtype=np.int64)
        gap, near = cKDTree(sites).query(still, distance_upper_bound=reach)
        for own in rows:
            order = own[np.argsort(gap[own], kind="stable")]
            order = order[np.isfinite(gap[order])]
            _, first = np.unique(near[order], return_index=True)
            at[order[first]] = near[order[first]]
        held = at >= 0
        size = np.bincount(at[held], minlength=len(sites))
        sums = np.stack([np.bincount(at[held], still[held, k], len(sites)) for k in (0, 1)], axis=1)
        sites = np.where(size[:, None] > 0, sums / np.maximum(size, 1)[:, None], sites)
    return at, sites, size


def _found(where: tuple[Ints, Ints], worth: Array, shape: tuple[int, int]) -> Array:
    at, frame = where
    found = np.zeros(shape)
    found[at[at >= 0], frame[at >= 0]] = worth[at >= 0]
    # Not a single column in a frame: it was not looked at, or the image was blank.
    found[:, np.bincount(frame, minlength=shape[1]) == 0] = np.nan
    return found


def _inside(sites: Array, motion: Array, shape: tuple[int, int], *, margin: float) -> npt.NDArray[np.bool_]:
    """(S, T) whether each site lies in the field of each frame, `margin` px from its border."""
    at = _turned(sites[:, None], motion[None, :, 2]) + motion[None, :, :2]
    return np.asarray(((at >= margin) & (at <= np.array(shape) - 1 - margin)).all(axis=2))


def _table(still: Array, at: Ints, sites: Array, found: Array) -> pd.DataFrame:
    held = at >= 0
    size = np.bincount(at[held], minlength=len(sites))
    off = still[held] - sites[at[held]]
    square = np.stack([np.bincount(at[held], off[:, k] ** 2, len(sites)) for k in (0, 1)], axis=1)
    error = np.sqrt(square / np.maximum(size * (size - 1), 1)[:, None])
    seen = np.isfinite(found)
    return pd.DataFrame(
        {
            "site": np.arange(len(sites)),
            **{name: sites[:, k] for k, name in enumerate("yx")},
            **{f"{name}_err": error[:, k] for k, name in enumerate("yx")},
            "present": (found > 0).sum(1),
            "frames": seen.sum(1),
        }
    )


def _surface(
    table: pd.DataFrame, near: float, *, shape: tuple[int, int] | None, bulk: int | None
) -> pd.DataFrame:
    """neighbours, surface and edge of each site."""
    where = table[["y", "x"]].to_numpy()
    filled = (table["present"] >= FILLED * table["frames"].clip(lower=1)).to_numpy()
    pairs = cKDTree(where).query_pairs(near, output_type="ndarray")
    both = np.concatenate([pairs, pairs[:, ::-1]])
    number = np.bincount(both[filled[both[:, 1]], 0], minlength=len(table))
    edge = np.zeros(len(table), dtype=bool)
    if shape is not None:
        edge = ((where < near) | (where > np.array(shape) - 1 - near)).any(axis=1)
    counts = np.bincount(number[~edge & filled]) if (~edge & filled).any() else np.bincount(number)
    most = int(np.flatnonzero(counts >= COMMON * counts.sum()).max()) if bulk is None else bulk
    return pd.DataFrame({"neighbours": number, "surface": (number < most) & ~edge, "edge": edge})
