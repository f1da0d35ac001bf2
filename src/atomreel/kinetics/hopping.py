"""How fast things hop between lattice sites, and the diffusion coefficient that follows."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from atomreel.core.errors import InputError
from atomreel.kinetics.intervals import Estimate, check_level, gamma_interval

SAME = 0.25  # of the distance of neighbouring sites: below it nothing moved


@dataclass(frozen=True)
class Hops:
    """rate: hops of one particle [1/s or 1/frame]. by_hops: the diffusion coefficient rate · hop²/4, that of hops in independent
    directions; tracer: that of the displacements themselves [px²/s, or Å²/s with a pixel size]. They differ where hops are correlated."""

    rate: Estimate
    by_hops: Estimate
    tracer: Estimate

    def estimates(self, kind: str) -> dict[str, Estimate]:
        """Named for `to_rates`."""
        return {
            f"hops of {kind}": self.rate,
            f"D of {kind} by hops": self.by_hops,
            f"D of {kind} by displacement": self.tracer,
        }


def fit_hops(
    tracks: pd.DataFrame,
    *,
    hop: float,
    times: npt.ArrayLike | None = None,
    pixel: tuple[float, float] | None = None,
    level: float = 0.95,
) -> Hops:
    """Hop rate and D of particles whose sites are known, so that positions are exact.

    tracks: track, frame, y, x [px] of the site. hop: distance of neighbouring sites [px]. times: (T,) [s]. pixel: (dy, dx) [Å].
    The tracer's D = Σ Δ²/(4 Σ t) over all steps stays right where a step holds several hops, since hops in independent directions
    add their squares; a single wrong link of far points spoils it, and hardly the hop rate. The hop rate is that of a Poisson process of which each step shows whether anything moved:
    −ln(share that stayed)/Δt for steps of one length, the likelihood's maximum for several. Intervals are Gamma (N + ½, time),
    N the number of moves and for D the number of squares of one hop in Σ Δ².
    Moves to and fro within one step are not seen by the rate. Raises InputError without two points of one track
    or a distance.
    """
    check_level(level)
    if not (np.isfinite(hop) and hop > 0):
        raise InputError(f"distance of neighbouring sites {hop}: expected a length in pixels above 0")
    table = tracks.sort_values(["track", "frame"], kind="stable")
    frame = table["frame"].to_numpy(np.int64)
    clock = frame.astype(float) if times is None else np.asarray(times, dtype=float)[frame]
    within = np.diff(table["track"].to_numpy()) == 0
    move = np.diff(table[["y", "x"]].to_numpy(float) * np.asarray(pixel or (1.0, 1.0)), axis=0)[within]
    dt = np.diff(clock)[within]
    if not len(dt) or (dt <= 0).any():
        raise InputError("hops need a track of two points at least, at times that increase")
    unit, area = ("1/s", "s") if times is not None else ("1/frame", "frame")
    square = (move**2).sum(1)
    hop = hop * float(np.mean(pixel or 1.0))
    moved = square > (SAME * hop) ** 2
    time, count = float(dt.sum()), int(moved.sum())
    rate = _rate(moved, dt)
    number, d = float(square.sum() / hop**2), float(square.sum() / (4 * time))
    method = f"moves between sites, {level:.0%} Gamma interval"
    low, high = _ends(rate, count, dt, level)
    d_low, d_high = (hop**2 / 4 * end for end in gamma_interval(number + 0.5, time, level=level))
    area_per = f"{'Å²' if pixel else 'px²'}/{area}"
    return Hops(
        Estimate(rate, low, high, unit, count, method),
        Estimate(hop**2 / 4 * rate, hop**2 / 4 * low, hop**2 / 4 * high, area_per, count, method),
        Estimate(d, d_low if count else 0.0, d_high, area_per, round(number, 3), method),
    )


def _ends(rate: float, count: int, dt: npt.NDArray[np.float64], level: float) -> tuple[float, float]:
    """Ends of the interval of the rate; above nothing where every step moved, for then any faster rate would do as well."""
    if not np.isfinite(rate):
        tail = (1 - level) / 2
        return float(-np.log1p(-(tail ** (1 / len(dt)))) / dt.mean()), float("inf")
    time = float(dt.sum())
    low, high = gamma_interval(count + 0.5, time * max(count, 0.5) / max(rate * time, 0.5), level=level)
    return low if count else 0.0, high


def _rate(moved: npt.NDArray[np.bool_], dt: npt.NDArray[np.float64]) -> float:
    """Root of the score Σ_moved dt/(e^{r dt} − 1) = Σ_stayed dt, by Newton's method in log r."""
    if not moved.any():
        return 0.0
    stayed = float(dt[~moved].sum())
    if stayed <= 0:
        return float("inf")
    rate = float(moved.sum() / dt.sum())
    for _ in range(60):
        growth = np.expm1(np.minimum(rate * dt[moved], 500))
        score = float((dt[moved] / growth).sum()) - stayed
        slope = -float((dt[moved] ** 2 * (growth + 1) / growth**2).sum())
        step = np.clip(-score / (slope * rate), -1, 1)
        rate *= float(np.exp(step))
        if abs(step) < 1e-10:
            break
    return rate
