"""Coloured marks drawn over a grey picture, such as another program's tracks: found by their colour and filled in."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from atomreel.core.errors import InputError

COLOURED = (
    12  # grey levels of 255 by which the three channels of a pixel differ; palettes and JPEG cost a few
)
REACHES = (
    0.8,
    1.6,
    3.2,
    6.4,
    12.8,
    25.6,
)  # px: σ of the neighbourhoods that fill, the nearest that holds something first


def remove_overlay(
    picture: npt.ArrayLike, *, coloured: float = COLOURED, grow: int = 1
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.bool_]]:
    """(grey (Y, X), filled (Y, X) bool) of a picture (Y, X, 3 or 4) in red, green, blue, 0…255.

    coloured: least difference of a pixel's channels that counts as a mark. grow: px by which marks are widened, since their
    edges are blended with grey. Filled pixels take the Gaussian mean of what is seen nearest to them: what lay
    wholly under a mark is not known. A picture without grey cannot be told from its marks: raises InputError where more than half is coloured.
    """
    data = np.asarray(picture)
    if data.ndim != 3 or data.shape[2] not in (3, 4) or not data.size:
        raise InputError(f"a coloured picture has shape (Y, X, 3 or 4), got {data.shape}")
    if grow < 0 or coloured < 0:
        raise InputError(f"grow {grow} and coloured {coloured} must not be negative")
    channels = data[..., :3].astype(np.float32)
    if not np.isfinite(channels).all():
        raise InputError("a coloured picture must be finite")
    marks = np.ptp(channels, axis=2) > coloured
    if marks.mean() > 0.5:
        raise InputError(
            f"{100 * marks.mean():.0f} % of the picture is coloured: not a grey picture with marks"
        )
    if grow and marks.any():
        marks = ndimage.binary_dilation(marks, ndimage.generate_binary_structure(2, 2), iterations=grow)
    grey = channels.mean(axis=2)
    return _filled(grey, marks), marks


def _filled(grey: npt.NDArray[np.float32], marks: npt.NDArray[np.bool_]) -> npt.NDArray[np.float32]:
    out, left = grey.copy(), marks.copy()
    seen = (~marks).astype(np.float32)
    for reach in REACHES:
        if not left.any():
            break
        weight = ndimage.gaussian_filter(seen, reach)
        now = left & (weight > 0.05)
        out[now] = ndimage.gaussian_filter(seen * grey, reach)[now] / weight[now]
        left &= ~now
    out[left] = np.median(grey[~marks])
    return out
