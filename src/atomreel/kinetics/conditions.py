"""Two movies of a surface, for example in vacuum and in gas: do its sites blink more in the second?"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import stats

from atomreel.core.errors import InputError
from atomreel.kinetics.blinking import Blinking
from atomreel.kinetics.intervals import check_level

Floats = npt.NDArray[np.float64]
BLOCKS = 10  # pieces of the movie, by which what all sites share is seen
DRAWS = 9999


@dataclass(frozen=True)
class _Sample:
    """mean: over sites. sites: (S,) of each site. common: variance of the mean by what all sites share in time."""

    mean: float
    sites: Floats
    common: float


def compare_conditions(
    first: Blinking,
    second: Blinking,
    *,
    sites: tuple[npt.ArrayLike, npt.ArrayLike] | None = None,
    paired: bool = False,
    level: float = 0.95,
    rng: np.random.Generator | int = 0,
) -> pd.DataFrame:
    """Mean occupancy and event rate of the sites of two movies, and their difference, second minus first.

    sites: rows of each movie to compare, as booleans or numbers (such as `Sites.table.surface`); all by default.
    paired: row k of both is the same site. Rows: occupancy, events [changes per site and second, or frame]. Columns:
    first, second, difference, low, high, error, p (no difference, two-sided), p_sites, sites_first, sites_second.

    A site is one draw from the surface, so frames that resemble each other count no more than they tell about their
    site; what all sites do together (focus, a change of the gas) is seen in ten blocks of frames. The variance is
    that of sites and of blocks, less what both count (C. Cameron, J. Gelbach & D. Miller, J. Bus. Econ. Stat. 29
    (2011) 238, with the mean square of an analysis of variance for the last); Student's t with the degrees of freedom of
    Satterthwaite. p_sites is the permutation test over sites, without the part that all sites share. The sites of
    one movie are one piece of surface: it takes several movies to speak of a gas. Raises InputError.
    """
    check_level(level)
    chosen = [_rows(blink, None if sites is None else sites[k]) for k, blink in enumerate((first, second))]
    if first.unit != second.unit:
        raise InputError(
            f"rates per {first.unit[2:]} and per {second.unit[2:]}: give the times of both movies"
        )
    if paired and len(chosen[0]) != len(chosen[1]):
        raise InputError(f"paired sites: as many of each, got {len(chosen[0])} and {len(chosen[1])}")
    rows = []
    for name, measure in (("occupancy", _occupancy), ("events", _events)):
        one, two = (measure(blink, own) for blink, own in zip((first, second), chosen, strict=True))
        rows.append({"what": name, **_difference(one, two, paired=paired, level=level, rng=rng)})
    return pd.DataFrame(rows).assign(
        sites_first=len(chosen[0]), sites_second=len(chosen[1]), unit=["1", first.unit]
    )


def _rows(blink: Blinking, sites: npt.ArrayLike | None) -> npt.NDArray[np.int64]:
    rows = np.arange(len(blink.table)) if sites is None else np.asarray(sites)
    rows = np.flatnonzero(rows) if rows.dtype == bool else rows.astype(np.int64)
    if len(rows) < 3 or len(np.unique(rows)) != len(rows) or rows.min() < 0 or rows.max() >= len(blink.table):
        raise InputError(f"a comparison needs three sites or more, each once, got rows {rows.tolist()}")
    return rows


def _occupancy(blink: Blinking, rows: npt.NDArray[np.int64]) -> _Sample:
    value = blink.occupied[rows]
    return _sample(value, np.ones(value.shape))


def _events(blink: Blinking, rows: npt.NDArray[np.int64]) -> _Sample:
    value = blink.events[rows]
    time = np.where(np.isfinite(value), blink.dt, 0.0)
    return _sample(np.nan_to_num(value), time)


def _sample(amount: Floats, weight: Floats) -> _Sample:
    """Mean over sites of amount per weight, both (S, T), and what its blocks say about common changes."""
    per_site = amount.sum(1) / np.maximum(weight.sum(1), 1e-300)
    edges = np.linspace(0, amount.shape[1], min(BLOCKS, amount.shape[1] // 2) + 1).astype(int)[:-1]
    if len(edges) < 3:
        return _Sample(float(per_site.mean()), per_site, 0.0)
    block = np.add.reduceat(amount, edges, axis=1) / np.maximum(
        np.add.reduceat(weight, edges, axis=1), 1e-300
    )
    sites, blocks = block.shape
    rest = block - block.mean(0) - block.mean(1, keepdims=True) + block.mean()
    single = (rest**2).sum() / ((sites - 1) * (blocks - 1))
    shared = block.mean(0).var(ddof=1) - single / sites
    return _Sample(float(per_site.mean()), per_site, max(float(shared), 0.0) / blocks)


def _difference(
    one: _Sample, two: _Sample, *, paired: bool, level: float, rng: np.random.Generator | int
) -> dict[str, float]:
    value = two.mean - one.mean
    if paired:
        gap = two.sites - one.sites
        parts = [(gap.var(ddof=1) / len(gap), len(gap) - 1)]
        kind = "samples"
    else:
        parts = [(s.sites.var(ddof=1) / len(s.sites), len(s.sites) - 1) for s in (one, two)]
        kind = "independent"
    parts += [(s.common, BLOCKS - 1) for s in (one, two)]
    variance = sum(v for v, _ in parts)
    error = float(np.sqrt(variance))
    freedom = variance**2 / max(sum(v**2 / n for v, n in parts), 1e-300) if variance > 0 else 1.0
    half = float(stats.t.ppf((1 + level) / 2, freedom)) * error
    test = stats.permutation_test(
        (two.sites, one.sites),
        lambda x, y, axis: np.mean(x, axis=axis) - np.mean(y, axis=axis),
        permutation_type=kind,
        n_resamples=DRAWS,
        vectorized=True,
        random_state=np.random.default_rng(rng),
    )
    p = 2 * float(stats.t.sf(abs(value) / error, freedom)) if error > 0 else float(value == 0)
    return {
        "first": one.mean,
        "second": two.mean,
        "difference": value,
        "low": value - half,
        "high": value + half,
        "error": error,
        "p": p,
        "p_sites": float(test.pvalue),
    }
