"""Rates of hidden states: what is seen in a frame only makes states more or less likely (a hidden Markov model).

The process runs in continuous time between frames at any times, dp/dt = p·Q; each observation gives a likelihood per state.
States, the paths between frames and the rates are drawn in turn from their posterior (Gibbs sampling): states by filtering
forward and sampling backward (C. K. Carter & R. Kohn, Biometrika 81 (1994) 541), the jumps between two frames by
uniformisation (A. Hobolth & E. A. Stone, Ann. Appl. Stat. 3 (2009) 1204), rates from their Gamma distribution given
jumps and dwell times. So a doubtful frame is no reaction, a pause has its length, and two changes within one step count as two.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import linalg, special, stats

from atomreel.core.errors import InputError
from atomreel.kinetics.intervals import check_level
from atomreel.kinetics.markov import Rates, frame_clock, group_steps

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
PRIOR = 0.5  # changes that each rate is credited with beforehand (Jeffreys' for a Poisson count), in the time of one frame
HALVINGS = 24  # of the bracket in which a quantile lies


@dataclass(frozen=True, eq=False)
class Hidden:
    """What the observations say of the states and their rates.

    rates: q are posterior medians, low and high posterior quantiles, events the mean number of jumps, exposure the mean time in
    each state. draws: (D, n, n) of the rates. probability: (N, n) of each observation's states, in the order of the rows given.
    """

    rates: Rates
    draws: Floats
    probability: Floats


@dataclass(frozen=True, eq=False)
class _Tracks:
    """Observations side by side: emission (T, S, n), scaled to 1 at most; gap (T − 1, S) which Δt, 0 for none; dt (K,).

    row: (T, S) of each observation, −1 beyond a track's end."""

    emission: Floats
    gap: Ints
    dt: Floats
    row: Ints


def fit_hidden(
    observed: pd.DataFrame,
    likelihood: npt.ArrayLike,
    *,
    states: tuple[str, ...],
    groups: npt.ArrayLike | None = None,
    times: npt.ArrayLike | None = None,
    draws: int = 1000,
    burn: int = 200,
    level: float = 0.95,
    rng: np.random.Generator | int | None = None,
) -> Hidden:
    """Posterior of the rates between `states`, and of the state at each observation.

    observed: track, frame. likelihood: (N, n) natural logarithm of how likely what was seen is in each state; a constant per row
    does not matter. groups: (n, n) whole numbers: rates with the same number above 0 are one and the same, 0: cannot happen;
    by default each its own. times: (T,) [s], one per frame. draws, burn: sweeps kept and thrown away before.
    Raises InputError for wrong shapes, a row that no state explains, two points of a track in one frame.
    """
    tail = (1 - check_level(level)) / 2
    n = len(states)
    kinds = _groups(groups, n)
    tracks = _side_by_side(observed, np.asarray(likelihood, dtype=float), n, times)
    rng = np.random.default_rng(rng)
    frame = float(tracks.dt[1:].min()) if len(tracks.dt) > 1 else 1.0
    q = np.where(kinds > 0, 1 / (4 * n * frame), 0.0)
    start = np.full(n, 1 / n)
    kept, jumps, dwell = np.zeros((draws, n, n)), np.zeros((draws, n, n)), np.zeros((draws, n))
    seen = np.zeros(tracks.emission.shape)
    for sweep in range(burn + draws):
        path, smoothed = _sample_states(tracks, q, start, rng)
        count, time = _sample_jumps(tracks, q, path, rng)
        q = _sample_rates(kinds, count, time + frame, rng)
        start = rng.dirichlet(np.bincount(path[0], minlength=n) + PRIOR)
        if sweep >= burn:
            kept[sweep - burn], jumps[sweep - burn], dwell[sweep - burn] = q, count, time
            seen += smoothed
    inside = tracks.row >= 0
    probability = np.empty((int(inside.sum()), n))
    probability[tracks.row[inside]] = seen[inside] / draws
    shape, risk = (
        np.array(part)
        for part in zip(*(_gamma(kinds, *one) for one in zip(jumps, dwell + frame, strict=True)), strict=True)
    )
    low, middle, high = (_quantile(share, shape, risk)[kinds] for share in (tail, 0.5, 1 - tail))
    unit = "1/s" if times is not None else "1/frame"
    method = f"hidden Markov model, Gibbs sampling, {level:.0%} posterior interval"
    rates = Rates(states, middle, low, high, jumps.mean(0), dwell.mean(0), unit, method)
    return Hidden(rates, kept, probability)


