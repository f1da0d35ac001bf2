"""Intervals for counts: a rate from events in an exposure, a share from successes in trials."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass

import numpy as np
import numpy.typing as npt
from scipy import stats

from atomreel.core.errors import InputError


@dataclass(frozen=True)
class Estimate:
    """A number with its interval, as `rates.json` holds it."""

    value: float
    low: float
    high: float
    unit: str
    count: float
    method: str


def in_words(estimate: Estimate) -> str:
    """Value, interval and unit; of a rate without an upper end, since every step moved, that it has a lower one only."""
    if np.isnan(estimate.high):
        return f"{estimate.value:.3g} {estimate.unit}, without an interval"
    if np.isinf(estimate.high):
        return f"at least {estimate.low:.3g} {estimate.unit}, no upper end: it moved in every step"
    return f"{estimate.value:.3g} ({estimate.low:.3g} … {estimate.high:.3g}) {estimate.unit}"


def to_rates(estimates: Mapping[str, Estimate]) -> dict[str, dict[str, float | str | None]]:
    """Named estimates → the plain dictionary of `rates.json`; what is not finite becomes None."""

    def plain(value: float | str) -> float | str | None:
        return value if isinstance(value, str) or np.isfinite(value) else None

    return {
        name: {key: plain(value) for key, value in asdict(estimate).items()}
        for name, estimate in estimates.items()
    }


def rate(count: float, exposure: float, *, unit: str = "1/s", level: float = 0.95) -> Estimate:
    """Poisson rate: `count` events in `exposure`, Gamma(count + ½, exposure) interval (Jeffreys prior).

    No events give the value 0 with a finite upper end.
    """
    if count < 0 or not exposure > 0:
        raise InputError(f"a rate needs count ≥ 0 and exposure > 0, got {count} in {exposure}")
    low, high = gamma_interval(count + 0.5, exposure, level=level)
    return Estimate(count / exposure, low if count > 0 else 0.0, high, unit, count, "Gamma, Jeffreys prior")


def gamma_interval(shape: float, exposure: float, *, level: float = 0.95) -> tuple[float, float]:
    """Central interval of Gamma(shape, rate = exposure)."""
    tail = (1 - check_level(level)) / 2
    low, high = stats.gamma.ppf([tail, 1 - tail], shape, scale=1 / exposure)
    return float(low), float(high)


def share(count: float, trials: float, *, level: float = 0.95) -> Estimate:
    """Share `count`/`trials` with Wilson's score interval (J. Am. Stat. Assoc. 22, 209 (1927)); trials may be effective."""
    if not 0 <= count <= trials:
        raise InputError(f"a share needs 0 ≤ count ≤ trials, got {count} of {trials}")
    if trials == 0:
        return Estimate(float("nan"), 0.0, 1.0, "1", 0, "Wilson")
    z = float(stats.norm.ppf((1 + check_level(level)) / 2))
    p = count / trials
    centre = (p + z**2 / (2 * trials)) / (1 + z**2 / trials)
    half = z / (1 + z**2 / trials) * np.sqrt(p * (1 - p) / trials + z**2 / (4 * trials**2))
    low = 0.0 if count == 0 else float(centre - half)
    high = 1.0 if count == trials else float(centre + half)
    return Estimate(p, low, high, "1", count, "Wilson")


def scaled(estimate: Estimate, factor: float, unit: str) -> Estimate:
    """The same quantity in another unit, `factor` > 0 of which make one of the old."""
    if not (np.isfinite(factor) and factor > 0):
        raise InputError(f"factor {factor}: expected more than 0")
    ends = (estimate.value * factor, estimate.low * factor, estimate.high * factor)
    return Estimate(*ends, unit, estimate.count, estimate.method)


def series_mean(values: npt.ArrayLike, *, unit: str = "1", level: float = 0.95) -> Estimate:
    """Mean of a steady series (T,) whose neighbours resemble each other; count: how many independent values it is worth.

    The variance is that of the values over T/τ, τ = 1 + 2 Σ of the autocorrelations up to the first pair that is
    not positive (C. J. Geyer, Stat. Sci. 7 (1992) 473). Student's t. Raises InputError below three finite values.
    """
    series = np.asarray(values, dtype=float)
    if series.ndim != 1 or len(series) < 3 or not np.isfinite(series).all():
        raise InputError(
            f"a mean with its error needs at least three finite values, got shape {series.shape}"
        )
    centred = series - series.mean()
    n = len(series)
    spectrum = np.abs(np.fft.rfft(centred, 2 * n)) ** 2
    shared = np.fft.irfft(spectrum)[:n] / n
    pairs = shared[0 : n - n % 2 : 2] + shared[1::2]
    positive = pairs <= 0
    last = int(np.argmax(positive)) if positive.any() else len(pairs)
    total = max(2 * float(pairs[:last].sum()) - shared[0], shared[0])
    if total <= 0:
        return Estimate(float(series[0]), float(series[0]), float(series[0]), unit, float(n), "constant")
    worth = max(n * float(shared[0]) / total, 2.0)
    half = float(stats.t.ppf((1 + check_level(level)) / 2, worth - 1) * np.sqrt(shared[0] / (worth - 1)))
    value = float(series.mean())
    return Estimate(value, value - half, value + half, unit, worth, "mean of a series, Student's t")


def check_level(level: float) -> float:
    if not 0 < level < 1:
        raise InputError(f"confidence level {level}: expected a number between 0 and 1, for example 0.95")
    return level
