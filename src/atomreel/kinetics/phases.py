"""Share of the field in each symmetry class, with errors that know how far the windows overlap."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from atomreel.core.errors import InputError


def class_fractions(
    probabilities: Mapping[str, npt.ArrayLike],
    *,
    window: float,
    step: float | tuple[float, float],
    deviations: Mapping[str, npt.ArrayLike] | None = None,
    mask: npt.ArrayLike | None = None,
) -> dict[str, float]:
    """One frame's maps → mean_<class>, mean_<class>_err, hard_<class>, hard_<class>_err for each class.

    probabilities: class → (Gy, Gx), windows of `window` px every `step` px. deviations: class → (Gy, Gx) standard
    deviation of each probability (Monte-Carlo dropout). mask: (Gy, Gx), True counts.
    hard: share of windows in which the class is the likeliest. The 1σ errors are those of the specimen's share
    as estimated from this field of view: the scatter of the windows, with the network's own, over the effective
    number of windows (`effective_number`), since windows that overlap show the same atoms. All NaN without windows.
    """
    names = list(probabilities)
    maps = np.stack([np.asarray(probabilities[name], dtype=float) for name in names])
    if maps.ndim != 3:
        raise InputError(f"class fractions need maps of shape (Gy, Gx), got {maps.shape[1:]}")
    used = np.isfinite(maps).all(axis=0)
    if mask is not None:
        used &= np.asarray(mask, dtype=bool)
    if not used.any():
        return {
            f"{kind}_{name}{end}": float("nan")
            for name in names
            for kind in ("mean", "hard")
            for end in ("", "_err")
        }
    number = effective_number(used, window=window, step=step)
    likeliest = maps.argmax(axis=0)[used]
    result = {}
    for k, name in enumerate(names):
        values = maps[k][used]
        spread = values.var() * number / (number - 1) if number > 1.5 else 0.25
        if deviations is not None:
            spread += float(np.mean(np.square(np.asarray(deviations[name], dtype=float)[used])))
        hard = float((likeliest == k).mean())
        # Agresti & Coull's two extra of each keep the error of 0 % and 100 % above zero.
        kept = (hard * number + 2) / (number + 4)
        result[f"mean_{name}"] = float(values.mean())
        result[f"mean_{name}_err"] = float(np.sqrt(spread / number))
        result[f"hard_{name}"] = hard
        result[f"hard_{name}_err"] = float(np.sqrt(kept * (1 - kept) / (number + 4)))
    return result


def effective_number(
    used: npt.NDArray[np.bool_], *, window: float, step: float | tuple[float, float]
) -> float:
    """Independent windows among those `used` (Gy, Gx): n² / Σ of the shares of area that pairs have in common."""
    steps = (step, step) if isinstance(step, int | float) else step
    if window <= 0 or min(steps) <= 0:
        raise InputError(f"window {window} and step {step} must be above 0 px")
    weights = used.astype(float)
    common = weights
    for axis, size in enumerate(used.shape):
        distance = np.abs(np.subtract.outer(np.arange(size), np.arange(size))) * steps[axis]
        overlap = np.maximum(0.0, 1 - distance / window)
        common = np.moveaxis(np.tensordot(overlap, common, axes=(1, axis)), 0, axis)
    return float(weights.sum() ** 2 / max(float((weights * common).sum()), 1.0))
