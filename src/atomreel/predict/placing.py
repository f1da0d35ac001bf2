"""Where a column is, from two who have looked at the same pixels: the joint fit, and the network, which has seen lattices.

How well the network places columns is not known beforehand, but the columns of an image say it: how far both are apart.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from atomreel.interpret.evenness import scatter_over_claim

Array = npt.NDArray[np.float64]
MEDIAN_SQUARE = 0.4549  # of a standard normal variable
BEFORE = 0.4  # px of the network: typical distance of both before looking, worth WORTH columns
WORTH = 10
FURTHER = 1.15  # by which the network errs more than both are apart, as both read the same noise
LEAST = 0.3  # px of the network: it is never taken to err less, since it adds nothing to a fit that has used all the pixels tell
DISAGREED = 0.13  # by which the variance grows with the squared distance of both, over its typical one
DOUBTED = 2.2  # by which it grows with the probability that there is no column
NARROWEST = 0.5  # of the claim: no lattice is believed to be more even


def place(fitted: Array, errors: Array, found: Array, *, score: Array, zoom: float) -> tuple[Array, Array]:
    """(N, 2) positions and their 1σ errors [px of the image] from those of the fit, `fitted` and `errors`, and of the network, `found`.

    score: (N,) probability that the column is real. zoom: px of the network per px of the image. With σ the error of the fit and D FURTHER times
    the typical distance of both in the image, at least LEAST, the fit has the weight 1/(1 + (σ/D)⁴): a clear column stays where the fit puts it. The
    weight falls faster than that of independent errors, as both read the same noise.
    Both err alike for the most part, so the mean is claimed to be no better than the fit; worse where both disagree more
    than elsewhere, or where there may be no column; and no worse than the scatter of columns about the middle of opposite neighbours allows.
    """
    if not len(fitted):
        return fitted.copy(), errors.copy()
    away = found - fitted
    error = np.nan_to_num(errors).mean(1, keepdims=True)
    apart = float(np.median(away**2)) / MEDIAN_SQUARE
    before = (BEFORE / zoom) ** 2
    typical = FURTHER * np.sqrt((len(away) * apart + WORTH * before) / (len(away) + WORTH))
    typical = max(float(typical), LEAST / zoom)
    position = fitted + away * (error**4 / (error**4 + typical**4))
    square = (away**2).mean(1, keepdims=True) / np.maximum(error**2, 1e-12)
    usual = (len(away) * float(np.median(square)) / np.log(2) + WORTH) / (len(away) + WORTH)
    claim = errors * np.sqrt(1 + DOUBTED * (1 - score[:, None]))
    claim = claim * np.sqrt(1 + DISAGREED * square / usual)
    return position, claim * np.clip(scatter_over_claim(position, claim), NARROWEST, 1)
