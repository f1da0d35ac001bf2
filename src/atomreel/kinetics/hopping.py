"""How fast things hop between lattice sites, and the diffusion coefficient that follows."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from atomreel.core.errors import InputError
from atomreel.kinetics.intervals import Estimate, check_level, gamma_interval

Floats = npt.NDArray[np.float64]
SAME = 0.25  # of the distance of neighbouring sites: below it nothing moved
_WAVES = 24  # along each axis of the Brillouin zone


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
    neighbours: int = 6,
    level: float = 0.95,
) -> Hops:
    """Hop rate and D of particles whose sites are known, so that positions are exact.

    tracks: track, frame, y, x [px] of the site; `watched`, 0 to 1, where there is such a column: the share of the neighbouring sites at which the
    particle would be seen. hop: distance of neighbouring sites [px]. times: (T,) [s]. pixel: (dy, dx) [Å]. neighbours: of a site, 6 (triangular lattice),
    4 (square) or 3 (honeycomb). The hop rate is that of a Poisson process of which each step shows whether anything moved: a particle stays, or is back, with the
    probability R(rate · Δt) of random walks on that lattice, and one that left to where nothing is watched is missing, so that stayed : moved is R : watched · (1 − R).
    The tracer's D = Σ Δ²/(4 Σ watched · t) over all steps stays right where a step holds several hops, since hops in independent directions
    add their squares; a single wrong link of far points spoils it, and hardly the hop rate.
    Intervals are Gamma (N + ½, N/value): of the rate, N is what the steps are worth by Fisher's information, of the tracer's D the number of squares of one
    hop in Σ Δ². Raises InputError without two points of one track or a distance, and for other neighbours.
    """
    check_level(level)
    if not (np.isfinite(hop) and hop > 0):
        raise InputError(f"distance of neighbouring sites {hop}: expected a length in pixels above 0")
    fade = _fade(neighbours)
    table = tracks.sort_values(["track", "frame"], kind="stable")
    frame = table["frame"].to_numpy(np.int64)
    clock = frame.astype(float) if times is None else np.asarray(times, dtype=float)[frame]
    within = np.diff(table["track"].to_numpy()) == 0
    move = np.diff(table[["y", "x"]].to_numpy(float) * np.asarray(pixel or (1.0, 1.0)), axis=0)[within]
    dt = np.diff(clock)[within]
    if not len(dt) or (dt <= 0).any():
        raise InputError("hops need a track of two points at least, at times that increase")
    watched = table["watched"].to_numpy(float)[:-1][within] if "watched" in table else np.ones(len(dt))
    if not (watched * dt).sum() > 0:
        raise InputError("hops need a site of which some neighbour is watched")
    unit, area = ("1/s", "s") if times is not None else ("1/frame", "frame")
    square = (move**2).sum(1)
    hop = hop * float(np.mean(pixel or 1.0))
    moved = square > (SAME * hop) ** 2
    time, count = float((watched * dt).sum()), int(moved.sum())
    rate, worth = _rate(moved, dt, watched, fade)
    number, d = float(square.sum() / hop**2), float(square.sum() / (4 * time))
    method = f"moves between sites, {level:.0%} Gamma interval"
    low, high = _ends(rate, worth, dt, level) if count else (0.0, gamma_interval(0.5, time, level=level)[1])
    d_low, d_high = (hop**2 / 4 * end for end in gamma_interval(number + 0.5, time, level=level))
    area_per = f"{'Å²' if pixel else 'px²'}/{area}"
    return Hops(
        Estimate(rate, low, high, unit, count, method),
        Estimate(hop**2 / 4 * rate, hop**2 / 4 * low, hop**2 / 4 * high, area_per, count, method),
        Estimate(d, d_low if count else 0.0, d_high, area_per, round(number, 3), method),
    )


def _ends(rate: float, worth: float, dt: Floats, level: float) -> tuple[float, float]:
    """Ends of the interval of the rate; above nothing where every step moved, for then any faster rate would do as well."""
    if not np.isfinite(rate):
        tail = (1 - level) / 2
        return float(-np.log1p(-(tail ** (1 / len(dt)))) / dt.mean()), float("inf")
    return gamma_interval(worth + 0.5, worth / rate, level=level)


def _fade(neighbours: int) -> Floats:
    """How fast each wave of the lattice fades, in hop rates: a walker is back after x hops on average with the mean of exp(−x · fade)."""
    a, b = np.meshgrid(*[2 * np.pi * np.arange(_WAVES) / _WAVES] * 2)
    if neighbours == 6:
        return np.asarray(1 - (np.cos(a) + np.cos(b) + np.cos(a + b)).ravel() / 3)
    if neighbours == 4:
        return np.asarray(1 - (np.cos(a) + np.cos(b)).ravel() / 2)
    if neighbours == 3:  # two sites in the cell: back are those of even length only
        both = np.abs(1 + np.exp(1j * a) + np.exp(1j * b)).ravel() / 3
        return np.concatenate([1 - both, 1 + both])
    raise InputError(f"{neighbours} neighbours of a site: expected 6, 4 or 3")


def _rate(moved: npt.NDArray[np.bool_], dt: Floats, watched: Floats, fade: Floats) -> tuple[float, float]:
    """Maximum of the likelihood, by halving in log r where its slope changes sign, and Fisher's information of log r there."""
    if not moved.any():
        return 0.0, 0.0
    step, which = np.unique(dt, return_inverse=True)
    share = np.maximum(watched, 1e-3)

    def slope(rate: float) -> tuple[float, float]:
        waves = np.exp(-rate * step[:, None] * fade)
        stay, fall = waves.mean(axis=1), (fade * waves).mean(axis=1)
        gain = (rate * step * fall / np.maximum(stay * (1 - stay), 1e-300))[which]
        odds = share * (1 / stay - 1)[which]
        p = odds / (1 + odds)
        return float(((moved - p) * gain).sum()), float((p * (1 - p) * gain**2).sum())

    low, high = np.log(0.1 / dt.sum()), np.log(_WAVES / dt.min())
    if slope(float(np.exp(high)))[0] > 0:
        return float("inf"), 0.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if slope(float(np.exp(middle)))[0] > 0 else (low, middle)
    rate = float(np.exp(low))
    return rate, slope(rate)[1]
