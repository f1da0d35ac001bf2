"""Diffusion coefficient and localisation error of tracks by the covariance-based estimator."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import stats

from atomreel.core.errors import InputError
from atomreel.kinetics.intervals import Estimate, check_level

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Diffusion:
    """d, low, high [px²/s, or Å²/s when `pixel` was given; per frame without times]; localisation [px] 1σ."""

    d: float
    low: float
    high: float
    localisation: float
    steps: int
    unit: str
    level: float

    def estimate(self) -> Estimate:
        """For `to_rates`."""
        method = f"covariance-based estimator, {self.level:.0%}"
        return Estimate(self.d, self.low, self.high, self.unit, self.steps, method)


def fit_diffusion(
    tracks: pd.DataFrame,
    *,
    times: npt.ArrayLike | None = None,
    pixel: tuple[float, float] | None = None,
    drift: pd.DataFrame | None = None,
    exposure: float = 0.0,
    level: float = 0.95,
) -> Diffusion:
    """Two-dimensional free diffusion of all tracks together (Vestergaard, Blainey & Flyvbjerg, PRE 89, 022726 (2014)).

    With steps Δ_n over times t_n, E[Δ_n²] + 2 E[Δ_n Δ_n+1] = 2 D t_n whatever the localisation error and the
    motion blur, so D = Σ(Δ_n² + 2⟨ΔΔ′⟩) / (2 Σ t_n): pauses and gaps enter with their true length.
    tracks: track, frame, y, x [px]. pixel: (dy, dx) [Å]. drift: taken off first. exposure: how long each frame is exposed [s, or frames
    without times]: what moves meanwhile is smeared, which takes D·exposure/3 from E[Δ_n Δ_n+1] = −σ² + D·exposure/3 (their equation 3 with
    2R Δt = exposure/3, Berglund, PRE 82, 011917 (2010)); D itself does not need it, the localisation error σ does.
    The interval uses the larger of the theoretical variance for Gaussian steps and the scatter seen between
    tracks and steps, so rare hops, whose few large steps carry everything, widen it. Raises InputError for fewer
    than two successive steps.
    """
    tail = (1 - check_level(level)) / 2
    if not (np.isfinite(exposure) and exposure >= 0):
        raise InputError(f"exposure {exposure}: expected a time, 0 for frames taken at once")
    table = tracks.sort_values(["track", "frame"], kind="stable")
    frame = table["frame"].to_numpy(np.int64)
    seconds = frame.astype(float) if times is None else np.asarray(times, dtype=float)[frame]
    where = table[["y", "x"]].to_numpy(float)
    if drift is not None:
        where = where - drift.set_index("frame")[["dy", "dx"]].reindex(frame).to_numpy(float)
    step, time = np.diff(where * np.asarray(pixel or (1.0, 1.0)), axis=0), np.diff(seconds)
    same = np.diff(table["track"].to_numpy()) == 0
    follow = same[1:] & same[:-1]
    if follow.sum() < 2:
        raise InputError(
            f"diffusion needs tracks of three points or more; found {int(follow.sum())} pairs of steps"
        )
    if (time[same] <= 0).any():
        raise InputError("tracks: one track has two points in one frame; link the table again")
    pairs = (step[1:] * step[:-1])[follow]
    total = float(time[same].sum())
    squares, bond = step[same] ** 2, pairs.mean()
    d = float((squares.mean(axis=1).sum() + 2 * bond * same.sum()) / (2 * total))
    noise = max(-float(bond), 0.0)
    variance = max(_theory(d, noise, total, int(same.sum())), _seen(step, same, follow, d, time, total))
    if d > 0:
        shape = d**2 / variance + 0.5
        low, high = (float(v) for v in stats.gamma.ppf([tail, 1 - tail], shape, scale=variance / d))
        if d < 2 * np.sqrt(variance):
            low, high = 0.0, max(high, d + float(stats.norm.ppf(1 - tail)) * float(np.sqrt(variance)))
    else:
        low, high = 0.0, d + float(stats.norm.ppf(1 - tail)) * float(np.sqrt(variance))
    scale = 1.0 if pixel is None else float(np.sqrt(pixel[0] * pixel[1]))
    unit = ("px²" if pixel is None else "Å²") + ("/frame" if times is None else "/s")
    smeared = max(-float(bond) + max(d, 0.0) * exposure / 3, 0.0)
    return Diffusion(d, low, max(high, 0.0), float(np.sqrt(smeared)) / scale, int(same.sum()), unit, level)


def _theory(d: float, noise: float, total: float, count: int) -> float:
    """Variance of D for Gaussian steps in two dimensions (their equation 17)."""
    dt = total / count
    base = max(d, 1e-12)
    ratio = noise / (base * dt)
    return float(base**2 * ((6 + 4 * ratio + 2 * ratio**2) / count + 4 * (1 + ratio) ** 2 / count**2) / 2)


def _seen(
    step: Floats,
    same: npt.NDArray[np.bool_],
    follow: npt.NDArray[np.bool_],
    d: float,
    time: Floats,
    total: float,
) -> float:
    """Variance of D from the scatter of its own terms, their neighbours' covariance included."""
    cross = np.zeros(len(step))
    cross[1:][follow] = (step[1:] * step[:-1])[follow].mean(axis=1)
    gain = same.sum() / max(int(follow.sum()), 1)
    terms = np.where(same, (step**2).mean(axis=1) + 2 * gain * cross - 2 * d * time, 0.0)
    lagged = sum(float((terms[k:] * terms[:-k] * _joined(same, k)).sum()) for k in (1, 2) if len(terms) > k)
    return (
        max(float((terms**2).sum()) + 2 * min(lagged, 0.0) * 0.5, 0.5 * float((terms**2).sum()))
        / (2 * total) ** 2
    )


def _joined(same: npt.NDArray[np.bool_], k: int) -> npt.NDArray[np.bool_]:
    joined = same[k:] & same[:-k]
    return joined & same[1 : len(same) - 1] if k == 2 else joined
