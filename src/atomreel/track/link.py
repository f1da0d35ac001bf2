"""Points of many frames joined into tracks: each frame pair by one global assignment, then gaps by another.

The two steps are those of Jaqaman et al., Nature Methods 5, 695 (2008): every pair within reach competes at once,
births and ends have a price, and ends are joined with later starts in a second assignment over the whole movie.
So no two tracks claim one point, and tracks may begin and end in any frame.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.optimize import linear_sum_assignment
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components, min_weight_full_bipartite_matching
from scipy.spatial import cKDTree

from atomreel.core.errors import InputError
from atomreel.core.tables import check_table

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
_DENSE = 250_000  # entries: above this a component is solved as a sparse problem


WORST = 3.0  # cost of the worst link of one kind: a full step between two points of score 0


@dataclass(frozen=True)
class _Points:
    """All points in time order: frame, time in frames, position without drift, kind code, family code, 1 − score."""

    frame: Ints
    time: Floats
    where: Floats
    kind: Ints
    family: Ints
    doubt: Floats


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
    rows = _with_defaults(table).sort_values("frame", kind="stable", ignore_index=True)
    points = _points(rows, drift, times)
    before, after, odds = _consecutive(points, max_step, kind_cost)
    if memory:
        gap = _close_gaps(points, before, after, reach=(max_step, memory), kind_cost=kind_cost)
        before, after, odds = (np.concatenate(pair) for pair in zip((before, after, odds), gap, strict=True))
    confidence = np.full(len(rows), np.nan)
    confidence[after] = odds
    return rows.assign(track=_numbers(len(rows), before, after), link=confidence)


def _with_defaults(table: pd.DataFrame) -> pd.DataFrame:
    missing = [name for name in ("frame", "y", "x") if name not in table]
    if missing:
        raise InputError(f"linking needs the columns frame, y, x; {', '.join(missing)} missing")
    kinds = table["species"] if "species" in table else pd.Series("atom", index=table.index)
    defaults = {"kind": kinds, "score": 1.0, "y_err": np.nan, "x_err": np.nan}
    full = table.assign(**{name: value for name, value in defaults.items() if name not in table})
    if not np.isfinite(full[["y", "x"]].to_numpy(float)).all():
        raise InputError("linking: some positions are NaN or infinite; drop those rows first")
    return check_table(full.assign(track=0), "tracks").drop(columns="track")


def _points(rows: pd.DataFrame, drift: pd.DataFrame | None, times: npt.ArrayLike | None) -> _Points:
    frame = rows["frame"].to_numpy(np.int64)
    where = rows[["y", "x"]].to_numpy(float)
    if len(frame) and drift is not None:
        shifts = drift.set_index("frame")[["dy", "dx"]].reindex(np.unique(frame))
        if shifts.isna().any(axis=None):
            raise InputError("drift table: some frames that hold points are not in it")
        where = where - shifts.loc[frame].to_numpy(float)
    time = frame.astype(float)
    if times is not None:
        seconds = np.asarray(times, dtype=float)
        if len(frame) and (frame.min() < 0 or frame.max() >= len(seconds)):
            raise InputError(f"times has {len(seconds)} entries, the table's frames go up to {frame.max()}")
        if np.any(np.diff(seconds) <= 0):
            raise InputError("times must increase from frame to frame")
        # In units of the usual frame: a pause lengthens time, and so the reach.
        usual = float(np.median(np.diff(seconds))) if len(seconds) > 1 else 1.0
        time = (seconds / usual)[frame]
    names = rows["kind"].astype(str)
    kind = pd.factorize(names, sort=True)[0].astype(np.int64)
    family = pd.factorize(names.str.split("_").str[0], sort=True)[0].astype(np.int64)
    doubt = 1 - rows["score"].fillna(1.0).clip(0, 1).to_numpy(float)
    return _Points(frame, time, where, kind, family, doubt)


def _change(points: _Points, i: Ints, j: Ints) -> Floats:
    """0 for one kind, 1 for another, a quarter for another of the same family."""
    other = points.kind[i] != points.kind[j]
    return np.where(points.family[i] != points.family[j], 1.0, 0.25 * other)


def _consecutive(points: _Points, max_step: float, kind_cost: float) -> tuple[Ints, Ints, Floats]:
    """Links between each frame and the next one by number; a frame without points ends its tracks for now."""
    frames, starts = np.unique(points.frame, return_index=True)
    stops = np.append(starts[1:], len(points.frame))
    found: list[tuple[Ints, Ints, Floats]] = []
    for k in np.nonzero(np.diff(frames) == 1)[0]:
        old, new = np.arange(starts[k], stops[k]), np.arange(starts[k + 1], stops[k + 1])
        reach = max_step * np.sqrt(max(1.0, float(points.time[new[0]] - points.time[old[0]])))
        near = cKDTree(points.where[old]).sparse_distance_matrix(
            cKDTree(points.where[new]), reach, output_type="coo_matrix"
        )
        i, j = near.row.astype(np.int64), near.col.astype(np.int64)
        cost = (near.data / reach) ** 2 + kind_cost * _change(points, old[i], new[j])
        cost += points.doubt[old[i]] + points.doubt[new[j]]
        chosen, odds = _assign(i, j, cost, WORST + kind_cost)
        found.append((old[i[chosen]], new[j[chosen]], odds))
    return _joined(found)


def _close_gaps(
    points: _Points, before: Ints, after: Ints, *, reach: tuple[float, int], kind_cost: float
) -> tuple[Ints, Ints, Floats]:
    """Track ends joined with starts up to `memory` + 1 frames later."""
    max_step, memory = reach
    last = np.ones(len(points.frame), dtype=bool)
    first = last.copy()
    last[before], first[after] = False, False
    ends, starts = np.nonzero(last)[0], np.nonzero(first)[0]
    by_frame = {int(f): starts[points.frame[starts] == f] for f in np.unique(points.frame[starts])}
    i_all: list[Ints] = []
    j_all: list[Ints] = []
    costs: list[Floats] = []
    for frame in np.unique(points.frame[ends]):
        old = ends[points.frame[ends] == frame]
        tree = cKDTree(points.where[old])
        for gap in range(2, memory + 2):
            new = by_frame.get(int(frame) + gap)
            if new is None:
                continue
            far = max_step * np.sqrt(max(1.0, float(points.time[new[0]] - points.time[old[0]])))
            near = tree.sparse_distance_matrix(cKDTree(points.where[new]), far, output_type="coo_matrix")
            i, j = old[near.row], new[near.col]
            i_all.append(i.astype(np.int64))
            j_all.append(j.astype(np.int64))
            # Each missed frame makes a link less likely: between equals, the shorter gap wins.
            doubt = points.doubt[i] + points.doubt[j]
            costs.append(
                (near.data / far) ** 2 + kind_cost * _change(points, i, j) + doubt + 0.05 * (gap - 1)
            )
    if not i_all:
        return _joined([])
    i, j, cost = np.concatenate(i_all), np.concatenate(j_all), np.concatenate(costs)
    chosen, odds = _assign(i, j, cost, WORST + kind_cost + 0.05 * memory)
    return i[chosen], j[chosen], odds


def _assign(i: Ints, j: Ints, cost: Floats, alone: float) -> tuple[Ints, Floats]:
    """Cheapest one-to-one choice among candidate pairs when staying alone costs `alone` per possible pair.

    Returns the chosen pairs' numbers, in order, and each one's probability against its rivals.
    """
    if not len(i):
        return np.zeros(0, dtype=np.int64), np.zeros(0)
    rows, i = np.unique(i, return_inverse=True)
    columns, j = np.unique(j, return_inverse=True)
    free = (np.bincount(i)[i] == 1) & (np.bincount(j)[j] == 1)
    chosen = [np.nonzero(free & (cost <= alone))[0]]
    busy = np.nonzero(~free)[0]
    if len(busy):
        graph = coo_array(
            (np.ones(len(busy)), (i[busy], j[busy] + len(rows))), shape=(len(rows) + len(columns),) * 2
        )
        label = connected_components(graph, directed=False)[1][i[busy]]
        order = np.argsort(label, kind="stable")
        cuts = np.nonzero(np.diff(label[order]))[0] + 1
        for part in np.split(busy[order], cuts):
            chosen.append(part[_solve(i[part], j[part], cost[part] - alone)])
    pairs = np.sort(np.concatenate(chosen)).astype(np.int64)
    return pairs, _odds(i, j, cost, pairs, alone)


def _solve(i: Ints, j: Ints, gain: Floats) -> Ints:
    """Which of one component's pairs to take: the set, one-to-one, with the lowest sum of `gain` (≤ 0)."""
    rows, i = np.unique(i, return_inverse=True)
    columns, j = np.unique(j, return_inverse=True)
    number = {pair: k for k, pair in enumerate(zip(i.tolist(), j.tolist(), strict=True))}
    if len(rows) * len(columns) <= _DENSE:
        matrix = np.zeros((len(rows), len(columns)))
        matrix[i, j] = np.minimum(gain, 0)
        matched = zip(*(a.tolist() for a in linear_sum_assignment(matrix)), strict=True)
    else:  # each row may also take a column of its own, which stands for staying alone
        own = np.arange(len(rows))
        values = np.concatenate([np.minimum(gain, 0), np.zeros(len(rows))]) + gain.min() - 1
        graph = coo_array(
            (values, (np.concatenate([i, own]), np.concatenate([j, len(columns) + own]))),
            shape=(len(rows), len(columns) + len(rows)),
        ).tocsr()
        matched = zip(*(a.tolist() for a in min_weight_full_bipartite_matching(graph)), strict=True)
    taken = [number[pair] for pair in matched if pair in number]
    return np.array(sorted(k for k in taken if gain[k] <= 0), dtype=np.int64)


