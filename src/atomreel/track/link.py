"""Points of many frames joined into tracks: each frame pair by one global assignment, then gaps by another.

The two steps are those of Jaqaman et al., Nature Methods 5, 695 (2008): every pair within reach competes at once,
births and ends have a price, and ends are joined with later starts in a second assignment over the whole movie.
So no two tracks claim one point, and tracks may begin and end in any frame. Time and memory grow with the number of points.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.spatial import cKDTree

from atomreel.core.errors import InputError
from atomreel.core.tables import check_table
from atomreel.track.assign import assign

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Rows = npt.NDArray[np.integer[Any]]
WORST = 3.0  # cost of the worst link of one kind: a full step between two points of score 0
_MISSED = 0.05  # cost of each frame missed: between equals, the shorter gap wins


@dataclass(frozen=True)
class _Points:
    """Points in order of frame. Per frame: its number, time in frames, first row (and the end), drift (F, 2).
    Per row: y, x, kind code, score; family: of each kind code."""

    frames: Ints
    time: Floats
    cuts: Ints
    shift: Floats
    y: Floats
    x: Floats
    kind: npt.NDArray[np.int32]
    family: Ints
    score: Floats

    def rows(self, k: int) -> Ints:
        return np.arange(self.cuts[k], self.cuts[k + 1])

    def where(self, rows: Ints, k: int) -> Floats:
        """(n, 2) positions without drift of rows of the k-th frame."""
        return np.stack([self.y[rows], self.x[rows]], axis=1) - self.shift[k]

    def reach(self, k: int, later: int, max_step: float) -> float:
        return max_step * float(np.sqrt(max(1.0, self.time[later] - self.time[k])))

    def price(self, i: Ints, j: Ints, kind_cost: float) -> Floats:
        """Cost of joining rows i and j besides the way between them: change of kind, and doubt of either."""
        change = np.where(
            self.family[self.kind[i]] != self.family[self.kind[j]], 1.0, 0.25 * (self.kind[i] != self.kind[j])
        )
        return kind_cost * change + self._doubt(i) + self._doubt(j)

    def _doubt(self, rows: Ints) -> Floats:
        return np.asarray(1 - np.clip(np.nan_to_num(self.score[rows], nan=1.0), 0, 1))


def link(
    table: pd.DataFrame,
    *,
    max_step: float,
    memory: int = 2,
    drift: pd.DataFrame | None = None,
    times: npt.ArrayLike | None = None,
    kind_cost: float = 0.8,
) -> pd.DataFrame:
    """Points of every frame → the same rows sorted by frame, with `track` and `link`.

    table: frame, y, x [px] and whatever else; `kind` (or `species`) steers linking when there, and is written
    as `kind` otherwise. max_step: longest move between consecutive frames [px]; over a pause of the recording
    or a gap it grows with the root of the time passed. memory: frames that a point may be missing for.
    drift: drift table; positions are compared without it. times: (T,) [s], one per frame number.
    kind_cost: price of a change of kind, as a share of max_step². A kind may change, it just competes worse
    (a quarter of it within a family: what stands before the underscore, as in Mo_W and Mo_W+V_S);
    so do points of low `score`.

    `track` counts from 0 in order of first appearance. `link` is the probability of the link to the track's
    previous point against the other readings within reach (NaN at a track's first point).
    Raises InputError for missing columns, and for max_step, memory or times that cannot be used.
    """
    if not (np.isfinite(max_step) and max_step > 0):
        raise InputError(f"max_step is {max_step}: expected a length in pixels above 0")
    if memory < 0 or kind_cost < 0:
        raise InputError(f"memory {memory} and kind_cost {kind_cost} must not be negative")
    rows = _with_defaults(table)
    points = _points(rows, drift, times)
    previous: Rows = np.full(len(rows), -1, dtype=np.int32 if len(rows) < 2**31 else np.int64)
    confidence = np.full(len(rows), np.nan)
    for before, after, odds in _consecutive(points, max_step, kind_cost):
        previous[after], confidence[after] = before, odds
    if memory and len(rows):
        before, after, odds = _close_gaps(points, previous, reach=(max_step, memory), kind_cost=kind_cost)
        previous[after], confidence[after] = before, odds
    return rows.assign(track=_numbers(previous, points.cuts), link=confidence)


def _with_defaults(table: pd.DataFrame) -> pd.DataFrame:
    """`table` sorted by frame, with the columns that a table of tracks has besides the track."""
    missing = [name for name in ("frame", "y", "x") if name not in table]
    if missing:
        raise InputError(f"linking needs the columns frame, y, x; {', '.join(missing)} missing")
    kinds = table["species"] if "species" in table else pd.Series("atom", index=table.index)
    defaults = {"kind": kinds, "score": 1.0, "y_err": np.nan, "x_err": np.nan}
    full = table.assign(**{name: value for name, value in defaults.items() if name not in table})
    full = check_table(full.assign(track=0), "tracks").drop(columns="track")
    if not all(np.isfinite(full[name].to_numpy()).all() for name in "yx"):
        raise InputError("linking: some positions are NaN or infinite; drop those rows first")
    if full["frame"].is_monotonic_increasing:
        return full.reset_index(drop=True)
    return full.sort_values("frame", kind="stable", ignore_index=True)


def _points(rows: pd.DataFrame, drift: pd.DataFrame | None, times: npt.ArrayLike | None) -> _Points:
    frame = rows["frame"].to_numpy(np.int64)
    cuts = np.concatenate([[0], np.flatnonzero(frame[1:] != frame[:-1]) + 1, [len(frame)]])
    frames = frame[cuts[:-1]] if len(frame) else frame
    cuts = cuts if len(frame) else cuts[:1]
    shift = np.zeros((len(frames), 2))
    if len(frames) and drift is not None:
        shift = drift.set_index("frame")[["dy", "dx"]].reindex(frames).to_numpy(float)
        if np.isnan(shift).any():
            raise InputError("drift table: some frames that hold points are not in it")
    time = frames.astype(float)
    if times is not None:
        seconds = np.asarray(times, dtype=float)
        if len(frames) and (frames[0] < 0 or frames[-1] >= len(seconds)):
            raise InputError(f"times has {len(seconds)} entries, the table's frames go up to {frames[-1]}")
        if np.any(np.diff(seconds) <= 0):
            raise InputError("times must increase from frame to frame")
        # In units of the usual frame: a pause lengthens time, and so the reach.
        usual = float(np.median(np.diff(seconds))) if len(seconds) > 1 else 1.0
        time = (seconds / usual)[frames]
    kind, names = pd.factorize(rows["kind"])
    family = pd.factorize(np.array([str(name).split("_")[0] for name in names], dtype=object))[0]
    y, x, score = (rows[name].to_numpy() for name in ("y", "x", "score"))
    no_name = np.append(family, -1)  # of kind −1
    return _Points(frames, time, cuts, shift, y, x, kind.astype(np.int32), no_name, score)


def _consecutive(points: _Points, max_step: float, kind_cost: float) -> Iterator[tuple[Ints, Ints, Floats]]:
    """Links between each frame and the next one by number; a frame without points ends its tracks for now."""
    tree: cKDTree | None = None
    for k in range(1, len(points.frames)):
        if points.frames[k] - points.frames[k - 1] != 1:
            tree = None
            continue
        old, new = points.rows(k - 1), points.rows(k)
        tree = _tree(points.where(old, k - 1)) if tree is None else tree
        tree, before = _tree(points.where(new, k)), tree
        reach = points.reach(k - 1, k, max_step)
        i, j, distance = _near(before, tree, reach)
        cost = (distance / reach) ** 2 + points.price(old[i], new[j], kind_cost)
        chosen, odds = assign(i, j, cost, alone=WORST + kind_cost)
        yield old[i[chosen]], new[j[chosen]], odds


def _tree(where: Floats) -> cKDTree:
    return cKDTree(where, compact_nodes=False, balanced_tree=False)


def _near(old: cKDTree, new: cKDTree, reach: float) -> tuple[Ints, Ints, Floats]:
    """Numbers of points of either frame that are at most `reach` apart, and how far."""
    near = old.sparse_distance_matrix(new, reach, output_type="ndarray")
    return near["i"].astype(np.int64), near["j"].astype(np.int64), near["v"]


def _close_gaps(
    points: _Points, previous: Rows, *, reach: tuple[float, int], kind_cost: float
) -> tuple[Ints, Ints, Floats]:
    """Track ends joined with starts up to `memory` + 1 frames later."""
    max_step, memory = reach
    last = np.ones(len(previous), dtype=bool)
    last[previous[previous >= 0]] = False
    ends, starts = (_by_frame(np.flatnonzero(rows), points) for rows in (last, previous < 0))
    found: list[tuple[Ints, Ints, Floats]] = []
    later = {int(frame): k for k, frame in enumerate(points.frames)}
    for k, frame in enumerate(points.frames):
        tree = _tree(points.where(ends[k], k)) if len(ends[k]) else None
        for gap in range(2, memory + 2):
            other = later.get(int(frame) + gap, -1)
            if tree is None or other < 0 or not len(starts[other]):
                continue
            far = points.reach(k, other, max_step)
            i, j, distance = _near(tree, _tree(points.where(starts[other], other)), far)
            i, j = ends[k][i], starts[other][j]
            cost = (distance / far) ** 2 + points.price(i, j, kind_cost) + _MISSED * (gap - 1)
            found.append((i, j, cost))
    if not found:
        none = np.zeros(0, dtype=np.int64)
        return none, none, np.zeros(0)
    i, j, cost = (np.concatenate(part) for part in zip(*found, strict=True))
    row, column = (np.unique(ends_of, return_inverse=True)[1] for ends_of in (i, j))
    chosen, odds = assign(row, column, cost, alone=WORST + kind_cost + _MISSED * memory)
    return i[chosen], j[chosen], odds


def _by_frame(rows: Ints, points: _Points) -> list[Ints]:
    return np.split(rows, np.searchsorted(rows, points.cuts[1:-1]))


def _numbers(previous: Rows, cuts: Ints) -> Ints:
    """Track of each point, numbered by first appearance."""
    track = np.zeros(len(previous), dtype=np.int64)
    count = 0
    for start, stop in pairwise(cuts):
        came = previous[start:stop]
        new = came < 0
        track[start:stop] = np.where(new, count + np.cumsum(new) - 1, track[came])
        count += int(new.sum())
    return track