def _groups(groups: npt.ArrayLike | None, n: int) -> Ints:
    kinds = np.arange(1, n * n + 1).reshape(n, n) if groups is None else np.array(groups, dtype=np.int64)
    if kinds.shape != (n, n) or (kinds < 0).any():
        raise InputError(f"groups: whole numbers from 0 of shape ({n}, {n}), got shape {kinds.shape}")
    kinds = kinds.copy()
    np.fill_diagonal(kinds, 0)
    return kinds


def _side_by_side(observed: pd.DataFrame, log: Floats, n: int, times: npt.ArrayLike | None) -> _Tracks:
    missing = [name for name in ("track", "frame") if name not in observed]
    if missing or not len(observed):
        raise InputError(
            f"hidden states need rows with track and frame; {', '.join(missing) or 'rows'} missing"
        )
    if log.shape != (len(observed), n):
        raise InputError(f"likelihood: expected shape ({len(observed)}, {n}), got {log.shape}")
    best = log.max(1, keepdims=True)
    if not np.isfinite(best).all() or np.isnan(log).any():
        raise InputError("likelihood: every row must be finite for at least one state, and never NaN")
    frame = observed["frame"].to_numpy(np.int64)
    clock = frame_clock(frame, times)
    order = np.lexsort((frame, observed["track"].to_numpy()))
    number = np.unique(observed["track"].to_numpy()[order], return_inverse=True)[1]
    first = np.flatnonzero(np.diff(number, prepend=-1))
    place = np.arange(len(order)) - first[number]
    longest = int(place.max()) + 1
    row = np.full((longest, int(number.max()) + 1), -1, dtype=np.int64)
    row[place, number] = order
    emission = np.ones((*row.shape, n))
    emission[place, number] = np.exp(log - best)[order]
    step = np.diff(clock[order])
    within = place[1:] > 0
    if (step[within] <= 0).any():
        raise InputError("tracks: one track has two points in one frame, or times do not increase")
    group, which = group_steps(step[within], np.zeros(int(within.sum()), dtype=np.int64))
    gap = np.zeros((longest - 1, row.shape[1]), dtype=np.int64)
    gap[place[1:][within] - 1, number[1:][within]] = which + 1
    return _Tracks(emission, gap, np.concatenate([[0.0], group[:, 0]]), row)


def _generator(q: Floats) -> Floats:
    return q - np.diag(q.sum(1))


def _sample_states(
    tracks: _Tracks, q: Floats, start: Floats, rng: np.random.Generator
) -> tuple[Ints, Floats]:
    """(T, S) states drawn given all observations, and (T, S, n) their probability given the states drawn after them."""
    step = linalg.expm(_generator(q) * tracks.dt[:, None, None]).clip(0)
    frames, count, n = tracks.emission.shape
    ahead = np.empty((frames, count, n))
    now = start * tracks.emission[0]
    ahead[0] = now / now.sum(1, keepdims=True)
    alike = (tracks.gap == tracks.gap[:, :1]).all(1)
    for t in range(1, frames):
        if alike[t - 1]:
            now = ahead[t - 1] @ step[tracks.gap[t - 1, 0]]
        else:
            now = np.matmul(ahead[t - 1][:, None], step[tracks.gap[t - 1]])[:, 0]
        now = now * tracks.emission[t]
        ahead[t] = now / np.maximum(now.sum(1, keepdims=True), 1e-300)
    path = np.empty((frames, count), dtype=np.int64)
    smoothed = np.empty((frames, count, n))
    luck = rng.random((frames, count))
    into = step.transpose(0, 2, 1)  # [Δt, after, before]
    weight = ahead[-1]
    for t in range(frames - 1, -1, -1):
        if t < frames - 1:
            weight = ahead[t] * into[tracks.gap[t], path[t + 1]]
            weight = weight / np.maximum(weight.sum(1, keepdims=True), 1e-300)
        smoothed[t] = weight
        path[t] = np.minimum((np.cumsum(weight, 1) < luck[t][:, None]).sum(1), n - 1)
    return path, smoothed


