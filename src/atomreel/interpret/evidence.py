"""What the pixels say about sites where no column was found: dark as vacuum, or a column that was overlooked."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy.ndimage import gaussian_filter, map_coordinates, minimum_filter
from scipy.spatial import cKDTree
from scipy.special import expit, logit
from scipy.stats import norm

Array = npt.NDArray[np.float64]
DARK, DARK_SPREAD = (
    0.2,
    0.25,
)  # brightness of an empty site, full site 1: the tails of its neighbours, and their scatter


def emptiness(image: Array, empty: Array, filled: Array, *, spacing: float, bright: bool = True) -> Array:
    """(M,) log odds that sites `empty` (M, 2) are empty against overlooked, from the image (Y, X) alone.

    filled: (n, 2) sites of the same kind that have a column. Brightness is taken through a Gaussian of a
    quarter of the spacing, above the darkest point within a spacing, relative to the filled sites nearby;
    filled sites give its scatter. bright: columns are brighter than the gaps between them.
    """
    if len(filled) < 6 or len(empty) == 0:
        return np.zeros(len(empty))
    data = np.asarray(image, dtype=np.float64) * (1 if bright else -1)
    data = np.where(np.isfinite(data), data, np.median(data[np.isfinite(data)]))
    smooth = gaussian_filter(data, 0.25 * spacing)
    contrast = smooth - minimum_filter(smooth, max(3, int(2 * spacing) | 1))
    full = map_coordinates(contrast, filled.T, order=1, mode="nearest")
    near = cKDTree(filled).query(empty, k=min(15, len(filled)))[1].reshape(len(empty), -1)
    level = np.median(full[near], axis=1)
    spread = 1.4826 * float(np.median(np.abs(full - np.median(full)))) / max(float(np.median(full)), 1e-30)
    spread = max(spread, 0.05)
    seen = map_coordinates(contrast, empty.T, order=1, mode="nearest") / np.maximum(level, 1e-30)
    dark = norm.logpdf(seen, DARK, np.hypot(spread, DARK_SPREAD))
    # A column that was overlooked is one of the dimmer ones: half as bright at most counts as full evidence.
    there = norm.logpdf(np.minimum(seen, 1.0), 1.0, 1.5 * spread)
    return np.clip(dark - there, -8.0, 8.0)


def shared_odds(look: Array, *, start: float, strength: float = 4.0) -> float:
    """Log odds of empty against overlooked before a single site is looked at, learned from all of them.

    start: the log odds expected beforehand, worth `strength` sites; look: (M,) log odds of each by its pixels.
    """
    expected = share = float(expit(start))
    for _ in range(50):
        probability = expit(look + logit(share))
        new = (float(probability.sum()) + strength * expected) / (len(look) + strength)
        new = min(max(new, 1e-6), 1 - 1e-6)
        if abs(new - share) < 1e-6:
            break
        share = new
    return float(logit(share))
