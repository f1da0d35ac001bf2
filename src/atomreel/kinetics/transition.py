"""When a quantity that is followed through a movie passes a level, with an interval: jumps as well as gradual changes.

Two families of curves explain the points and are weighed by their marginal likelihood (Bayesian model averaging, Kass &
Raftery, J. Am. Stat. Assoc. 90, 773 (1995)): a level that goes over into another along a straight ramp of any length, none included, and
a smooth curve (integrated Wiener process, whose posterior mean is a cubic smoothing spline; Wahba, J. R. Stat. Soc. B 40, 364 (1978)).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from atomreel.core.errors import InputError

Array = npt.NDArray[np.float64]
NOISE = np.array([0.5, 0.7, 1.0, 1.4, 2.0, 3.0])  # by how much the claimed errors may be wrong
DRAWS = 2000
SHORT = 0.03  # of the time between points: what is shorter is a jump
KNOTS = 41  # places of each end of a ramp that are tried at once
LONGEST = 400  # points above which neighbours are averaged for the smooth curve


@dataclass(frozen=True)
class Crossing:
    """t: median of the time at which `level` is passed; low, high: 95 % interval, never less than the gap between two points;
    all NaN where it is not.

    probability: share of the curves that fit which pass the level. rising: from below. curve, curve_err: (N,) posterior mean and 1σ
    of the curve at the points. ramp: posterior weight of the ramp against the smooth curve.
    """

    t: float
    low: float
    high: float
    probability: float
    rising: bool
    level: float
    curve: Array
    curve_err: Array
    ramp: float


def find_crossing(
    values: npt.ArrayLike,
    errors: npt.ArrayLike,
    *,
    level: float,
    times: npt.ArrayLike | None = None,
    shared: float = 0.0,
    interval: float = 0.95,
    rng: np.random.Generator | int | None = 0,
) -> Crossing:
    """When the followed quantity passes `level`.

    values, errors: (N,) with 1σ, NaN where there is none. times: (N,) rising, by default 0 … N − 1. shared: part of the
    variance that all points have in common (the same disorder in all frames, scan calibration). Of several passages the one that divides
    the record best is meant. The errors may be up to three times too small. Raises InputError below five points.
    """
    y, sigma = np.asarray(values, dtype=float), np.asarray(errors, dtype=float)
    t = np.arange(len(y), dtype=float) if times is None else np.asarray(times, dtype=float)
    if y.ndim != 1 or y.shape != sigma.shape or t.shape != y.shape:
        raise InputError(
            f"a transition needs values, errors and times of one length, got {y.shape}, {sigma.shape}, {t.shape}"
        )
    good = np.isfinite(y) & np.isfinite(sigma) & (sigma > 0)
    if good.sum() < 5 or not (np.diff(t) > 0).all():
        raise InputError(
            f"a transition needs at least 5 points with errors at rising times, got {int(good.sum())}"
        )
    if not 0 <= shared < 1 or not 0 < interval < 1:
        raise InputError(f"shared ({shared}) is from 0 to below 1, interval ({interval}) between 0 and 1")
    rng = np.random.default_rng(rng)
    own = sigma[good] * np.sqrt(1 - shared)
    offsets = np.sqrt(shared) * float(np.median(sigma[good])) * rng.standard_normal(DRAWS)
    ramps, smooth = _fit_ramps(t[good], y[good], own), _fit_smooth(t[good], y[good], own)
    weight = float(1 / (1 + np.exp(np.clip(smooth.evidence - ramps.evidence, -700, 700))))
    n = int(rng.binomial(DRAWS, weight))
    curves, at, up = ramps.draw(n, t, level=level, offsets=offsets[:n], rng=rng)
    others = smooth.draw(DRAWS - n, t, rng=rng) + offsets[n:, None]
    found, rises = _passages(others, t, level)
    curves, at, up = (
        np.concatenate([curves, others]),
        np.concatenate([at, found]),
        np.concatenate([up, rises]),
    )
    passed = np.isfinite(at)
    tail = 50 * (1 - interval)
    low, middle, high = np.percentile(at[passed], [tail, 50, 100 - tail]) if passed.any() else (np.nan,) * 3
    if passed.any():
        low, high = _between_points(low, high, t[good])
    rising = bool(up[passed].mean() > 0.5) if passed.any() else bool(y[good][-1] > y[good][0])
    return Crossing(
        float(middle),
        float(low),
        float(high),
        float(passed.mean()),
        rising,
        level,
        curves.mean(0),
        curves.std(0),
        weight,
    )


def _between_points(low: float, high: float, t: Array) -> tuple[float, float]:
    """An interval without a point inside is as long as the gap: what happened within the gap was not seen."""
    if ((t > low) & (t < high)).any():
        return low, high
    before, after = t[t <= low], t[t >= high]
    return (before[-1] if len(before) else low), (after[0] if len(after) else high)


@dataclass(frozen=True)
class _Ramps:
    """Ramps from level A before `start` to B after `end`, (H,) of them with posterior weights; evidence: log marginal
    likelihood of all. mean (H, 2), root (H, 2, 2): posterior of (A, B). step: of the grid of starts and ends."""

    start: Array
    end: Array
    weight: Array
    mean: Array
    root: Array
    step: tuple[float, float]
    evidence: float

    def draw(
        self, n: int, t: Array, *, level: float, offsets: Array, rng: np.random.Generator
    ) -> tuple[Array, Array, npt.NDArray[np.bool_]]:
        """(n, N) curves, and when (n,) each passes the level and whether rising."""
        which = rng.choice(len(self.weight), n, p=self.weight)
        move = rng.uniform(-0.5, 0.5, (n, 2)) * self.step
        start = self.start[which] + move[:, 0]
        end = np.maximum(self.end[which] + move[:, 1], start)
        ends = self.mean[which] + np.einsum("nij,nj->ni", self.root[which], rng.standard_normal((n, 2)))
        ends = ends + offsets[:, None]
        before, after = ends[:, 0], ends[:, 1]
        curves = before[:, None] + (after - before)[:, None] * _rise(t, start, end)
        share = (level - before) / np.where(after == before, np.inf, after - before)
        passes = (share > 0) & (share < 1)
        at = np.where(passes, start + share * (end - start), np.nan)
        return curves, np.where((at >= t[0]) & (at <= t[-1]), at, np.nan), after > before


def _rise(t: Array, start: Array, end: Array) -> Array:
    """(H, N) from 0 before each start to 1 after each end."""
    return np.asarray(np.clip((t - start[:, None]) / np.maximum(end - start, 1e-9)[:, None], 0, 1))


def _fit_ramps(t: Array, y: Array, sigma: Array) -> _Ramps:
    """Starts and ends on a grid that closes in on where the likelihood lies; durations are about equally likely by
    logarithm from SHORT of the time between two points on."""
    unit, whole = float(np.median(np.diff(t))), float(np.ptp(t))
    firsts = np.linspace(t[0] - whole / 4, t[-1], KNOTS)
    lasts = np.linspace(t[0], t[-1] + whole / 4, KNOTS)
    for last in (False, False, False, False, True):
        steps = float(firsts[1] - firsts[0]), float(lasts[1] - lasts[0])
        start, end = (part.ravel() for part in np.meshgrid(firsts, lasts, indexing="ij"))
        keep = end >= start
        start, end = start[keep], end[keep]
        likelihood, mean, root = _ramp_likelihood(t, y, sigma, start=start, end=end)
        span = 1.5 * whole / unit
        prior = np.log(steps[0] * steps[1] / unit**2) - np.log(
            (span + SHORT) * np.log(1 + span / SHORT) - span
        )
        posterior = likelihood + prior - np.log((end - start) / unit + SHORT)[:, None]
        per = np.logaddexp.reduce(posterior, axis=1)
        near = per > per.max() - 12
        if last or max(steps) < 0.1 * unit:
            break
        firsts, lasts = (
            np.linspace(max(part[near].min() - step, grid[0]), min(part[near].max() + step, grid[-1]), KNOTS)
            for part, step, grid in ((start, steps[0], firsts), (end, steps[1], lasts))
        )
    flat = posterior.ravel()
    evidence = float(np.logaddexp.reduce(flat))
    rows = np.repeat(np.arange(len(start)), len(NOISE))
    weight = np.exp(flat - evidence)
    return _Ramps(
        start[rows], end[rows], weight / weight.sum(), mean[rows], root.reshape(-1, 2, 2), steps, evidence
    )


def _ramp_likelihood(
    t: Array, y: Array, sigma: Array, *, start: Array, end: Array
) -> tuple[Array, Array, Array]:
    """(H, len(NOISE)) log marginal likelihood; posterior mean (H, 2) of both levels and roots (H, len(NOISE), 2, 2).

    The levels have a broad Gaussian prior; it leaves the mean to the data."""
    broad = 3 * max(float(np.abs(y).max()), float(np.median(sigma)))
    weight = sigma**-2
    r = _rise(t, start, end)
    precision = np.stack([(1 - r) ** 2 @ weight, ((1 - r) * r) @ weight, r**2 @ weight], -1)
    pull = np.stack([(1 - r) @ (weight * y), r @ (weight * y)], -1)
    # a ridge as weak as the prior keeps a level without points finite
    matrix = precision[:, [[0, 1], [1, 2]]] + np.eye(2) / broad**2
    inverse = np.linalg.inv(matrix)
    mean = np.einsum("hij,hj->hi", inverse, pull)
    left = (weight * y**2).sum() - np.einsum("hi,hi->h", pull, mean)
    n = len(t)
    log = (
        -n * np.log(NOISE) - np.log(sigma).sum() - 0.5 * n * np.log(2 * np.pi)
        - 0.5 * left[:, None] / NOISE**2
        - 0.5 * np.log(np.linalg.det(matrix))[:, None]
        - 2 * np.log(broad)
    )  # fmt: skip
    root = np.linalg.cholesky(inverse)[:, None] * NOISE[None, :, None, None]
    return np.asarray(log - np.log(len(NOISE))), mean, np.asarray(root)


@dataclass(frozen=True)
class _Smooth:
    """Smooth curves over points (M,): per hyperparameter (H,) roughness and noise scale, posterior weight; evidence: log
    marginal likelihood of all."""

    t: Array
    y: Array
    sigma: Array
    rough: Array
    noise: Array
    weight: Array
    evidence: float

    def draw(self, n: int, t: Array, *, rng: np.random.Generator) -> Array:
        """(n, N) curves at t."""
        grid = t if len(t) <= LONGEST else np.linspace(t[0], t[-1], LONGEST)
        curves = np.zeros((n, len(t)))
        which = rng.choice(len(self.weight), n, p=self.weight)
        for k in np.unique(which):
            mine = np.flatnonzero(which == k)
            kernel = _kernel(np.concatenate([self.t, grid]), self.rough[k], like=(self.t, self.y, self.sigma))
            m = len(self.t)
            known = kernel[:m, :m] + np.diag((self.noise[k] * self.sigma) ** 2)
            gain = np.linalg.solve(known, kernel[:m, m:]).T
            spread = kernel[m:, m:] - gain @ kernel[:m, m:]
            value, vector = np.linalg.eigh((spread + spread.T) / 2)
            noise = rng.standard_normal((len(mine), len(grid))) * np.sqrt(np.maximum(value, 0))
            drawn = gain @ self.y + noise @ vector.T
            curves[mine] = drawn if grid is t else [np.interp(t, grid, one) for one in drawn]
        return curves


def _kernel(t: Array, rough: float, *, like: tuple[Array, Array, Array]) -> Array:
    """Covariance of level + slope + integrated Wiener process; broad for level and slope."""
    at, y, sigma = like
    whole = float(np.ptp(at))
    broad = 3 * max(float(np.abs(y).max()), float(np.median(sigma)))
    u = t - at[0] + 0.5 * whole
    low, high = np.minimum.outer(u, u), np.maximum.outer(u, u)
    v = (t - at.mean()) / whole
    return np.asarray(broad**2 * (1 + 4 * np.multiply.outer(v, v)) + rough * low**2 * (3 * high - low) / 6)


def _fit_smooth(t: Array, y: Array, sigma: Array) -> _Smooth:
    t, y, sigma = _thinned(t, y, sigma)
    scale = 3 * max(float(np.ptp(y)), float(np.median(sigma))) ** 2 / float(np.ptp(t)) ** 3
    rough, noise, log = [], [], []
    for factor in 10.0 ** np.arange(-3, 5):
        value, vector = np.linalg.eigh(
            _kernel(t, factor * scale, like=(t, y, sigma)) / np.multiply.outer(sigma, sigma)
        )
        along = vector.T @ (y / sigma)
        for kappa in NOISE:
            total = np.maximum(value, 0) + kappa**2
            rough.append(factor * scale)
            noise.append(kappa)
            log.append(-0.5 * (np.log(2 * np.pi * total) + along**2 / total).sum() - np.log(sigma).sum())
    posterior = np.array(log) - np.log(len(log))
    evidence = float(np.logaddexp.reduce(posterior))
    weight = np.exp(posterior - evidence)
    return _Smooth(t, y, sigma, np.array(rough), np.array(noise), weight / weight.sum(), evidence)


def _thinned(t: Array, y: Array, sigma: Array) -> tuple[Array, Array, Array]:
    """Weighted means of neighbours, so that no more than LONGEST points are left."""
    if len(t) <= LONGEST:
        return t, y, sigma
    group = np.arange(len(t)) * LONGEST // len(t)
    weight = sigma**-2
    total = np.bincount(group, weight)
    return np.bincount(group, weight * t) / total, np.bincount(group, weight * y) / total, 1 / np.sqrt(total)


def _passages(curves: Array, t: Array, level: float) -> tuple[Array, npt.NDArray[np.bool_]]:
    """(n,) when each curve (n, N) passes the level, at the passage that divides it best; NaN without one. And the way."""
    above = np.where(curves > level, 1.0, -1.0)
    so_far = above.cumsum(1)
    contrast = so_far[:, -1:] - 2 * so_far[:, :-1]
    crossed = above[:, 1:] != above[:, :-1]
    which = np.where(crossed, np.abs(contrast), -1.0).argmax(1)
    rows = np.arange(len(curves))
    before, after = curves[rows, which], curves[rows, which + 1]
    share = (level - before) / np.where(after == before, 1.0, after - before)
    at = t[which] + share * (t[which + 1] - t[which])
    return np.where(crossed.any(1), at, np.nan), after > before
