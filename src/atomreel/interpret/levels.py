"""What stands at a site, from how bright it is in every frame of a movie: likelihoods, not decisions.

Each sublattice has one usual occupant and a few rare ones of known names (a missing atom, another element), whose brightness
is known only roughly beforehand. Their levels and widths are learned from all sites and frames of the movie together (a
mixture fitted by expectation–maximisation), each rare level held near what it is expected to be.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.spatial import cKDTree

from atomreel.core.errors import InputError

Array = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
AROUND = 20  # sites of the same kind whose brightness a site is compared with
ROUNDS = 80
HELD = 30.0  # observations that the expected level of a rare occupant is worth, if it lies CLEAR widths off the usual one
CLEAR = 4.0  # fewer with the square of that distance: what cannot be taken for the usual one may say itself how bright it is
LOOSE = 0.25  # of itself: how far the level of a rare occupant may be from what is expected
STEEPER = 1.35  # its power, too: brightness may rise faster with Z than Z^1.7
OWN = 0.12  # of its level: scatter of an occupant before looking, where that is more than the usual one's
SPOILED = 0.003  # share of observations that scatter far more: a passing atom, a bad fit
FAR = 3.0  # times the width: half width at half maximum of those (Cauchy's distribution)
DARK = 0.15  # of the usual: an occupant expected below this is not seen at all
OVERLOOKED = 0.02  # columns that a finder misses for no visible reason, before looking
TOLD = 2.5  # widths between an occupant and the usual one from which on frames can tell them apart


@dataclass(frozen=True, eq=False)
class Levels:
    """names: occupants, the usual one first. ratio: (K,) their brightness over the usual one's; width: (K,) its 1σ in a typical
    frame; missing: (K,) probability that no column is found; share: (K,) of all observations. log: (S, T, K) natural
    logarithm of the likelihood of what was seen, 0 for all where the site was not in the field."""

    names: tuple[str, ...]
    ratio: Array
    width: Array
    missing: Array
    share: Array
    log: Array


def relative_brightness(intensity: Array, position: Array) -> tuple[Array, Array]:
    """(S, T) brightness of sites of one sublattice over that of the usual ones around them, and (T,) the scatter of each frame
    over that of a typical one.

    intensity: (S, T), NaN where no column was found. position: (S, 2). Brightness may vary from frame to frame and slowly
    over the field. Raises InputError for fewer than three sites.
    """
    if len(intensity) < 3 or intensity.shape[0] != len(position):
        raise InputError(
            f"levels need three sites of a kind with their positions, got {intensity.shape} for {position.shape}"
        )
    found = np.isfinite(intensity)
    frame = np.array(
        [np.median(c[f]) if f.any() else np.nan for c, f in zip(intensity.T, found.T, strict=True)]
    )
    flat = intensity / np.where(frame > 0, frame, np.nan)
    own = np.array([np.median(v[np.isfinite(v)]) if np.isfinite(v).any() else np.nan for v in flat])
    known = np.flatnonzero(np.isfinite(own))
    near = cKDTree(position[known]).query(position, k=min(AROUND, len(known)))[1].reshape(len(position), -1)
    ratio = flat / np.median(own[known][near], axis=1)[:, None]
    spread = np.array([_scatter(c[np.isfinite(c)]) for c in ratio.T])
    typical = float(np.nanmedian(spread))
    if not typical > 0:
        raise InputError("levels: the brightness of the sites never varies; this is no measured movie")
    return ratio, np.where(np.isfinite(spread), np.maximum(spread / typical, 0.5), 1.0)


def fit_levels(
    ratio: Array, seen: npt.NDArray[np.bool_], scatter: Array, *, expected: Mapping[str, float]
) -> Levels:
    """Levels of the occupants of one sublattice, and how likely each observation is for each of them.

    ratio, scatter: from `relative_brightness`. seen: (S, T) whether the site lay in the field; where it did and no column was
    found, that is an observation too. expected: name → brightness over the usual one's, the usual one (1) first; others nearer to it than 2.5
    times its width are left out, since what looks like them is mostly noise.
    Raises InputError unless the first is 1 and all differ.
    """
    names, start = tuple(expected), np.array(list(expected.values()), dtype=float)
    if not len(start) or start[0] != 1 or (start < 0).any() or len(set(start.tolist())) < len(start):
        raise InputError(
            f"levels: expected the usual occupant (1) first and others of other brightness, got {dict(expected)}"
        )
    found = np.isfinite(ratio) & seen
    told = (np.abs(start - 1) > TOLD * _scatter(ratio[found])) | (start == 1)
    names, start = tuple(n for n, t in zip(names, told, strict=True) if t), start[told]
    value, weight_of_frame = ratio[found], np.broadcast_to(scatter, ratio.shape)[found]
    lost = int((seen & ~found).sum())
    gap = np.abs(start - 1) / _scatter(value)
    held = np.where(start == 1, 0.0, HELD / np.maximum(gap / CLEAR, 1) ** 2)
    level, width = start.copy(), np.maximum(_scatter(value), LOOSE * np.where(start == 1, 0, start))
    share = np.where(np.arange(len(start)) == 0, 1.0, 0.01)
    missing = np.where(start < DARK, 0.95, OVERLOOKED)
    for _ in range(ROUNDS):
        log = _densities(value, weight_of_frame, level, width) + np.log(share * (1 - missing))
        part = np.exp(log - np.logaddexp.reduce(log, axis=1)[:, None])
        gone = share * missing
        gone = lost * gone / gone.sum()
        before = level
        level, width = _moved((value, weight_of_frame, part), (level, width), start=start, held=held)
        total = part.sum(0) + gone
        missing = np.clip(
            (gone + np.where(start < DARK, 9.5, 10 * OVERLOOKED)) / (total + 10), 1e-4, 1 - 1e-4
        )
        share = (total + 1e-3 * total.sum() / len(total)) / (1 + 1e-3) / total.sum()
        if np.abs(level - before).max() < 1e-5:
            break
    whole = np.zeros((*ratio.shape, len(start)))
    whole[found] = _densities(value, weight_of_frame, level, width) + np.log(1 - missing)
    whole[seen & ~found] = np.log(missing)
    return Levels(names, level, width, missing, share, whole)


def _scatter(values: Array) -> float:
    return 1.4826 * float(np.median(np.abs(values - np.median(values)))) if len(values) > 2 else np.nan


def _densities(value: Array, scatter: Array, level: Array, width: Array) -> Array:
    """(N, K) log density of each brightness for each occupant; a few observations may be anything."""
    sigma = width * scatter[:, None]
    off = (value[:, None] - level) / sigma
    core = np.exp(-0.5 * off**2) / np.sqrt(2 * np.pi)
    wide = 1 / (np.pi * FAR * (1 + (off / FAR) ** 2))
    return np.asarray(np.log(((1 - SPOILED) * core + SPOILED * wide) / sigma))


def _moved(
    seen: tuple[Array, Array, Array], now: tuple[Array, Array], *, start: Array, held: Array
) -> tuple[Array, Array]:
    """Levels and widths from the parts (N, K) of brightness (N,) that belong to each; a rare one stays near what is expected and is
    as wide as the usual one unless many say otherwise. Parts far out are left to the spoiled."""
    value, scatter, part = seen
    precision = part / scatter[:, None] ** 2
    level = (precision.T @ value + held * start) / np.maximum(precision.sum(0) + held, 1e-9)
    far = start**STEEPER
    low, high = np.minimum((1 - LOOSE) * start, far), np.maximum((1 + LOOSE) * start, far)
    level = np.where(start > 0, np.clip(level, low, high), np.minimum(level, DARK))
    off = (value[:, None] - level) / scatter[:, None]
    inner = part * (np.abs(off) < 4 * now[1])
    usual = float((inner[:, 0] * off[:, 0] ** 2).sum() / max(inner[:, 0].sum(), 1e-9))
    own = np.maximum(usual, (OWN * level) ** 2)
    variance = ((inner * off**2).sum(0) + held * own) / np.maximum(inner.sum(0) + held, 1e-9)
    return level, np.sqrt(np.maximum(variance, 0.1 * usual))
