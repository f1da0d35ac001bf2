"""How fast the holes of a finished series of frames grow, and whether its two measures of them agree."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

from atomreel.core.files import write_table
from atomreel.core.run import RunFolder
from atomreel.kinetics.growth import Growth, averaged, fit_growth
from atomreel.kinetics.intervals import Estimate, scaled, series_mean
from atomreel.kinetics.strays import find_strays
from atomreel.pipeline.frames import is_large
from atomreel.pipeline.survey import BLOCK, Plan

LEAST_FRAMES = 8  # below which growth is not fitted
LEAST_SITES = 4.0  # by which the holes must have changed over the movie
ASKED = 3.84  # twice the log likelihood that a share C must gain: 5 % by chance
FAR = 3.0  # errors by which the two measures may differ in a frame ...
OFTEN = 0.05  # ... and the share of the frames in which they may differ by more
SURE_OF = 0.3  # sites: a count of whole sites is not known better than this


def hole_kinetics(plan: Plan, folder: RunFolder) -> dict[str, Estimate]:
    """Rates of `hole_…` and the mean share of vacancies; writes the fitted curve into phases.parquet.

    A(t) = A₀·exp(ρt) is fitted to the share of the field in holes, one lattice site at a time, vacancies being counted apart; with a
    share C that does not grow only where the areas ask for it. Shares of the field have the unit "1"; with a pixel size the area is told in nm², with a dose rates are also told per e/Å².
    Empty where frames are few, no lattice was found or nothing changes.
    """
    file = folder.path / "phases.parquet"
    phases = pd.read_parquet(file)
    unit = float(phases.site_fraction.median())
    counted = phases.hole_fraction.where(phases.site_fraction.notna())
    if counted.notna().sum() < LEAST_FRAMES or not np.isfinite(unit):
        return {}
    vacancies = phases.vacancy_fraction[phases.vacancy_fraction.notna()]
    rates = {"vacancy_share": series_mean(vacancies)}
    known = plan.movie.times is not None
    clock = np.arange(len(phases), dtype=float) if plan.movie.times is None else plan.movie.times
    error = np.maximum(phases.hole_fraction_err, SURE_OF * unit)
    if not np.ptp(counted[~find_strays(clock, counted, error, unit_area=unit)].dropna()) > LEAST_SITES * unit:
        return rates
    lasting = persistence(rates["vacancy_share"], len(vacancies), float(np.median(np.diff(clock))))
    fit = fit_holes(clock, counted, error, unit=unit, error_time=lasting, time_unit="s" if known else "frame")
    start = float(clock[0])
    low, high = fit.band(clock, start=start)
    curves = {"hole_fit": fit.curve(clock, start=start), "hole_fit_low": low, "hole_fit_high": high}
    write_table(file, phases.assign(**curves), kind="phases")
    return rates | _rates(fit, plan, interval=float(np.median(np.diff(clock))))


def persistence(mean: Estimate, frames: int, interval: float) -> float:
    """Time for which vacancies last, from what the mean of their number over `frames` frames is worth, if their correlation
    is exp(−Δ/time) [as interval]: frames/worth = (1 + k)/(1 − k) with that of one interval, k."""
    ratio = frames / mean.count
    return -interval / float(np.log((ratio - 1) / (ratio + 1))) if ratio > 1 else 0.0


def fit_holes(
    clock: npt.ArrayLike,
    counted: npt.ArrayLike,
    error: npt.ArrayLike,
    *,
    unit: float,
    error_time: float = 0.0,
    time_unit: str = "s",
) -> Growth:
    """Growth of what was counted as holes, (T,) with errors right but for a factor, in pieces of `unit`.

    error_time: how long an error lasts, which is mostly a vacancy that touches a rim and so stays there for a while. Frames whose count
    is far from that of their neighbours are left out.

    Without C unless it is above 0 and the likelihood ratio asks for it at the 5 % level: left free, C takes what early chance did to A₀ and draws ρ
    down by some per cent. Where it is asked for, chance may have asked: then intervals hold what is said with and without C, weighed by
    their likelihoods and 1/√T for the parameter more (G. Schwarz, Ann. Stat. 6 (1978) 461)."""
    stray = find_strays(clock, counted, error, unit_area=unit)
    sites = np.where(stray, np.nan, np.asarray(counted, dtype=float))
    plain, free = (
        fit_growth(
            clock,
            sites,
            area_err=error,
            scale_err=True,
            error_time=error_time,
            unit_area=unit,
            offset=offset,
            time_unit=time_unit,
        )
        for offset in (False, True)
    )
    plain = replace(plain, p_line=free.p_line, delta_aic=free.delta_aic)
    gain = free.log_likelihood - plain.log_likelihood
    if not (free.c.value > 0 and 2 * gain > ASKED):
        return plain
    share = 1 / (1 + float(np.sqrt(free.rho.count) * np.exp(-gain)))
    return averaged(plain, free, share=share)


def _rates(fit: Growth, plan: Plan, *, interval: float) -> dict[str, Estimate]:
    """As shares, and as areas and per dose where these are known. interval: usual time from frame to frame."""
    found = dict(fit.estimates())
    method = f"AIC of a straight line with the same noise less that of the exponential; {_verdict(fit)}"
    gain = Estimate(fit.delta_aic, float("nan"), float("nan"), "1", fit.rho.count, method)
    if plan.pixel is not None:
        judged = [min(BLOCK, n) for n in plan.movie.shape] if is_large(plan.movie.shape) else plan.movie.shape
        field = float(np.prod(judged) * np.prod(plan.pixel)) / 100  # nm²
        found["A0_area"] = scaled(fit.a0, field, "nm²")
        for name in ("speed_start", "speed_end"):
            found[name] = scaled(found[name], field, found[name].unit.replace("1/", "nm²/"))
    if plan.movie.dose is not None:
        # The beam is taken to stay on between frames: `dose` every usual interval.
        for name in ("rho", "speed_start", "speed_end"):
            per = found[name].unit.split("/")[0]
            found[f"{name}_per_dose"] = scaled(found[name], interval / plan.movie.dose, f"{per} per e/Å²")
    return {f"hole_{name}": estimate for name, estimate in found.items()} | {"hole_exponential": gain}


def _verdict(fit: Growth) -> str:
    chance = "p < 1e-6" if fit.p_line < 1e-6 else f"p = {fit.p_line:.2g}"
    said = {
        "exponential": f"growth gets faster ({chance} if it were steady)",
        "slowing": f"growth slows down ({chance} if it were steady)",
        "undecided": f"steady growth is as good a description ({chance})",
    }
    return said[fit.shape]


def hole_notes(path: Path) -> list[str]:
    """What a reader of the phases table of the Run at `path` must be told about its holes."""
    phases = pd.read_parquet(path / "phases.parquet")
    sure = phases.hole_disagreement_err > 0
    far = sure & (phases.hole_disagreement.abs() > FAR * phases.hole_disagreement_err)
    if not far.sum() > OFTEN * max(int(sure.sum()), 1):
        return []
    apart = phases[far]
    usual = float(apart.hole_disagreement.median())
    sigmas = float((apart.hole_disagreement.abs() / apart.hole_disagreement_err).median())
    frames = "" if len(phases) == 1 else f" in {int(far.sum())} of {len(phases)} frames"
    return [
        f"holes by missing columns and by brightness differ{frames} by more than their errors allow (columns less "
        f"brightness: {100 * usual:+.2g} % of the field, {sigmas:.1f} σ): holes that are not dark, dirt or thick "
        "places, or columns that were missed"
    ]
