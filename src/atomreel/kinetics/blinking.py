"""Sites that are filled and emptied, seen through a finder that overlooks and invents: a hidden two-state chain per site.

A site is filled at the rate a and emptied at the rate v [1/s]. A filled site is found with the probability d, a vacant
one shows a column with the probability f. The likelihood of what was found at the recorded times is that of a hidden
Markov chain (L. Rabiner, Proc. IEEE 77 (1989) 257) with P(Δt) = expm(QΔt), so pauses, frames without a judgement and
changes between frames are in it. d and f are those of all sites together, while a and v vary from site to site
by a distribution of any shape (N. Laird, J. Am. Stat. Assoc. 73 (1978) 805).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import optimize, stats
from scipy.special import expit, logit

from atomreel.core.errors import InputError
from atomreel.kinetics.intervals import check_level

Floats = npt.NDArray[np.float64]
COARSE, FINE = 12, 40  # values of each rate tried for d and f, and for the rates of a site
FASTEST = 0.7  # changes per frame: what blinks faster is read as overlooked
SLOWEST = 0.01  # changes per movie
SITES = 80  # at most, by which d and f are estimated
STEPS = 500  # of EM
LOOKS = (
    100  # at a vacant site without a false column: the prior of f, or full sites could be taken for vacant
)
CHUNK = 4_000_000  # numbers held at a time


@dataclass(frozen=True)
class Blinking:
    """table: one row per site (see `fit_blinking`). occupied: (S, T) probability that the site is filled in that frame.
    events: (S, T − 1) expected appearances and disappearances between frame t and the next, where both are
    not cut by a pause (NaN there). dt: (T − 1,) [s], or frames without times. detected, false: (T,) d and f of every
    frame. detected_err: 1σ of d, 0 where it was given. unit: of the rates. level: of the intervals."""

    table: pd.DataFrame
    occupied: Floats
    events: Floats
    dt: Floats
    detected: Floats
    false: Floats
    detected_err: float
    unit: str
    level: float


def fit_blinking(
    found: npt.ArrayLike,
    *,
    times: npt.ArrayLike | None = None,
    detected: npt.ArrayLike | None = None,
    false: npt.ArrayLike | None = None,
    pause: float = 3.0,
    level: float = 0.95,
) -> Blinking:
    """Occupancy and rates of every site, with intervals, and what the finder overlooked taken into account.

    found: (S, T) 1 where a column was found at the site, 0 where not, NaN where nobody looked; between 0 and 1, the
    probability that what was found is a column (its calibrated score). times: (T,) [s].
    detected: probability that a filled site is found, a number or one per frame (T,); estimated from these sites if
    not given. false: that a vacant site shows a column, likewise. A frame-dependent `detected` comes from sites known
    to be filled, see `detection_by_frame`. pause: intervals longer than this many usual ones count as a pause;
    changes across it are in the likelihood and in no count of events.

    Table: site (row of `found`), frames, present, occupancy, appear, vanish (rates, per time in the state that ends),
    events (2av/(a + v): changes per time), each with _low, _high; seen_events: expected number of changes in the
    movie. Values are medians and intervals quantiles of the posterior with Jeffreys' prior a^-½ v^-½, as for counts.
    d and f are held at their estimates there. Misses without memory and blinking faster than the frames look
    alike: rates up to 0.7 per frame are told from misses, faster ones are not. Raises InputError.
    """
    seen, dt, unit = _checked(found, times, pause)
    check_level(level)
    usual = float(np.median(dt)) if len(dt) else 1.0
    d, f, error = _detection(seen, dt, _given(detected, seen, "detected"), _given(false, seen, "false"))
    emission = _emission(seen, d, f)
    axis = np.geomspace(SLOWEST / max(dt.sum(), usual), FASTEST / usual, FINE)
    appear, vanish = (grid.ravel() for grid in np.meshgrid(axis, axis, indexing="ij"))
    log = _log_likelihood(emission, dt, (appear, vanish))
    table = _posterior(log, axis, level)
    # What was overlooked is filled in with the rates that sites like this one have, not with its own likeliest
    # ones: those of a site that never changed would make an event of every other row of misses.
    own = _mixed(log, steps=STEPS)[1]
    occupied, changes = _smooth(emission, dt, (own @ appear, own @ vanish))
    whole = np.broadcast_to(dt <= pause * usual, changes.shape)
    changes = np.where(whole, changes, np.nan)
    looked = np.isfinite(seen)
    table.insert(0, "site", np.arange(len(seen)))
    table.insert(1, "frames", looked.sum(1))
    table.insert(2, "present", (seen > 0).sum(1))
    table["occupancy"] = occupied.mean(1)
    table["occupancy_low"] = table[["occupancy_low", "occupancy"]].min(axis=1)
    table["occupancy_high"] = table[["occupancy_high", "occupancy"]].max(axis=1)
    table["seen_events"] = np.nansum(changes, axis=1)
    return Blinking(table, occupied, changes, dt, d, f, error, unit, level)


def detection_by_frame(found: npt.ArrayLike) -> Floats:
    """(T,) share of sites found in each frame, of sites that are known to be filled: (n + ½)/(N + 1).

    found: (S, T) as in `fit_blinking`, of sites inside the crystal. Hand the result over as `detected`.
    """
    seen = np.asarray(found, dtype=float)
    if seen.ndim != 2:
        raise InputError(f"found: (sites, frames) expected, got shape {seen.shape}")
    return np.asarray((np.nansum(seen, axis=0) + 0.5) / (np.isfinite(seen).sum(axis=0) + 1))


def _checked(found: npt.ArrayLike, times: npt.ArrayLike | None, pause: float) -> tuple[Floats, Floats, str]:
    seen = np.asarray(found, dtype=float)
    if seen.ndim != 2 or seen.shape[1] < 2 or not len(seen):
        raise InputError(f"found: (sites, frames ≥ 2) expected, got shape {seen.shape}")
    if ((seen < 0) | (seen > 1)).any():
        raise InputError("found holds numbers from 0 to 1 and NaN only")
    if not pause > 1:
        raise InputError(f"pause: more than one usual interval, got {pause}")
    if times is None:
        return seen, np.ones(seen.shape[1] - 1), "1/frame"
    clock = np.asarray(times, dtype=float)
    if clock.shape != (seen.shape[1],) or not np.isfinite(clock).all() or (np.diff(clock) <= 0).any():
        raise InputError(f"times: {seen.shape[1]} rising numbers expected, got shape {clock.shape}")
    return seen, np.diff(clock), "1/s"


def _given(value: npt.ArrayLike | None, seen: Floats, name: str) -> Floats | None:
    if value is None:
        return None
    array = np.asarray(value, dtype=float)
    if array.shape not in ((), (seen.shape[1],)) or not ((array >= 0) & (array <= 1)).all():
        raise InputError(f"{name}: a probability or one per frame ({seen.shape[1]}), got shape {array.shape}")
    return np.clip(np.broadcast_to(array, seen.shape[1]), 1e-6, 1 - 1e-6)


def _emission(seen: Floats, d: Floats, f: Floats) -> Floats:
    """(T, S, 2) probability of what was found, given vacant and filled."""
    hit = np.stack([np.broadcast_to(f, seen.shape), np.broadcast_to(d, seen.shape)], axis=-1)
    sure = seen[..., None]  # a column with the score s was found with the probability s
    value = sure * hit + (1 - sure) * (1 - hit)
    return np.moveaxis(np.where(np.isfinite(seen)[..., None], value, 1.0), 1, 0)


def _detection(seen: Floats, dt: Floats, d: Floats | None, f: Floats | None) -> tuple[Floats, Floats, float]:
    """d, f (T,) and 1σ of d: where not given, those of the greatest likelihood with any distribution of rates."""
    if d is not None and f is not None:
        return d, f, 0.0
    rows = np.unique(np.linspace(0, len(seen) - 1, SITES).astype(int))
    part, frames = seen[rows], seen.shape[1]
    usual = float(np.median(dt))
    axis = np.geomspace(SLOWEST / dt.sum(), FASTEST / usual, COARSE)
    first, second = (g.ravel() for g in np.meshgrid(axis, axis, indexing="ij"))

    def unpack(x: Floats) -> tuple[Floats, Floats]:
        own = list(expit(x))
        hit = np.full(frames, own.pop(0)) if d is None else d
        return hit, np.full(frames, own.pop(0)) if f is None else f

    def cost(x: Floats) -> float:
        log = _log_likelihood(_emission(part, *unpack(x)), dt, (first, second))
        hit, wrong = (float(p[0]) for p in unpack(x))
        prior = 0.5 * np.log(hit * (1 - hit)) if d is None else 0.0
        prior += (0.5 * np.log(wrong) + LOOKS * np.log1p(-wrong)) if f is None else 0.0
        return -_mixed(log)[0] - float(prior)

    start = [logit(p) for p, free in ((0.95, d is None), (0.01, f is None)) if free]
    simplex = np.array(start) + np.vstack([np.zeros(len(start)), 0.7 * np.eye(len(start))])
    best = optimize.minimize(
        cost,
        np.array(start),
        method="Nelder-Mead",
        options={"initial_simplex": simplex, "xatol": 0.02, "fatol": 0.02, "maxiter": 60},
    )
    x = np.asarray(best.x)
    error = 0.0
    if d is None:
        step = np.zeros(len(x))
        step[0] = 0.25
        bend = (cost(x + step) + cost(x - step) - 2 * float(best.fun)) / step[0] ** 2
        p = float(expit(x[0]))
        error = p * (1 - p) / np.sqrt(max(bend, 1e-3))
    return *unpack(x), error


def _mixed(log: Floats, *, steps: int = 100) -> tuple[float, Floats]:
    """Log-likelihood of all sites when the shares of the grid's rates are the likeliest ones (EM), and (S, G) the
    probability of each pair of rates for each site then."""
    top = log.max(axis=1, keepdims=True)
    like = np.exp(log - top)
    share = np.full(log.shape[1], 1 / log.shape[1])
    for _ in range(steps):
        share = share * (like / (like @ share)[:, None]).mean(0)
    total = like @ share
    return float((np.log(total) + top[:, 0]).sum()), like * share / total[:, None]


def _steps(dt: Floats, rates: tuple[Floats, Floats]) -> tuple[Floats, Floats, Floats]:
    """Share filled in the long run, and (K, …) chances of appearing and vanishing within each of the intervals."""
    a, v = rates
    filled = a / (a + v)
    fade = 1 - np.exp(-np.multiply.outer(dt, a + v))
    return filled, filled * fade, (1 - filled) * fade


def _log_likelihood(emission: Floats, dt: Floats, rates: tuple[Floats, Floats]) -> Floats:
    """(S, G) log-likelihood of each site under each pair of rates (G,), by the scaled forward recursion."""
    out = np.empty((emission.shape[1], len(rates[0])))
    size = max(1, CHUNK // (4 * len(rates[0])))
    distinct, which = np.unique(np.round(dt, 12), return_inverse=True)
    filled, appear, vanish = _steps(distinct, rates)
    for first in range(0, len(out), size):
        e = emission[:, first : first + size]
        low, high = (1 - filled) * e[0, :, :1], filled * e[0, :, 1:]
        log = np.zeros(low.shape)
        for t in range(1, len(e)):
            up, down = appear[which[t - 1]], vanish[which[t - 1]]
            move = low * up - high * down
            low, high = (low - move) * e[t, :, :1], (high + move) * e[t, :, 1:]
            if t % 16 == 0:  # often enough: 1e-6 to the power 16 still is a number
                total = low + high
                log += np.log(total)
                low, high = low / total, high / total
        out[first : first + size] = log + np.log(low + high)
    return out


def _posterior(log: Floats, axis: Floats, level: float) -> pd.DataFrame:
    """Medians and quantiles of what the grid's posterior says, one row per site; 0 is in where it is not excluded."""
    appear, vanish = (grid.ravel() for grid in np.meshgrid(axis, axis, indexing="ij"))
    still = {name: _may_be_zero(log, axis=k, level=level) for k, name in enumerate(("appear", "vanish"))}
    log = log + 0.5 * np.log(appear * vanish)  # a^-½ in a is a^½ in log a, as the grid is spaced
    weight = np.exp(log - log.max(1, keepdims=True))
    tail = (1 - level) / 2
    columns = {}
    half = 0.5 * np.log(axis[1] / axis[0])
    for name, value, width in (
        ("occupancy", np.log(appear / vanish), half),
        ("appear", np.log(appear), half),
        ("vanish", np.log(vanish), half),
        ("events", np.log(2 * appear * vanish / (appear + vanish)), half),
    ):
        quantiles = _quantiles(value, weight, (0.5, tail, 1 - tail), width=width)
        final = expit(quantiles) if name == "occupancy" else np.exp(quantiles)
        for end, column in zip(("", "_low", "_high"), final.T, strict=True):
            columns[name + end] = column
    never, always = still["appear"], still["vanish"]
    for name, zero in (
        ("appear", never),
        ("vanish", always),
        ("occupancy", never),
        ("events", never | always),
    ):
        columns[f"{name}_low"] = np.where(zero, 0.0, columns[f"{name}_low"])
    columns["occupancy_high"] = np.where(always, 1.0, columns["occupancy_high"])
    return pd.DataFrame(columns)


