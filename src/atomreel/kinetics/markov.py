"""States and their reactions: counts, transition probabilities and continuous-time rates with intervals.

Counts are summed over tracks and then turned into rates; rows of single tracks are never averaged. Rates come
from the likelihood of what was seen at the times it was seen, P(Δt) = expm(Q·Δt) (Kalbfleisch & Lawless,
J. Am. Stat. Assoc. 80, 863 (1985)), so pauses, missed frames, and changes between frames are in it. A track that
ends adds what it showed until then and nothing else (right-censored).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import optimize, stats

from atomreel.core.errors import InputError
from atomreel.kinetics.intervals import Estimate, check_level, gamma_interval

Floats = npt.NDArray[np.float64]
_SAME_DT = 1e-3  # relative: intervals closer than this share one P(Δt)


@dataclass(frozen=True)
class Transitions:
    """What was seen: states, and counts[k, i, j] of i at one observation and j at the next, dt[k] later.

    dt: (K,) [s, or frames when no times were given]. steps: (K,) frames between the two observations.
    """

    states: tuple[str, ...]
    dt: Floats
    steps: npt.NDArray[np.int64]
    counts: npt.NDArray[np.int64]
    unit: str = "1/s"

    def single(self) -> npt.NDArray[np.int64]:
        """(n, n) counts over consecutive frames only: a jump over a gap is not one step."""
        return np.asarray(self.counts[self.steps == 1].sum(axis=0), dtype=np.int64)


@dataclass(frozen=True)
class Rates:
    """q: (n, n) rates [unit] from row to column state, 0 on the diagonal; low, high: interval; events: (n, n)
    effective number of changes behind each rate; exposure: (n,) time seen in each state. method: in words."""

    states: tuple[str, ...]
    q: Floats
    low: Floats
    high: Floats
    events: Floats
    exposure: Floats
    unit: str
    method: str

    def estimates(self) -> dict[str, Estimate]:
        """Named "before→after", for `to_rates`; states never seen and changes that cannot happen are left out."""
        n = range(len(self.states))
        return {
            f"{self.states[i]}→{self.states[j]}": Estimate(
                float(self.q[i, j]),
                float(self.low[i, j]),
                float(self.high[i, j]),
                self.unit,
                round(float(self.events[i, j]), 3),
                self.method,
            )
            for i in n
            for j in n
            if i != j and self.exposure[i] > 0 and self.high[i, j] > 0
        }


def count_transitions(
    tracks: pd.DataFrame,
    *,
    by: str = "kind",
    states: tuple[str, ...] | None = None,
    times: npt.ArrayLike | None = None,
    max_gap: int | None = None,
) -> Transitions:
    """Pairs of successive observations of each track, counted by states and time between them.

    tracks: track, frame and the column `by` that holds the state. states: their order, and those to keep, by
    default all in sorted order; an observation in another state breaks the sequence. times: (T,) [s], one per frame.
    max_gap: leave out pairs further apart than this many frames.
    """
    missing = [name for name in ("track", "frame", by) if name not in tracks]
    if missing:
        raise InputError(
            f"counting transitions needs columns track, frame, {by}; {', '.join(missing)} missing"
        )
    table = tracks.sort_values(["track", "frame"], kind="stable")
    label = table[by].astype(str).to_numpy(object)
    names = tuple(sorted(set(label))) if states is None else tuple(states)
    code = pd.Categorical(label, categories=list(names)).codes.astype(np.int64)
    frame, track = table["frame"].to_numpy(np.int64), table["track"].to_numpy()
    clock = frame_clock(frame, times)
    step = np.diff(frame)
    good = (np.diff(track) == 0) & (code[1:] >= 0) & (code[:-1] >= 0)
    if np.any(step[np.diff(track) == 0] <= 0):
        raise InputError("tracks: one track has two points in one frame; link the table again")
    if max_gap is not None:
        good &= step <= max_gap
    dt, kinds = np.diff(clock)[good], step[good]
    group, inverse = group_steps(dt, kinds)
    counts = np.zeros((len(group), len(names), len(names)), dtype=np.int64)
    np.add.at(counts, (inverse, code[:-1][good], code[1:][good]), 1)
    unit = "1/s" if times is not None else "1/frame"
    return Transitions(names, group[:, 0], group[:, 1].astype(np.int64), counts, unit)


def transition_probabilities(transitions: Transitions, *, level: float = 0.95) -> pd.DataFrame:
    """Probability per single frame step, one row per pair of states: before, after, count, of, probability, low, high.

    Rows are Dirichlet-distributed with Jeffreys' prior ½ per state; probability is the posterior mean and the
    interval is its Beta marginal. A state never left, or never seen, keeps finite numbers: of = 0 spans nearly 0…1.
    """
    tail = (1 - check_level(level)) / 2
    counts = transitions.single()
    n = len(transitions.states)
    alpha = counts + 0.5
    rest = alpha.sum(axis=1, keepdims=True) - alpha
    low, high = (stats.beta.ppf(q, alpha, np.maximum(rest, 1e-12)) for q in (tail, 1 - tail))
    i, j = (index.ravel() for index in np.indices((n, n)))
    return pd.DataFrame(
        {
            "before": np.array(transitions.states, dtype=object)[i],
            "after": np.array(transitions.states, dtype=object)[j],
            "count": counts[i, j],
            "of": counts.sum(axis=1)[i],
            "probability": (alpha / alpha.sum(axis=1, keepdims=True))[i, j],
            "low": low[i, j],
            "high": high[i, j],
        }
    )


def fit_rates(
    transitions: Transitions, *, level: float = 0.95, allowed: npt.ArrayLike | None = None
) -> Rates:
    """Maximum-likelihood rates Q with intervals.

    allowed: (n, n) boolean, which changes can happen; all by default. Intervals: with Fisher's information the
    data are worth N = q²/var(q) changes in time T = q/var(q); the interval is that of Gamma(N + ½, T), which for
    continuous observation is Jeffreys' exactly. A change never seen has the value 0 and a finite upper end.
    A state never seen has the rates 0 … infinity and exposure 0; an absorbing state is fitted like any other.
    """
    check_level(level)
    n = len(transitions.states)
    free = ~np.eye(n, dtype=bool)
    if allowed is not None:
        free &= np.asarray(allowed, dtype=bool)
    counts, dt = transitions.counts.astype(float), transitions.dt
    exposure = np.einsum("kij,k->i", counts, dt)
    pairs = [(i, j) for i, j in zip(*np.nonzero(free), strict=True) if exposure[i] > 0]
    q = np.zeros((n, n))
    low, high, events = np.zeros((n, n)), np.where(free, np.inf, 0.0), np.zeros((n, n))
    if pairs:
        values = _maximise(counts, dt, pairs, exposure)
        for (i, j), value, (worth, time) in zip(
            pairs, values, _worth(counts, dt, pairs, values, exposure), strict=True
        ):
            q[i, j], events[i, j] = value, worth
            bottom, high[i, j] = gamma_interval(worth + 0.5, time, level=level)
            low[i, j] = bottom if worth > 0 else 0.0
    method = f"likelihood of expm(Q·Δt), {level:.0%} Gamma interval"
    return Rates(transitions.states, q, low, high, events, exposure, transitions.unit, method)


def frame_clock(frame: npt.NDArray[np.int64], times: npt.ArrayLike | None) -> Floats:
    """Time of each frame number: from `times` (T,) [s], or the number itself. Raises InputError for a frame beyond them."""
    if times is None:
        return frame.astype(float)
    seconds = np.asarray(times, dtype=float)
    if len(frame) and frame.max() >= len(seconds):
        raise InputError(f"times has {len(seconds)} entries, the tracks reach frame {frame.max()}")
    return seconds[frame]


def group_steps(dt: Floats, steps: npt.NDArray[np.int64]) -> tuple[Floats, npt.NDArray[np.intp]]:
    """Distinct (Δt, steps), Δt equal within 0.1 %, and which of them each pair has."""
    if not len(dt):
        return np.zeros((0, 2)), np.zeros(0, dtype=np.intp)
    if (dt <= 0).any():
        raise InputError("times must increase from frame to frame")
    coarse = np.round(np.log(dt) / _SAME_DT).astype(np.int64)
    _, inverse = np.unique(np.stack([coarse, steps], axis=1), axis=0, return_inverse=True)
    inverse = inverse.ravel()
    size = np.bincount(inverse)
    return np.stack([np.bincount(inverse, dt) / size, np.bincount(inverse, steps) / size], axis=1), inverse


def _generator(values: Floats, pairs: list[tuple[int, int]], n: int) -> Floats:
    matrix = np.zeros((n, n))
    for (i, j), value in zip(pairs, values, strict=True):
        matrix[i, j] = value
        matrix[i, i] -= value
    return matrix


def _propagate(values: Floats, pairs: list[tuple[int, int]], dt: Floats, n: int) -> tuple[Floats, Floats]:
    """P: (K, n, n) and dP: (M, K, n, n), its derivative by each rate, through the eigenvectors of Q."""
    for nudge in (0.0, 1e-7, 1e-5, 1e-3):  # a defective Q is moved off its degeneracy
        tilt = 1 + nudge * np.cos(np.arange(1, len(pairs) + 1) ** 2)
        matrix = _generator(values * tilt + nudge * values.mean(), pairs, n)
        roots, vectors = np.linalg.eig(matrix)
        if np.linalg.cond(vectors) < 1e7:
            break
    inverse = np.linalg.inv(vectors)
    growth = np.exp(np.outer(dt, roots))
    p = np.einsum("ia,ka,aj->kij", vectors, growth, inverse).real
    gap = roots[:, None] - roots[None]
    close = np.abs(gap) < 1e-9 * max(float(np.abs(roots).max()), 1e-300)
    quotient = (growth[:, :, None] - growth[:, None, :]) / np.where(close, 1, gap)
    mixed = np.where(close, dt[:, None, None] * growth[:, :, None], quotient)
    i, j = (np.array(index) for index in zip(*pairs, strict=True))
    kernel = inverse[:, i].T[:, :, None] * (vectors[j] - vectors[i])[:, None, :]
    slopes = np.einsum("ia,mab,kab,bj->mkij", vectors, kernel, mixed, inverse, optimize=True).real
    return np.clip(p, 0, 1), slopes


def _maximise(counts: Floats, dt: Floats, pairs: list[tuple[int, int]], exposure: Floats) -> Floats:
    n = counts.shape[1]
    seen = counts.sum(axis=0)
    scale = np.array([max(seen[i, j], 0.5) / exposure[i] for i, j in pairs])
    total = counts.sum()

    def cost(x: Floats) -> tuple[float, Floats]:
        p, slopes = _propagate(x * scale, pairs, dt, n)
        safe = np.maximum(p, 1e-12)
        value = -float((counts * np.log(safe)).sum())
        return value / total, -np.einsum("kij,mkij->m", counts / safe, slopes) * scale / total

    result = optimize.minimize(
        cost,
        np.ones(len(pairs)),
        jac=True,
        method="L-BFGS-B",
        bounds=[(1e-9, 1e4)] * len(pairs),
        options={"maxiter": 500, "ftol": 1e-13, "gtol": 1e-9},
    )
    values = np.asarray(result.x)
    return np.where(values < 1e-6, 0.0, values * scale)


def _worth(
    counts: Floats, dt: Floats, pairs: list[tuple[int, int]], values: Floats, exposure: Floats
) -> list[tuple[float, float]]:
    """(effective events, effective time) of each rate."""
    n = counts.shape[1]
    tiny = np.array([1e-3 / exposure[i] for i, _ in pairs])
    p, slopes = _propagate(np.maximum(values, tiny), pairs, dt, n)
    safe = np.maximum(p, 1e-9)
    # Expected information of the starts that were seen: Σ n_i(Δt) Σ_j (∂P_ij)² / P_ij.
    starts = counts.sum(axis=2)[:, :, None] / safe
    information = np.einsum("kij,akij,bkij->ab", starts, slopes, slopes, optimize=True)
    positive = values > 0
    variance = np.full(len(pairs), np.nan)
    if positive.any():
        block = information[np.ix_(positive, positive)]
        variance[positive] = np.diag(np.linalg.pinv(block, hermitian=True))
    downhill = -np.einsum("kij,mkij->m", counts / safe, slopes)
    worth = []
    for k, (i, _) in enumerate(pairs):
        if positive[k]:
            worth.append((float(values[k] ** 2 / variance[k]), float(values[k] / variance[k])))
        else:  # the likelihood falls like exp(−T q) from 0
            worth.append((0.0, float(np.clip(downhill[k], 1e-3 * exposure[i], exposure[i]))))
    return worth
