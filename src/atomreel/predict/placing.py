"""Where a column is, from two who have looked at the same pixels: the joint fit, and the network, which has seen lattices."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from atomreel.interpret.evenness import scatter_over_claim

Array = npt.NDArray[np.float64]
KNOWN = 0.3  # px of the network: a fit that errs more knows less than the network
WORST = 0.8  # px of the network: about what it errs by at the faintest columns that it finds
WORTH = 10  # columns that what is usual is worth before looking
DISAGREED = 0.13  # by which the variance grows with the squared distance of both, over its typical one
DOUBTED = 2.2  # by which it grows with the probability that there is no column
NARROWEST = 0.7  # of the claim: no lattice is believed to be more even


def place(fitted: Array, errors: Array, found: Array, *, score: Array, zoom: float) -> tuple[Array, Array]:
    """(N, 2) positions and their 1σ errors [px of the image] from those of the fit, `fitted` and `errors`, and of the network, `found`.

    score: (N,) probability that the column is real. zoom: px of the network per px of the image. With σ the error of the fit, it has the
    weight 1/(1 + (σ/KNOWN)⁴): both read the same noise, and a fit that has used all that the pixels tell gains nothing from the
    network, so the weight turns faster than that of independent errors. Both err alike for the most part, so the mean is
    claimed to be no better than the fit, nor worse than WORST; worse where both disagree more than elsewhere in the image, or where there may be no
    column; and no worse than the scatter of columns about the middle of opposite neighbours allows.
    """
    if not len(fitted):
        return fitted.copy(), errors.copy()
    away = found - fitted
    error = np.nan_to_num(errors).mean(1, keepdims=True)
    position = fitted + away * (error**4 / (error**4 + (KNOWN / zoom) ** 4))
    square = (away**2).mean(1, keepdims=True) / np.maximum(error**2, 1e-12)
    usual = (len(away) * float(np.median(square)) / np.log(2) + WORTH) / (len(away) + WORTH)
    claim = np.minimum(errors, WORST / zoom) * np.sqrt(1 + DOUBTED * (1 - score[:, None]))
    claim = claim * np.sqrt(1 + DISAGREED * square / usual)
    return position, claim * np.clip(scatter_over_claim(position, claim), NARROWEST, 1)