def _odds(i: Ints, j: Ints, cost: Floats, pairs: Ints, alone: float) -> Floats:
    """Probability of each chosen pair against all pairs that share an end with it, and against no link.

    Steps are taken as Gaussian with the width that the chosen links themselves have.
    """
    if not len(pairs):
        return np.zeros(0)
    width = np.clip(float(np.median(cost[pairs])) / np.log(2), 0.02, alone)
    weight = np.exp(-cost / width)
    rivals = np.bincount(i, weight)[i] + np.bincount(j, weight)[j] - weight + np.exp(-alone / width)
    return np.asarray((weight / np.maximum(rivals, 1e-300))[pairs])


def _joined(found: list[tuple[Ints, Ints, Floats]]) -> tuple[Ints, Ints, Floats]:
    if not found:
        none = np.zeros(0, dtype=np.int64)
        return none, none, np.zeros(0)
    before, after, odds = (np.concatenate(part) for part in zip(*found, strict=True))
    return before, after, odds


def _numbers(count: int, before: Ints, after: Ints) -> Ints:
    """Track of each point, numbered by first appearance."""
    if not count:
        return np.zeros(0, dtype=np.int64)
    previous = np.full(count, -1, dtype=np.int64)
    previous[after] = before
    heads = np.nonzero(previous < 0)[0]
    track = np.full(count, -1, dtype=np.int64)
    track[heads] = np.arange(len(heads))
    source = np.where(previous < 0, np.arange(count), previous)
    while (track < 0).any():  # pointer doubling: log2(length) rounds
        track = track[source]
        source = source[source]
    return track
