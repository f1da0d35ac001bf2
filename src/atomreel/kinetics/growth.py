"""Exponential growth of an area, A(t) = A₀·exp(ρt) + C, with intervals that know why the curve is not smooth.

Two kinds of scatter. Independent: every frame's area has its own measuring error. Branching: the growth itself is
chance, since each piece of area `unit_area` brings forth the next one on its own (a Yule process, variance
u·a·e^{ρΔ}(e^{ρΔ} − 1) per interval Δ), so the whole later curve inherits an early lucky step. Ignoring that makes
intervals far too narrow. For given ρ the model is linear in A₀ and C: a Kalman filter integrates them out, and ρ and the
measuring error are scanned on a grid with the profile likelihood, so there is no start value to guess. Steady growth
(pieces lost at a constant rate, variance u·|v|·Δ) is the limit ρ → 0 of the same model, so the likelihood ratio tells
the two apart.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from scipy import ndimage, stats

from atomreel.core.errors import InputError
from atomreel.kinetics.intervals import Estimate, check_level

Floats = npt.NDArray[np.float64]
SMOOTH = 5  # frames over which the course of the area is averaged for its own chance
SURE = 0.01  # chance of the gain over a straight line below which it is believed
_DIFFUSE = 1e3  # prior width of C and of the growing part at its largest, in ranges of the data
_ROUNDS = 3  # in which the chance of the course and ρ settle
_FASTEST = 20.0  # growth by e^20 over the movie is faster than anyone could follow


@dataclass(frozen=True, eq=False)
class Posterior:
    """What the data say of the parameters together: a mixture of normals, G of them.

    rho: (G,) [1/unit of t]. weight: (G,), sums to 1. mean: (G, 3), covariance: (G, 3, 3) of A and dA/dt at the
    first time and of what was added by the last time, whatever path chance took to it [unit of area, and of t].
    """

    rho: Floats
    weight: Floats
    mean: Floats
    covariance: Floats

    def interval(self, factors: Floats, *, level: float) -> tuple[float, float]:
        """Central interval of the linear combination `factors` (G, 3) of the three."""
        tail = (1 - check_level(level)) / 2
        centre = (factors * self.mean).sum(axis=1)
        variance = np.einsum("gi,gij,gj->g", factors, self.covariance, factors)
        return _quantiles(centre, np.sqrt(np.maximum(variance, 0)), self.weight, tail)


@dataclass(frozen=True, eq=False)
class Growth:
    """rho [1/unit of t], a0, c [unit of area], each with its interval, and dA/dt at the first and at the last time:
    speed_start = ρ·A₀, speed_end = ρ·(growing part there), from the parameters' joint posterior.

    noise: "branching" or "independent". sigma: measuring error. delta_aic: AIC of a straight line, with the same
    noise, minus that of the exponential (> 0: exponential). p_line: chance of so large a gain were growth steady.
    log_likelihood: of the best values, up to a constant of the data.
    """

    rho: Estimate
    a0: Estimate
    c: Estimate
    speed_start: Estimate
    speed_end: Estimate
    sigma: float
    noise: str
    delta_aic: float
    p_line: float
    log_likelihood: float
    posterior: Posterior

    @property
    def shape(self) -> str:
        """ "exponential" or "slowing" where a straight line is refuted at the 1 % level, else "undecided"."""
        if not self.p_line < SURE:
            return "undecided"
        return "exponential" if self.rho.value > 0 else "slowing"

    def estimates(self) -> dict[str, Estimate]:
        """For `to_rates`."""
        return {
            "rho": self.rho,
            "A0": self.a0,
            "C": self.c,
            "speed_start": self.speed_start,
            "speed_end": self.speed_end,
        }

    def curve(self, t: npt.ArrayLike, *, start: float = 0.0) -> Floats:
        """A(t) of the best values, t counted from `start`, the first time of the fit."""
        return self.a0.value * np.exp(self.rho.value * (np.asarray(t, dtype=float) - start)) + self.c.value

    def band(self, t: npt.ArrayLike, *, start: float = 0.0, level: float = 0.95) -> tuple[Floats, Floats]:
        """(T,) lower and upper end of the interval of A₀·exp(ρt) + C. One course of chance leaves it more often."""
        since = np.asarray(t, dtype=float).ravel() - start
        rho = self.posterior.rho
        ends = [
            self.posterior.interval(_factors(rho, level=1.0, speed=_rise(rho, now)), level=level)
            for now in since
        ]
        low, high = np.array(ends).reshape(-1, 2).T
        return low, high


def fit_growth(
    t: npt.ArrayLike,
    area: npt.ArrayLike,
    *,
    area_err: npt.ArrayLike | None = None,
    scale_err: bool = False,
    error_time: float = 0.0,
    unit_area: float | None = None,
    offset: bool = True,
    level: float = 0.95,
    area_unit: str = "1",
    time_unit: str = "s",
) -> Growth:
    """Fit A(t) = A₀·exp(ρ(t − t[0])) + C.

    t: (T,) increasing [s]; area: (T,), fraction or any unit; rows with NaN are left out, but the first time stays the start. area_err: (T,) or one number,
    1σ measuring error; estimated from the data when None. scale_err: area_err is the least that it can be; a common factor from 1 to 5 is estimated.
    error_time: how long an error lasts [s], its correlation being exp(−Δ/error_time); 0: every frame errs anew. unit_area: area of one piece
    in the unit of `area` (an atom's site, say) → branching noise beside the measuring error; None → independent errors only, which is right only
    where growth itself is no chance process. offset: False where nothing but what grows was measured: C is 0, which tells ρ far better.
    Intervals are posterior quantiles with a flat prior on ρ within ±20 over the recording. Raises InputError for fewer than five points,
    times out of order, an area that never changes, or a unit_area or error_time that is none.
    """
    check_level(level)
    seconds, values, errors = _checked(t, area, area_err)
    if unit_area is not None and not unit_area > 0:
        raise InputError(f"unit_area {unit_area}: expected the area of one growing piece, above 0")
    span, size = seconds[-1], float(np.ptp(values)) or 1.0
    time, y = seconds / span, values / size
    weights = np.ones_like(y) if errors is None else errors / size
    noise = _noise_grid(y, known=errors is not None, scaled=scale_err)
    data = _Data(time, y, weights, _kept(time, error_time / span), offset)
    scanned = _scan(data, noise=noise, unit=(unit_area or 0.0) / size)
    line = _filter(replace(data, offset=True), np.zeros(len(noise)), noise, chance=scanned.chance)
    gain = 2 * float(scanned.fit.log_profile.max() - line.log_profile.max())
    posterior, best = scanned.posterior(span, size)
    kind = "branching" if unit_area else "independent"
    method = f"{kind} noise, {level:.0%} posterior interval"
    rho, speed = posterior.rho, f"{area_unit}/{time_unit}"
    ends, factors = _ends(posterior, offset, level), _combinations(posterior.rho, offset)

    def estimate(name: str, unit: str) -> Estimate:
        value = rho[best] if name == "rho" else (factors[name] * posterior.mean)[best].sum()
        return Estimate(float(value), *ends[name], unit, len(y), method)

    return Growth(
        estimate("rho", f"1/{time_unit}"),
        estimate("a0", area_unit),
        estimate("c", area_unit),
        estimate("speed_start", speed),
        estimate("speed_end", speed),
        float(scanned.noise[best] * np.mean(weights)) * size,
        kind,
        gain - 2,
        float(stats.chi2.sf(max(gain, 0.0), 1)),
        float(scanned.fit.log_profile.max()),
        posterior,
    )


def averaged(plain: Growth, free: Growth, *, share: float, level: float = 0.95) -> Growth:
    """What `plain`, without C, and `free`, with it, say together where the data do not decide between them.

    share: probability of `free`, 0 to 1. Intervals are quantiles of both posteriors with these weights (J. A. Hoeting et al., Stat. Sci.
    14 (1999) 382); values are those of the likelier one. Raises InputError for a share that is none.
    """
    if not 0 <= share <= 1:
        raise InputError(f"share {share}: expected a probability, 0 to 1")
    likely = free if share > 0.5 else plain
    one, two = plain.posterior, free.posterior
    posterior = Posterior(
        np.concatenate([one.rho, two.rho]),
        np.concatenate([(1 - share) * one.weight, share * two.weight]),
        np.concatenate([one.mean, two.mean]),
        np.concatenate([one.covariance, two.covariance]),
    )
    ends = _ends(posterior, np.repeat([0.0, 1.0], [len(one.rho), len(two.rho)]), level)
    method = f"{likely.noise} noise, {level:.0%} posterior interval, C with probability {share:.2f}"
    estimates = {
        name: replace(getattr(likely, name), low=low, high=high, method=method)
        for name, (low, high) in ends.items()
    }
    return replace(likely, posterior=posterior, **estimates)


def _combinations(rho: Floats, offset: Floats | bool) -> dict[str, Floats]:
    """Factors, for `Posterior.interval`, of everything that is a linear combination of what it holds."""
    return {
        "a0": _factors(rho, speed=1 / rho),
        "c": _factors(rho, level=1.0, speed=-1 / rho) * np.broadcast_to(offset, rho.shape)[:, None],
        "speed_start": _factors(rho, speed=1.0),
        "speed_end": _factors(rho, speed=1.0, added=rho),
    }


def _ends(posterior: Posterior, offset: Floats | bool, level: float) -> dict[str, tuple[float, float]]:
    """Interval of each estimate."""
    rho = posterior.rho
    ends = {"rho": _quantiles(rho, np.zeros_like(rho), posterior.weight, (1 - check_level(level)) / 2)}
    for name, factors in _combinations(rho, offset).items():
        ends[name] = posterior.interval(factors, level=level)
    return ends


def _factors(
    rho: Floats, *, level: float = 0.0, speed: Floats | float = 0.0, added: Floats | float = 0.0
) -> Floats:
    """(G, 3) factors of a linear combination of what `Posterior` holds."""
    return np.stack([np.broadcast_to(part, rho.shape) for part in (level, speed, added)], axis=1)


@dataclass(frozen=True, eq=False)
class _Data:
    """time: (T,) in spans since the start, 0. y: (T,) in ranges. weights: (T,) errors but for the factor. keep: (T,) of the error before. offset: C is free."""

    time: Floats
    y: Floats
    weights: Floats
    keep: Floats
    offset: bool


@dataclass(frozen=True, eq=False)
class _Fit:
    """log_profile: (G,). mean: (G, 3), cov: (G, 3, 3) of the state at the last time."""

    log_profile: Floats
    mean: Floats
    cov: Floats


@dataclass(frozen=True, eq=False)
class _Scan:
    """A fit at every ρ and noise of a grid; weight: (G,) their posterior. chance: (T,), as in `_filter`."""

    rho: Floats
    noise: Floats
    weight: Floats
    chance: Floats
    fit: _Fit

    def posterior(self, span: float, size: float) -> tuple[Posterior, int]:
        """In the units of the data, and the number of the most likely member."""
        weight = self.weight / self.weight.sum()
        scale = np.array([size, size / span, size])
        found = Posterior(
            self.rho / span, weight, self.fit.mean * scale, self.fit.cov * np.outer(scale, scale)
        )
        return found, int(np.argmax(weight))

    def likely(self, count: int) -> Floats:
        """`count` values over the range of ρ that the data leave."""
        rho, which = np.unique(self.rho, return_inverse=True)
        total = np.bincount(which, self.weight)
        inside = np.nonzero(total > 1e-6 * total.max())[0]
        return np.linspace(rho[max(inside[0] - 1, 0)], rho[min(inside[-1] + 1, len(rho) - 1)], count)

    def course(self, y: Floats) -> Floats:
        """(T,) size of dA/dt along the course that the area took.

        Chance has the variance of the area that is there, not of the mean curve through all frames. It is the same for every ρ
        tried: a variance that rose with ρ would let the size of single steps, which are far from normal, decide about ρ.
        """
        best = int(np.argmax(self.weight))
        level, speed = self.fit.mean[best, :2]
        smooth = ndimage.uniform_filter1d(y, SMOOTH, mode="nearest")
        return np.asarray(np.maximum(np.abs(speed + self.rho[best] * (smooth - level)), 0.1 * abs(speed)))


def _scan(data: _Data, *, noise: Floats, unit: float) -> _Scan:
    """First the whole range of ρ and few noises, then what is likely in finer steps."""
    rho, few = np.linspace(-_FASTEST, _FASTEST, 160), noise[::3]
    speed = np.ones_like(data.y)
    for _ in range(_ROUNDS if unit else 1):
        found = _tried(data, rho, few, chance=unit * speed)
        speed = found.course(data.y)
    for count, some in ((81, few), (161, noise)):
        found = _tried(data, found.likely(count), some, chance=unit * speed)
        speed = found.course(data.y)
    return found


def _tried(data: _Data, rho: Floats, noise: Floats, *, chance: Floats) -> _Scan:
    rho = np.where(np.abs(rho) < 1e-9, 1e-9, rho)
    rates, errors = (g.ravel() for g in np.meshgrid(rho, noise, indexing="ij"))
    fit = _filter(data, rates, errors, chance=chance)
    weight = np.exp(fit.log_profile - fit.log_profile.max())
    return _Scan(rates, errors, weight / errors if len(noise) > 1 else weight, chance, fit)


def _filter(data: _Data, rho: Floats, noise: Floats, *, chance: Floats) -> _Fit:
    """Kalman filter over the state (L, v, g, u): y = L + g + σu, dg/dt = v + ρ·g + scatter from g = 0, u the error.

    So A₀ = v/ρ and C = L − v/ρ, and nothing is singular where ρ → 0, which is growth at a steady speed v. Without an offset v = ρ·L.
    rho, noise: (G,). chance: (T,) variance that the scatter gains per time.
    """
    wide = _DIFFUSE * np.exp(-np.maximum(rho, 0))  # so that what grows is as vague at its largest as C is
    cov = np.zeros((4, 4, len(rho)))
    cov[3, 3] = 1.0
    if data.offset:
        cov[0, 0], cov[1, 1] = _DIFFUSE**2, wide**2
    else:
        cov[0, 0], cov[0, 1], cov[1, 0], cov[1, 1] = wide**2, rho * wide**2, rho * wide**2, (rho * wide) ** 2
    mean, log_like = np.zeros((4, len(rho))), np.zeros(len(rho))
    previous = 0.0
    for k, (now, value) in enumerate(zip(data.time, data.y, strict=True)):
        growth, rise, keep = np.exp(rho * (now - previous)), _rise(rho, now - previous), data.keep[k]
        mean[2], mean[3] = growth * mean[2] + rise * mean[1], keep * mean[3]
        cov[2], cov[3] = growth * cov[2] + rise * cov[1], keep * cov[3]
        cov[:, 2], cov[:, 3] = growth * cov[:, 2] + rise * cov[:, 1], keep * cov[:, 3]
        cov[2, 2] += chance[max(k - 1, 0)] * growth * rise
        cov[3, 3] += 1 - keep**2
        previous = now
        error = noise * data.weights[k]
        shared = cov[0] + cov[2] + error * cov[3]
        variance = np.maximum(shared[0] + shared[2] + error * shared[3], 1e-300)
        surprise = value - mean[0] - mean[2] - error * mean[3]
        gain = shared / variance
        mean += gain * surprise
        # (1 − gain·see)·covariance times its transpose: a small error would leave the plain form without a positive variance.
        cov -= gain[:, None] * shared
        left = cov[:, 0] + cov[:, 2] + error * cov[:, 3]
        cov -= left[:, None] * gain
        log_like -= 0.5 * (np.log(variance) + surprise**2 / variance)
    # Integrated likelihood × |information|^½ of (L, v) = profile likelihood: volume must not decide about ρ.
    volume = cov[0, 0] * cov[1, 1] - cov[0, 1] ** 2 if data.offset else cov[0, 0]
    before = np.log(_DIFFUSE * wide) if data.offset else np.log(wide)
    profile = log_like - 0.5 * np.log(np.maximum(volume, 1e-300)) + before
    joint = np.moveaxis(cov[:3, :3], 2, 0)
    return _Fit(np.where(np.isfinite(profile), profile, -np.inf), mean[:3].T.copy(), joint.copy())


def _kept(time: Floats, error_time: float) -> Floats:
    """(T,) share of the error before that is still there."""
    if not (np.isfinite(error_time) and error_time >= 0):
        raise InputError(f"error_time {error_time}: expected a time, or 0 for errors of each frame alone")
    step = np.diff(time, prepend=time[0])
    return np.exp(-step / error_time) * (step > 0) if error_time > 0 else np.zeros(len(time))


def _rise(rho: Floats, t: Floats | float) -> Floats:
    """(e^{ρt} − 1)/ρ, t where ρ is 0."""
    flat = np.abs(rho) < 1e-12
    return np.where(flat, t, np.expm1(rho * t) / np.where(flat, 1.0, rho))


def _quantiles(centre: Floats, width: Floats, weight: Floats, tail: float) -> tuple[float, float]:
    """Quantiles of a weighted mixture of Gaussians, by their equally likely nodes."""
    matters = weight > 1e-9 * weight.max()
    centre, width, weight = centre[matters], width[matters], weight[matters]
    nodes = stats.norm.ppf((np.arange(41) + 0.5) / 41) if np.any(width > 0) else np.zeros(1)
    values = (centre[:, None] + width[:, None] * nodes).ravel()
    shares = np.repeat(weight / len(nodes), len(nodes))
    order = np.argsort(values)
    total = np.cumsum(shares[order])
    low, high = np.interp([tail, 1 - tail], total / total[-1], values[order])
    return float(low), float(high)


def _noise_grid(y: Floats, *, known: bool, scaled: bool) -> Floats:
    """Factors of the known errors to scan, none below 1: a start in which nothing errs would claim that nothing ever does; else measuring errors around what second differences say: their median, or their
    mean square where most values are the same (shares of few pieces)."""
    if known:
        return np.geomspace(1, 5, 10) if scaled else np.ones(1)
    second = np.diff(y, 2) / np.sqrt(6)
    guess = float(np.median(np.abs(second))) / 0.6745 or float(np.sqrt(np.mean(second**2)))
    return np.asarray(max(guess, 1e-4) * np.geomspace(0.3, 3, 13))


def _checked(
    t: npt.ArrayLike, area: npt.ArrayLike, area_err: npt.ArrayLike | None
) -> tuple[Floats, Floats, Floats | None]:
    """Seconds since the first time of all, areas and errors of the usable rows."""
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
    since = seconds - seconds[np.isfinite(seconds)][0]
    if since[good][0] < 0 or (np.diff(seconds[good]) <= 0).any():
        raise InputError("growth: times must increase")
    return since[good], values[good], None if errors is None else errors[good]