def _sample_jumps(tracks: _Tracks, q: Floats, path: Ints, rng: np.random.Generator) -> tuple[Floats, Floats]:
    """(n, n) jumps and (n,) time in each state, drawn given the states at the two ends of each interval."""
    n = len(q)
    jumps, time = np.zeros((n, n)), np.zeros(n)
    fastest = max(float(q.sum(1).max()), 1e-300)
    chain = np.eye(n) + _generator(q) / fastest
    used = tracks.gap > 0
    key = (tracks.gap[used] * n + path[:-1][used]) * n + path[1:][used]
    steps: dict[int, tuple[Floats, Floats]] = {}
    for code, count in zip(*np.unique(key, return_counts=True), strict=True):
        which, i, j = int(code) // n**2, int(code) // n % n, int(code) % n
        dt = float(tracks.dt[which])
        if which not in steps:
            steps[which] = _powers(chain, fastest * dt)
        powers, prior = steps[which]
        chance = prior * powers[:, i, j]
        for number, times in enumerate(rng.multinomial(count, chance / chance.sum())):
            if times:
                _bridge(powers[: number + 1], (i, j), dt, times, out=(jumps, time), rng=rng)
    return jumps, time


def _powers(chain: Floats, mean: float) -> tuple[Floats, Floats]:
    """(m, n, n) powers of the chain, and the probability (Poisson's) of each number of steps as long as it is not negligible."""
    powers = [np.eye(len(chain))]
    for _ in range(int(mean + 8 * np.sqrt(mean) + 12)):
        powers.append(powers[-1] @ chain)
    return np.array(powers), stats.poisson.pmf(np.arange(len(powers)), mean)


def _bridge(
    powers: Floats,
    ends: tuple[int, int],
    dt: float,
    count: int,
    *,
    out: tuple[Floats, Floats],
    rng: np.random.Generator,
) -> None:
    """Adds jumps and times of `count` paths between `ends` whose chain makes len(powers) − 1 steps; some stay in place."""
    jumps, time = out
    steps = len(powers) - 1
    now = np.full(count, ends[0])
    spell = rng.exponential(size=(count, steps + 1))
    spell *= dt / spell.sum(1, keepdims=True)
    for k in range(steps):
        np.add.at(time, now, spell[:, k])
        weight = (
            powers[1][now] * powers[steps - k - 1][:, ends[1]]
            if steps - k > 1
            else np.eye(len(time))[[ends[1]] * count]
        )
        weight = np.cumsum(weight, axis=1)
        after = (weight < rng.random(count)[:, None] * weight[:, -1:]).sum(1)
        moved = after != now
        np.add.at(jumps, (now[moved], after[moved]), 1)
        now = after
    np.add.at(time, now, spell[:, -1])


def _sample_rates(kinds: Ints, jumps: Floats, time: Floats, rng: np.random.Generator) -> Floats:
    """(n, n) rates given jumps and times at risk."""
    shape, risk = _gamma(kinds, jumps, time)
    rate = rng.gamma(shape) / risk
    rate[0] = 0.0
    return rate[kinds]


def _gamma(kinds: Ints, jumps: Floats, time: Floats) -> tuple[Floats, Floats]:
    """Shape and rate of the Gamma distribution of each group, (changes + ½, time at risk)."""
    events = np.bincount(kinds.ravel(), jumps.ravel())
    risk = np.bincount(kinds.ravel(), np.repeat(time, len(time)))
    return np.asarray(events + PRIOR), np.maximum(risk, 1e-300).astype(float)


def _quantile(share: float, shape: Floats, risk: Floats) -> Floats:
    """(K,) quantile of each group's posterior, the mean of the Gamma distributions of all sweeps, (D, K); 0 for group 0.

    The outermost of the drawn rates lie further in than the tails do, the more so the fewer sweeps and the more they resemble
    each other; the distributions that they were drawn from have tails of their own (A. E. Gelfand & A. F. M. Smith,
    J. Am. Stat. Assoc. 85 (1990) 398).
    """
    each = special.gammaincinv(shape[:, 1:], share) / risk[:, 1:]
    low, high = np.log(np.maximum(each.min(0), 1e-300)), np.log(np.maximum(each.max(0), 1e-300))
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        below = special.gammainc(shape[:, 1:], np.exp(middle) * risk[:, 1:]).mean(0) < share
        low, high = np.where(below, middle, low), np.where(below, high, middle)
    return np.concatenate([[0.0], np.exp((low + high) / 2)])
