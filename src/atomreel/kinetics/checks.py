"""Is it a Markov process at all? The Chapman–Kolmogorov test and the survival of dwell times, beside what the fitted rates say.

Chapman–Kolmogorov: if what comes next depends on the present state alone, transition probabilities over n frames are the n-th power of those over one
(J.-H. Prinz et al., J. Chem. Phys. 134, 174105 (2011)). Survival: the estimator of Kaplan and Meier, from dwells whose beginning was seen.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import stats

from atomreel.core.errors import InputError
from atomreel.kinetics.intervals import check_level
from atomreel.kinetics.markov import frame_clock

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
SAME = 0.05  # of the usual time between frames: how far a step may be off a whole number of them
PAUSE = 1.5  # times the usual step: beyond it a dwell is not followed


@dataclass(frozen=True, eq=False)
class ChapmanKolmogorov:
    """seen, expected, low, high: (L, n, n) transition probabilities over `lags` frames, counted and as powers of those over one, and between
    what a Markov chain with these probabilities, as long and with the same gaps, would be counted. starts: (L, n) pairs behind each row of
    `seen`. p: chance of so large a difference, were it Markov. tau: time of one frame [s, or 1]."""

    states: tuple[str, ...]
    lags: tuple[int, ...]
    seen: Floats
    expected: Floats
    low: Floats
    high: Floats
    starts: Ints
    p: float
    tau: float
    level: float


@dataclass(frozen=True, eq=False)
class Survival:
    """Kaplan–Meier: share of dwells longer than `time`, with its interval. count: dwells, ended: those whose end was seen."""

    time: Floats
    share: Floats
    low: Floats
    high: Floats
    count: int
    ended: int
    unit: str
    level: float


def chapman_kolmogorov(
    tracks: pd.DataFrame,
    *,
    by: str = "state",
    states: Sequence[str] | None = None,
    times: npt.ArrayLike | None = None,
    lags: Sequence[int] = (2, 3, 4, 6),
    replicates: int = 199,
    level: float = 0.95,
    rng: np.random.Generator | int | None = None,
) -> ChapmanKolmogorov:
    """Test of the Markov property by simulated chains (a parametric bootstrap).

    tracks: track, frame and `by`. times: (T,) [s]; where a step is no whole number of usual steps a track is cut in two. lags: frames.
    The difference is Σ N (seen − expected)²/expected over all lags and pairs of states, N pairs at the start; overlapping pairs and unequal lags
    are in the simulated ones too, so p needs no theory. Misread frames look like memory: test smoothed or certain states.
    Raises InputError for missing columns or no two points a frame apart.
    """
    tail = (1 - check_level(level)) / 2
    grid, names, tau = _on_a_grid(tracks, by, states, times)
    n, steps = len(names), tuple(sorted({int(k) for k in lags} - {1}))
    if not steps or min(steps) < 2:
        raise InputError(f"lags {tuple(lags)}: expected whole numbers of frames above 1")
    rng = np.random.default_rng(rng)
    chain = _row_shares(_count(grid, 1, (1, n)))[0]
    seen, starts, distance = _compare(grid, steps, (1, n))
    others = _simulate(np.tile(grid, replicates), chain, rng)
    counted, _, far = _compare(others, steps, (replicates, n))
    with np.errstate(all="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # states that were never there
        low, high = np.nanquantile(counted, [tail, 1 - tail], axis=0)
    p = (1 + int((far >= distance * (1 - 1e-12)).sum())) / (1 + replicates)
    powers = np.array([np.linalg.matrix_power(chain, k) for k in steps])
    return ChapmanKolmogorov(names, steps, seen[0], powers, low, high, starts[0], float(p), tau, level)


def _on_a_grid(
    tracks: pd.DataFrame, by: str, states: Sequence[str] | None, times: npt.ArrayLike | None
) -> tuple[Ints, tuple[str, ...], float]:
    """(T, S) state codes on whole numbers of usual steps, −1 where nothing was seen; the states; the usual step."""
    missing = [c for c in ("track", "frame", by) if c not in tracks]
    if missing or not len(tracks):
        raise InputError(
            f"this test needs rows with track, frame, {by}; {', '.join(missing) or 'rows'} missing"
        )
    table = tracks.sort_values(["track", "frame"], kind="stable")
    if table.duplicated(["track", "frame"]).any():
        raise InputError("tracks: one track has two points in one frame; link the table again")
    label = table[by].astype(str)
    names = tuple(sorted(label.unique())) if states is None else tuple(states)
    code = pd.Categorical(label, categories=list(names)).codes.astype(np.int64)
    frame = table["frame"].to_numpy(np.int64)
    clock, track = frame_clock(frame, times), table["track"].to_numpy()
    step = np.diff(clock, prepend=clock[:1])
    new = np.r_[True, track[1:] != track[:-1]]
    next_frame = ~new & (np.diff(frame, prepend=frame[:1]) == 1)
    if not next_frame.any():
        raise InputError("no track shows two frames in a row, so there is nothing to test")
    tau = float(np.median(step[next_frame]))
    whole = np.rint(step / tau)
    new |= np.abs(step / tau - whole) > SAME
    line = np.cumsum(new) - 1
    place = np.where(new, 0, whole).astype(np.int64)
    total = np.cumsum(place)
    place = total - total[new][line]
    grid = np.full((int(place.max()) + 1, int(line.max()) + 1), -1, dtype=np.int64)
    grid[place, line] = code
    return grid, names, tau


def _count(grid: Ints, lag: int, size: tuple[int, int]) -> Ints:
    """(B, n, n) pairs `lag` apart, the grid's columns being those of B samples one after the other."""
    samples, n = size
    before, after = grid[:-lag], grid[lag:]
    good = (before >= 0) & (after >= 0)
    sample = np.broadcast_to(np.arange(grid.shape[1]) // (grid.shape[1] // samples), before.shape)
    code = (sample[good] * n + before[good]) * n + after[good]
    return np.bincount(code, minlength=samples * n * n).reshape(samples, n, n)


def _row_shares(counts: Ints) -> Floats:
    """Rows of shares; a state never left keeps to itself."""
    total = counts.sum(axis=-1, keepdims=True)
    return np.where(total > 0, counts / np.maximum(total, 1), np.eye(counts.shape[-1]))


def _compare(grid: Ints, lags: tuple[int, ...], size: tuple[int, int]) -> tuple[Floats, Ints, Floats]:
    """(B, L, n, n) shares seen, NaN in rows without a start; (B, L, n) starts; (B,) distance from powers of each sample's own chain."""
    chain = _row_shares(_count(grid, 1, size))
    counts = np.stack([_count(grid, lag, size) for lag in lags], axis=1)
    of = counts.sum(axis=-1)
    power = np.stack([np.linalg.matrix_power(chain, lag) for lag in lags], axis=1)
    # Half a pair more than expected keeps cells that hardly ever happen from deciding.
    expected = of[..., None] * power
    distance = ((counts - expected) ** 2 / (expected + 0.5)).sum(axis=(1, 2, 3))
    seen = np.where(of[..., None] > 0, counts / np.maximum(of, 1)[..., None], np.nan)
    return seen, of, distance


def _simulate(grid: Ints, chain: Floats, rng: np.random.Generator) -> Ints:
    """Chains that start as the tracks do and are seen where they are."""
    there = grid >= 0
    first = np.where(there.any(axis=0), grid[there.argmax(axis=0), np.arange(grid.shape[1])], 0)
    reach = np.cumsum(chain, axis=1)
    reach[:, -1] = 1.0
    luck = rng.random(grid.shape)
    out, now = np.empty_like(grid), first
    for t in range(len(grid)):
        if t:
            now = (reach[now] < luck[t][:, None]).sum(axis=1)
        out[t] = now
    return np.where(there, out, -1)


def dwell_times(
    tracks: pd.DataFrame, *, by: str = "state", times: npt.ArrayLike | None = None
) -> pd.DataFrame:
    """One row per dwell: track, state, start [s or frames], duration, ended, start_seen.

    A dwell lasts from the first frame that shows a state to the first that shows another. ended: False where the track ended, or where a gap longer than
    1.5 usual steps hides what happened; the dwell is then known to last until the last frame before it. start_seen: False at the
    beginning of a track and after such a gap: its age is not known.
    """
    missing = [c for c in ("track", "frame", by) if c not in tracks]
    if missing or not len(tracks):
        raise InputError(f"dwells need rows with track, frame, {by}; {', '.join(missing) or 'rows'} missing")
    table = tracks.sort_values(["track", "frame"], kind="stable")
    frame, track = table["frame"].to_numpy(np.int64), table["track"].to_numpy()
    clock, label = frame_clock(frame, times), table[by].astype(str).to_numpy(object)
    same = track[1:] == track[:-1]
    step = np.diff(clock)
    usual = float(np.median(step[same])) if same.any() else 1.0
    followed = same & (step <= PAUSE * usual)
    cut = np.r_[True, ~followed | (label[1:] != label[:-1])]
    first = np.flatnonzero(cut)
    last = np.r_[first[1:], len(table)] - 1
    ended = np.r_[followed, False][last]
    end = np.where(ended, clock[np.minimum(last + 1, len(clock) - 1)], clock[last])
    return pd.DataFrame(
        {
            "track": track[first],
            "state": label[first],
            "start": clock[first],
            "duration": end - clock[first],
            "ended": ended,
            "start_seen": np.r_[False, followed][first],
        }
    )


def survival(dwells: pd.DataFrame, *, unit: str = "s", level: float = 0.95) -> Survival:
    """Share of dwells that last longer than a time (Kaplan & Meier 1958), from `dwell_times` of one state.

    Dwells that were going on when the track began are left out: they are cut on the left at an age that nobody knows, and long ones are among them more
    often. Those that were still going on at the end count as long as they were seen. Intervals: Greenwood's variance of
    log(−log S), which keeps them between 0 and 1; where none or all have ended, which has no variance, those of Clopper and Pearson for
    the dwells at risk. Raises InputError when no dwell's beginning was seen.
    """
    tail = (1 - check_level(level)) / 2
    own = dwells[dwells["start_seen"] & (dwells["ended"] | (dwells["duration"] > 0))]
    if not len(own):
        raise InputError("no dwell begins within a track, so how long they last cannot be told")
    length, ended = own["duration"].to_numpy(float), own["ended"].to_numpy(bool)
    if not ended.any():
        time = np.array([0.0, float(length.max())])
        low = np.array([1.0, tail ** (1 / len(own))])
        return Survival(time, np.ones(2), low, np.ones(2), len(own), 0, unit, level)
    data = stats.CensoredData.right_censored(length, ~ended)
    curve = stats.ecdf(data).sf
    with warnings.catch_warnings():
        warnings.simplefilter(
            "ignore", RuntimeWarning
        )  # undefined where none or all have ended: filled in below
        ends = curve.confidence_interval(confidence_level=level, method="log-log")
    time = curve.quantiles
    share, low, high = curve.probabilities, ends.low.probabilities, ends.high.probabilities
    risk = np.array([(length >= t).sum() for t in time])
    none, all_gone = share >= 1, share <= 0
    low = np.where(none, tail ** (1 / risk), np.where(all_gone, 0.0, low))
    high = np.where(none, 1.0, np.where(all_gone, 1 - tail ** (1 / risk), high))
    time, share, low, high = np.r_[0.0, time], np.r_[1.0, share], np.r_[1.0, low], np.r_[1.0, high]
    return Survival(time, share, low, high, len(own), int(ended.sum()), unit, level)


def exponential_survival(time: npt.ArrayLike, *, leaving: npt.ArrayLike) -> tuple[Floats, Floats, Floats]:
    """exp(−λt) at the times for the value, the low and the high end of the total rate λ out of the state."""
    value, low, high = np.asarray(leaving, dtype=float)
    at = np.asarray(time, dtype=float)
    return np.exp(-value * at), np.exp(-high * at), np.exp(-low * at)