def _may_be_zero(log: Floats, *, axis: int, level: float) -> npt.NDArray[np.bool_]:
    """(S,) whether the likelihood ratio allows the slowest value of one rate, whatever the other."""
    size = int(np.sqrt(log.shape[1]))
    best = log.reshape(-1, size, size).max(axis=2 - axis)
    return np.asarray(2 * (best.max(1) - best[:, 0]) < stats.chi2.ppf(level, 1))


def _quantiles(value: Floats, weight: Floats, at: tuple[float, ...], *, width: float) -> Floats:
    """(S, len(at)) quantiles of `value` (G,) under weights (S, G), each value spread evenly over ± width."""
    order = np.argsort(value, kind="stable")
    edges = np.linspace(value.min() - width, value.max() + width, 4 * int(np.sqrt(len(value))) + 1)
    share = np.clip((edges[:, None] - value[order] + width) / (2 * width), 0, 1)
    cumulative = weight[:, order] @ share.T / weight.sum(1, keepdims=True)
    return np.array([np.interp(at, row, edges) for row in cumulative])


def _smooth(emission: Floats, dt: Floats, rates: tuple[Floats, Floats]) -> tuple[Floats, Floats]:
    """(S, T) probability of filled, and (S, T − 1) expected number of changes in each interval, given all frames."""
    frames, count = emission.shape[:2]
    filled, appear, vanish = _steps(dt, rates)
    step = np.empty((frames - 1, count, 2, 2))
    step[..., 0, 1], step[..., 1, 0] = appear, vanish
    step[..., 0, 0], step[..., 1, 1] = 1 - appear, 1 - vanish
    ahead = np.empty((frames, count, 2))
    ahead[0] = np.stack([1 - filled, filled], -1) * emission[0]
    ahead[0] /= ahead[0].sum(-1, keepdims=True)
    for t in range(1, frames):
        ahead[t] = np.einsum("si,sij->sj", ahead[t - 1], step[t - 1]) * emission[t]
        ahead[t] /= ahead[t].sum(-1, keepdims=True)
    back = np.ones((frames, count, 2))
    for t in range(frames - 2, -1, -1):
        back[t] = np.einsum("sij,sj->si", step[t], back[t + 1] * emission[t + 1])
        back[t] /= back[t].sum(-1, keepdims=True)
    state = ahead * back
    state /= state.sum(-1, keepdims=True)
    pair = ahead[:-1, :, :, None] * step * (back * emission)[1:, :, None, :]
    pair /= pair.sum((-2, -1), keepdims=True)
    changes = (pair * _jumps(dt, rates, step)).sum((-2, -1))
    return state[..., 1].T, changes.T


def _jumps(dt: Floats, rates: tuple[Floats, Floats], step: Floats) -> Floats:
    """(K, S, 2, 2) expected number of changes within an interval, given the states at its two ends.

    ∫ (P_i0(t) a P_1j(Δ − t) + P_i1(t) v P_0j(Δ − t)) dt / P_ij(Δ); with P_ij(t) = π_j + (δ_ij − π_j) exp(−λt) all
    four terms are elementary (A. Hobolth & J. Jensen, J. Appl. Probab. 48 (2011) 911).
    """
    a, v = rates
    rate = a + v
    rest = np.stack([v / rate, a / rate], -1)  # π_0, π_1
    time = dt[:, None]
    fade = np.exp(-rate * time)
    once = (1 - fade) / rate
    out = np.zeros((len(dt), len(a), 2, 2))
    for i in (0, 1):
        for j in (0, 1):
            for leave, speed in ((0, a), (1, v)):
                p, q = rest[:, leave], (i == leave) - rest[:, leave]
                r, s = rest[:, j], (1 - leave == j) - rest[:, j]
                total = p * r * time + (p * s + q * r) * once + q * s * time * fade
                out[:, :, i, j] += speed * total / step[..., i, j]
    return out
