"""Intervals for counts: a rate from events in an exposure, a share from successes in trials."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass

import numpy as np
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


def check_level(level: float) -> float:
    if not 0 < level < 1:
        raise InputError(f"confidence level {level}: expected a number between 0 and 1, for example 0.95")
    return level
