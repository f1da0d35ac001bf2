"""Exponential growth of an area, A(t) = A₀·exp(ρt) + C, with intervals that know why the curve is not smooth.

Two kinds of scatter. Independent: every frame's area has its own measuring error. Branching: the growth itself is
chance, since each piece of area `unit_area` brings forth the next one on its own (a Yule process, variance
u·a·e^{ρΔ}(e^{ρΔ} − 1) per interval Δ), so the whole later curve inherits an early lucky step. Ignoring that makes
intervals far too narrow. For given ρ the model is linear in A₀ and C: a Kalman filter integrates them out, and ρ and the
measuring error are scanned on a grid with the profile likelihood, so there is no start value to guess.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import stats

from atomreel.core.errors import InputError
from atomreel.kinetics.intervals import Estimate, check_level

Floats = npt.NDArray[np.float64]
_DIFFUSE = 1e3  # prior width of C and of the growing part at its largest, in ranges of the data
_FASTEST = 20.0  # growth by e^20 over the movie is faster than anyone could follow


@dataclass(frozen=True)
class Growth:
    """rho [1/unit of t], a0, c [unit of area], each with its interval; noise: "branching" or "independent";
    sigma: measuring error; delta_aic: AIC of the best straight line minus that of the exponential (> 0: exponential)."""

    rho: Estimate
    a0: Estimate
    c: Estimate
    sigma: float
    noise: str
    delta_aic: float

    def estimates(self) -> dict[str, Estimate]:
        """For `to_rates`."""
        return {"rho": self.rho, "A0": self.a0, "C": self.c}

    def curve(self, t: npt.ArrayLike, *, start: float = 0.0) -> Floats:
        """A(t) of the best values, t counted from `start`, the first time of the fit."""
        return self.a0.value * np.exp(self.rho.value * (np.asarray(t, dtype=float) - start)) + self.c.value


def fit_growth(
    t: npt.ArrayLike,
    area: npt.ArrayLike,
    *,
    area_err: npt.ArrayLike | None = None,
    unit_area: float | None = None,
    level: float = 0.95,
    area_unit: str = "1",
) -> Growth:
    """Fit A(t) = A₀·exp(ρ(t − t[0])) + C.

    t: (T,) increasing [s]; area: (T,), fraction or any unit; rows with NaN are left out (times may pause).
    area_err: (T,) or one number, 1σ measuring error; estimated from the data when None. unit_area: area of one piece
    in the unit of `area` (an atom's site, say) → branching noise beside the measuring error; None → independent errors
    only, which is right only where growth itself is no chance process. Intervals are posterior quantiles with a flat
    prior on ρ within ±20 over the recording. Raises InputError for fewer than five points, times out of order or an area that never changes.
    """
    tail = (1 - check_level(level)) / 2
    seconds, values, errors = _checked(t, area, area_err)
    if unit_area is not None and not unit_area > 0:
        raise InputError(f"unit_area {unit_area}: expected the area of one growing piece, above 0")
    unit = unit_area or 0.0
    span, size = seconds[-1] - seconds[0], float(np.ptp(values)) or 1.0
    time, y = (seconds - seconds[0]) / span, values / size
    noise = _noise_grid(y) if errors is None else np.ones(1)
    weights = np.ones_like(y) if errors is None else errors / size
    rho, centre = np.linspace(-_FASTEST, _FASTEST, 240), None
    for _ in range(3):  # first the whole range, then what is likely in finer steps
        grid = np.meshgrid(rho, noise, indexing="ij")
        fit = _filter(time, y, grid[0].ravel(), sigma=grid[1].ravel()[:, None] * weights, unit=unit / size)
        profile = np.where(np.isfinite(fit.log_profile), fit.log_profile, -np.inf)
        chance = np.exp(profile - profile.max()).reshape(grid[0].shape)
        if errors is None:
            chance /= grid[1]
        likely = np.nonzero(chance.sum(axis=1) > 1e-6 * chance.sum(axis=1).max())[0]
        centre = rho[max(likely[0] - 1, 0)], rho[min(likely[-1] + 1, len(rho) - 1)]
        rho = np.linspace(*centre, 161)
    weight = (chance / chance.sum()).ravel()
    best = int(np.argmax(chance))
    r_low, r_high = _quantiles(grid[0].ravel(), np.zeros(weight.size), weight, tail)
    method = f"{'branching' if unit else 'independent'} noise, {level:.0%} posterior interval"

    def linear(index: int, label: str) -> Estimate:
        low, high = _quantiles(fit.mean[:, index], fit.deviation[:, index], weight, tail)
        value = float(fit.mean[best, index])
        return Estimate(value * size, low * size, high * size, label, len(y), method)

    at = grid[0].ravel()[best]
    return Growth(
        Estimate(float(at / span), float(r_low / span), float(r_high / span), "1/s", len(y), method),
        linear(1, area_unit),
        linear(0, area_unit),
        float(grid[1].ravel()[best] * np.mean(weights)) * size,
        "branching" if unit else "independent",
        _straight_line(time, y, weights, known=errors is not None, rho=float(at)),
    )


@dataclass(frozen=True)
class _Fit:
    log_profile: Floats
    mean: Floats  # (G, 2): C, A0
    deviation: Floats


def _filter(time: Floats, y: Floats, rho: Floats, *, sigma: Floats, unit: float) -> _Fit:
    """Kalman filter over the state (C, A₀, a): y = C + a + error, a grows and, with `unit`, scatters."""
    count = len(rho)
    mean = np.zeros((count, 3))
    cov = np.zeros((count, 3, 3))
    cov[:, 0, 0] = _DIFFUSE**2
    cov[:, 1:, 1:] = (_DIFFUSE * np.exp(-np.maximum(rho, 0)))[:, None, None] ** 2
    see = np.array([1.0, 0.0, 1.0])
    log_like = np.zeros(count)
    previous = time[0]
    # Process noise needs the present area; the deterministic curve through the data says it without feedback.
    different, which = np.unique(rho, return_inverse=True)
    path = _deterministic(time, y, different) if unit else None
    for k, (now, value) in enumerate(zip(time, y, strict=True)):
        growth = np.exp(rho * (now - previous))
        mean[:, 2] *= growth
        cov[:, 2, :] *= growth[:, None]
        cov[:, :, 2] *= growth[:, None]
        if path is not None and k:
            cov[:, 2, 2] += unit * path[which, k - 1] * growth * np.abs(growth - 1)
        previous = now
        seen = cov @ see
        variance = np.maximum(seen @ see, 0) + sigma[:, k] ** 2
        surprise = value - mean @ see
        log_like -= 0.5 * (np.log(variance) + surprise**2 / variance)
        gain = seen / variance[:, None]
        mean += gain * surprise[:, None]
        # Joseph's form: thousands of steps with a small error leave the plain one without a positive variance
        keep = np.eye(3) - gain[:, :, None] * see
        cov = keep @ cov @ keep.transpose(0, 2, 1)
        cov += (sigma[:, k] ** 2)[:, None, None] * gain[:, :, None] * gain[:, None, :]
    block = cov[:, :2, :2]
    # Integrated likelihood × |information|^½ of (C, A₀) = profile likelihood: volume must not decide about ρ.
    volume = np.log(np.maximum(np.linalg.det(block), 1e-300))
    deviation = np.sqrt(np.maximum(np.stack([block[:, 0, 0], block[:, 1, 1]], axis=1), 0))
    return _Fit(log_like - 0.5 * volume - np.maximum(rho, 0), mean[:, :2], deviation)


def _deterministic(time: Floats, y: Floats, rho: Floats) -> Floats:
    """(G, T) growing part of the least-squares curve at each ρ, never negative."""
    shape = np.exp(np.outer(rho, time) - np.maximum(rho, 0)[:, None])
    centred = shape - shape.mean(axis=1, keepdims=True)
    power = (centred**2).sum(axis=1)
    slope = np.where(
        power > 1e-12, centred @ (y - y.mean()) / np.maximum(power, 1e-12), 0.0
    )  # ρ of next to 0: no growth
    return np.asarray(np.maximum(slope[:, None] * shape, 0))


def _quantiles(centre: Floats, width: Floats, weight: Floats, tail: float) -> tuple[float, float]:
    """Quantiles of a weighted mixture of Gaussians, by their equally likely nodes."""
    nodes = stats.norm.ppf((np.arange(41) + 0.5) / 41) if np.any(width > 0) else np.zeros(1)
    values = (centre[:, None] + width[:, None] * nodes).ravel()
    shares = np.repeat(weight / len(nodes), len(nodes))
    order = np.argsort(values)
    total = np.cumsum(shares[order])
    low, high = np.interp([tail, 1 - tail], total / total[-1], values[order])
    return float(low), float(high)


def _noise_grid(y: Floats) -> Floats:
    """Measuring errors to scan, around what second differences say: their median, or their mean square where most
    values are the same (shares of few pieces)."""
    second = np.diff(y, 2) / np.sqrt(6)
    guess = float(np.median(np.abs(second))) / 0.6745 or float(np.sqrt(np.mean(second**2)))
    return np.asarray(max(guess, 1e-4) * np.geomspace(0.3, 3, 13))


def _straight_line(time: Floats, y: Floats, weights: Floats, *, known: bool, rho: float) -> float:
    def aic(shape: Floats, parameters: int) -> float:
        design = np.stack([np.ones_like(y), shape], axis=1) / weights[:, None]
        best = np.linalg.lstsq(design, y / weights, rcond=None)[0]
        chi2 = float(((design @ best - y / weights) ** 2).sum())
        return 2 * parameters + (chi2 if known else len(y) * float(np.log(max(chi2, 1e-300) / len(y))))

    return aic(time, 2) - aic(np.exp(rho * time - max(rho, 0)), 3)


def _checked(
    t: npt.ArrayLike, area: npt.ArrayLike, area_err: npt.ArrayLike | None
) -> tuple[Floats, Floats, Floats | None]:
    seconds, values = np.asarray(t, dtype=float), np.asarray(area, dtype=float)
    if seconds.ndim != 1 or seconds.shape != values.shape:
        raise InputError(f"growth: one area per time is needed, got {values.shape} for {seconds.shape}")
    errors = None if area_err is None else np.broadcast_to(np.asarray(area_err, dtype=float), values.shape)
    good = np.isfinite(seconds) & np.isfinite(values)
    if errors is not None:
        good &= np.isfinite(errors) & (errors > 0)
    if good.any() and np.ptp(values[good]) == 0:
        raise InputError(f"growth: the area is {values[good][0]:g} at all times; nothing grows")
    if good.sum() < 5:
        raise InputError(f"growth: three parameters need at least 5 usable points, got {int(good.sum())}")
    if (np.diff(seconds[good]) <= 0).any():
        raise InputError("growth: times must increase")
    return seconds[good], values[good], None if errors is None else errors[good]
