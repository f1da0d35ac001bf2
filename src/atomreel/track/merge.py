"""Merges and splits: track ends and starts explained by a neighbouring track, each with a confidence.

The candidates and the one-to-one assignment are those of the second step of Jaqaman et al., Nature Methods 5, 695 (2008),
after gaps are closed. In a dense field every track that ends has a neighbour, so nearness proves little: what decides
is whether the neighbour gains what the lost one had (its size), and moves to their common centre. Both are weighed against the scatter
that the tracks themselves show, and the share of candidates that merge comes from all of them together (an empirical Bayes mixture).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.spatial import cKDTree

from atomreel.core.errors import InputError
from atomreel.core.tables import check_table
from atomreel.track.assign import assign

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
_NEITHER = 1e-3  # likelihood of what neither reading explains, against the top of the Gaussian
_ALONE = 50.0  # cost above every candidate: an end takes whichever partner is likeliest


@dataclass(frozen=True)
class _Movie:
    """Rows in order of track and frame. where: without drift; seen: as given. size: ones where it is not known."""

    track: Ints
    frame: Ints
    where: Floats
    seen: Floats
    size: Floats
    known: bool
    kind: npt.NDArray[np.object_]


@dataclass(frozen=True)
class _Pairs:
    """Row at which a track ends (`gone`), rows of its partner just before and after, their distance before.
    ends: number of all ends. chance: partners that any point has within reach, on average."""

    gone: Ints
    before: Ints
    after: Ints
    away: Floats
    ends: int
    chance: float


def find_merges(
    tracks: pd.DataFrame,
    *,
    reach: float,
    size: str | None = None,
    power: float = 1.0,
    window: int = 3,
    drift: pd.DataFrame | None = None,
    field: tuple[int, int] | None = None,
    margin: float = 0.0,
) -> pd.DataFrame:
    """Events table of merges and splits in order of frame: one row per track that ends in, or begins out of, another.

    tracks: track, frame, y, x [px], kind, …; as `link` gives them. reach: largest distance of the two centres in the last frame in
    which both are seen [px]: for touching particles the sum of their radii and a step. size: column whose `power`-th power
    adds up in a merge, such as area (1 for flat discs, 1.5 for solid spheres seen from above) or intensity; without it
    only the distance speaks. window: frames before and after over which positions and sizes are averaged.
    drift: drift table, taken off first. field: (Y, X) of the frames: what would lie less than `margin` px inside it in the next frame has
    left the field, which is no merge (nor is what enters it a split).

    Columns: track (that ends or begins), partner, frame (the first without the one, or with both), y, x [px, the partner then],
    before, after (kinds), gap (frames between the observations, 1), event (merge or split), confidence (probability), away [px].
    All candidates are listed, the doubtful with a low confidence. A track has at most one end and one start here, and
    a partner takes one track per frame. Raises InputError.
    """
    if not (np.isfinite(reach) and reach > 0 and power > 0 and window >= 1):
        raise InputError(f"reach {reach}, power {power} and window {window} must be above 0")
    table = check_table(tracks, "tracks")
    if size is not None and size not in table:
        raise InputError(f"tracks have no column {size}; there are {', '.join(map(str, table.columns))}")
    if table.duplicated(["track", "frame"]).any():
        raise InputError("tracks: one track has two points in one frame; link the table again")
    movie = _movie(table, size, power, drift)
    parts = []
    for event, turned in (("merge", movie), ("split", _reversed(movie))):
        pairs = _candidates(turned, reach, _stays(turned, drift, field, margin))
        p = _confidence(turned, pairs, reach, window)
        parts.append(_listed(event, turned, pairs, p))
    events = pd.concat(parts, ignore_index=True).sort_values(
        ["frame", "track"], kind="stable", ignore_index=True
    )
    return check_table(events, "events")


def _movie(table: pd.DataFrame, size: str | None, power: float, drift: pd.DataFrame | None) -> _Movie:
    ordered = table.sort_values(["track", "frame"], kind="stable")
    frame = ordered["frame"].to_numpy(np.int64)
    seen = where = ordered[["y", "x"]].to_numpy(float)
    if drift is not None:
        where = seen - drift.set_index("frame")[["dy", "dx"]].reindex(frame).to_numpy(float)
    amount = np.ones(len(ordered)) if size is None else ordered[size].to_numpy(float) ** power
    if not (np.isfinite(where).all() and np.isfinite(amount).all()):
        raise InputError("merges: positions, drift and sizes must be finite")
    track, kind = ordered["track"].to_numpy(np.int64), ordered["kind"].to_numpy(object)
    return _Movie(track, frame, where, seen, amount, size is not None, kind)


def _reversed(movie: _Movie) -> _Movie:
    """The same movie run backwards: a split is then a merge."""
    return replace(
        movie,
        track=movie.track[::-1],
        frame=-movie.frame[::-1],
        where=movie.where[::-1],
        seen=movie.seen[::-1],
        size=movie.size[::-1],
        kind=movie.kind[::-1],
    )


def _stays(
    movie: _Movie, drift: pd.DataFrame | None, field: tuple[int, int] | None, margin: float
) -> npt.NDArray[np.bool_]:
    """Whether each row lies in the field, `margin` px inside, in its own frame and in the one that follows."""
    if field is None:
        return np.ones(len(movie.track), dtype=bool)
    way = -1 if len(movie.frame) and movie.frame.max() <= 0 else 1
    at = movie.where
    if drift is not None:
        frames = way * (movie.frame + 1)
        moves = drift.set_index("frame")[["dy", "dx"]].reindex(frames).to_numpy(float)
        at = at + np.where(np.isfinite(moves), moves, movie.seen - movie.where)
    corner = np.array(field) - 1 - margin
    return np.asarray(
        ((at >= margin) & (at <= corner) & (movie.seen >= margin) & (movie.seen <= corner)).all(axis=1)
    )


def _candidates(movie: _Movie, reach: float, stays: npt.NDArray[np.bool_]) -> _Pairs:
    """Ends in the field with every track within reach that is seen in that frame and the next."""
    final = (
        np.append(movie.track[1:] != movie.track[:-1], True) if len(movie.track) else np.zeros(0, dtype=bool)
    )
    on = ~final
    on[:-1] &= movie.frame[1:] - movie.frame[:-1] == 1
    none = np.zeros(0, dtype=np.int64)
    found: list[tuple[Ints, Ints, Floats]] = [(none, none, np.zeros(0))]
    ends, goes_on = np.flatnonzero(final), np.flatnonzero(on)
    last = int(movie.frame.max(initial=0))  # which ends everything
    ends = ends[stays[ends] & (movie.frame[ends] < last)]
    ends, goes_on = (rows[np.argsort(movie.frame[rows], kind="stable")] for rows in (ends, goes_on))
    others, seen, count = 0.5, 0, 0
    for frame in np.unique(movie.frame[ends]):
        gone, near = (
            rows[slice(*np.searchsorted(movie.frame[rows], [frame, frame + 1]))] for rows in (ends, goes_on)
        )
        count += len(gone)
        if len(near):
            trees = cKDTree(movie.where[gone]), cKDTree(movie.where[near])
            pairs = trees[0].sparse_distance_matrix(trees[1], reach, output_type="ndarray")
            found.append((gone[pairs["i"]], near[pairs["j"]], pairs["v"]))
            others, seen = others + trees[1].count_neighbors(trees[1], reach) - len(near), seen + len(near)
    gone, before, away = (np.concatenate(part) for part in zip(*found, strict=True))
    return _Pairs(gone, before, before + 1, away, count, others / max(seen, 1))


def _confidence(movie: _Movie, pairs: _Pairs, reach: float, window: int) -> Floats:
    """Probability of each pair that it merged, against the end having another cause."""
    if not len(pairs.gone):
        return np.zeros(0)
    if not movie.known:
        # What merges was near, as a Gaussian with its 2σ at `reach`; what has nothing to do with it is anywhere.
        density = 2 * np.exp(-2 * (pairs.away / reach) ** 2) / (1 - np.exp(-2))
        return _posterior(np.log(density / pairs.chance), pairs, ends=pairs.ends)
    lost, _, lasted = _average(movie, pairs.gone, -1, window)
    old, old_at, past = _average(movie, pairs.before, -1, window)
    new, new_at, future = _average(movie, pairs.after, 1, window)
    gain = new - old
    spread, jitter = _usual(movie, window)
    share = (lost / np.maximum(lost + old, 1e-30))[:, None]
    pull = share * (movie.where[pairs.gone] - old_at)
    moved = new_at - old_at
    # The usual changes are those of whole windows: what was seen for a shorter time is less certain.
    short = np.sqrt(window / np.minimum(np.minimum(past, future), lasted))
    # Errors of sizes grow with the size: `spread` is a share of it. A merge adds the scatter of what was lost.
    size = _ratio(
        ((gain - lost) / (spread * short * np.hypot(old, lost))) ** 2,
        (gain / (spread * short * old)) ** 2,
        scale=np.hypot(old, lost) / old,
    )
    at = ((moved - pull) ** 2).sum(1), (moved**2).sum(1)
    place = _ratio(*(one / (jitter * short) ** 2 for one in at), scale=np.ones(len(gain)))
    # One of the candidates at most can be the cause: each is as likely as the next before sizes are looked at.
    ends, own, rivals = np.unique(pairs.gone, return_inverse=True, return_counts=True)
    ratio = size + place - np.log(rivals[own])
    return _posterior(ratio, pairs, ends=len(ends))


def _ratio(merged: Floats, alone: Floats, *, scale: Floats) -> Floats:
    """Log likelihood ratio of two Gaussians, from squared deviations in units of their widths. scale: of the first's width to the second's.

    Now and then neither holds, as where a pair is parted wrongly: what is far from both says nothing.
    """
    return np.asarray(np.log((np.exp(-0.5 * merged) / scale + _NEITHER) / (np.exp(-0.5 * alone) + _NEITHER)))


def _average(movie: _Movie, rows: Ints, way: int, window: int) -> tuple[Floats, Floats, Ints]:
    """Median size and place of the rows of the same track from `rows` on, forwards or backwards in time, and their number."""
    steps = rows[:, None] + way * np.arange(window)
    safe = np.clip(steps, 0, len(movie.track) - 1)
    own = (movie.track[safe] == movie.track[rows][:, None]) & (safe == steps)
    size = np.nanmedian(np.where(own, movie.size[safe], np.nan), axis=1)
    where = np.nanmedian(np.where(own[..., None], movie.where[safe], np.nan), axis=1)
    return size, where, own.sum(axis=1)


def _usual(movie: _Movie, window: int) -> tuple[float, float]:
    """How much the averaged size (as a share) and place of a track change where nothing happens: robust 1σ."""
    inner = np.flatnonzero((movie.track[1:] == movie.track[:-1]) & (movie.frame[1:] - movie.frame[:-1] == 1))
    old, old_at, _ = _average(movie, inner, -1, window)
    new, new_at, _ = _average(movie, inner + 1, 1, window)
    change = np.abs(new - old) / np.maximum(old, 1e-30)
    return (
        max(float(np.median(change)) / 0.6745, 1e-3),
        max(float(np.median(np.abs(new_at - old_at))) / 0.6745, 1e-3),
    )


def _posterior(ratio: Floats, pairs: _Pairs, *, ends: int) -> Floats:
    """Probabilities from log likelihood ratios: each of `ends` has one of its candidates, or none, as cause."""
    _, own = np.unique(pairs.gone, return_inverse=True)
    odds = np.exp(np.clip(ratio, -30, 30))
    share, p = 0.2, np.zeros(len(ratio))
    for _ in range(200):
        weight = share * odds
        p = weight / (1 - share + np.bincount(own, weight))[own]
        share = float(np.clip(p.sum() / ends, 1e-3, 0.98))
    return p


def _listed(event: str, movie: _Movie, pairs: _Pairs, p: Floats) -> pd.DataFrame:
    """One row per end, with the partner that it takes."""
    chosen = np.zeros(0, dtype=np.int64)
    if len(p):
        row, column = (np.unique(rows, return_inverse=True)[1] for rows in (pairs.gone, pairs.before))
        cost = np.minimum(-np.log(np.maximum(p, 1e-20)), _ALONE - 1)
        chosen, _ = assign(row.astype(np.int64), column.astype(np.int64), cost, alone=_ALONE)
    gone, before, after = pairs.gone[chosen], pairs.before[chosen], pairs.after[chosen]
    merge = event == "merge"
    partner = after if merge else before  # of a split, run backwards, `before` is the later
    frame = movie.frame[after] if merge else -movie.frame[before]
    names = (movie.kind[gone], movie.kind[after]) if merge else (movie.kind[after], movie.kind[gone])
    return pd.DataFrame(
        {
            "track": movie.track[gone],
            "partner": movie.track[before],
            "frame": frame,
            "y": movie.seen[partner, 0],
            "x": movie.seen[partner, 1],
            "before": names[0],
            "after": names[1],
            "gap": 1,
            "event": event,
            "confidence": p[chosen],
            "away": pairs.away[chosen],
        }
    )
