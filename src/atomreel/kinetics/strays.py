"""Single frames in which a growing area was measured wrong altogether.

A hole of a few sites that one misread site cuts in two is no hole of four sites for that frame, and its whole area is missing. In the
middle of a movie later frames overrule that; in the first frame it is all that is known of the start, and no error of that frame says so.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from atomreel.core.errors import InputError

Floats = npt.NDArray[np.float64]
AROUND = 4  # frames before and after that say what to expect
FAR = 5.0  # errors from that expectation


def find_strays(
    t: npt.ArrayLike, area: npt.ArrayLike, area_err: npt.ArrayLike, *, unit_area: float = 0.0
) -> npt.NDArray[np.bool_]:
    """(T,) which frames lie further than 5σ from what up to four frames before and after say of them.

    t: (T,) increasing. area: (T,), NaN where not measured. area_err: (T,) or one number, 1σ. unit_area: area of one piece that grows.
    Expected is a straight line by generalised least squares; its frames err each on their own and drift from the one in question as a Poisson
    process with the local slope does (variance unit_area·|slope|·Δt). If the errors are larger throughout than they claim, σ is too. The worst is
    taken out first, then its neighbours are judged anew. Raises InputError for other shapes or an error that is not above 0.
    """
    time, value = np.asarray(t, dtype=float), np.asarray(area, dtype=float)
    if time.ndim != 1 or time.shape != value.shape:
        raise InputError(f"strays: one area per time is needed, got {value.shape} for {time.shape}")
    error = np.broadcast_to(np.asarray(area_err, dtype=float), value.shape)
    used = np.flatnonzero(np.isfinite(value))
    if not (error[used] > 0).all():
        raise InputError("strays: area_err must be above 0 wherever there is an area")
    stray = np.zeros(len(value), dtype=bool)
    judged = [time[used], value[used], error[used]]
    off = np.array([_off(judged, k, unit_area) for k in range(len(used))])
    limit = FAR * max(1.0, 1.4826 * float(np.median(off))) if len(off) else FAR
    while len(off) and off.max() > limit:
        worst = int(off.argmax())
        stray[used[worst]] = True
        used, off = np.delete(used, worst), np.delete(off, worst)
        judged = [time[used], value[used], error[used]]
        for k in range(max(worst - AROUND, 0), min(worst + AROUND, len(used))):
            off[k] = _off(judged, k, unit_area)
    return stray


def _off(judged: list[Floats], k: int, unit: float) -> float:
    """How many σ the area of frame k is from what its neighbours say; 0 where they are fewer than three."""
    time, value, error = (part[max(k - AROUND, 0) : k + AROUND + 1] for part in judged)
    own = min(k, AROUND)
    if len(time) < 4:
        return 0.0
    since = np.delete(time - time[own], own)
    others = np.delete(value, own)
    first, second = np.triu_indices(len(since), 1)
    slope = float(np.median((others[second] - others[first]) / (since[second] - since[first])))
    same_side = np.sign(since)[:, None] == np.sign(since)
    drift = np.where(same_side, np.minimum(np.abs(since)[:, None], np.abs(since)), 0.0)
    noise = unit * abs(slope) * drift + np.diag(np.delete(error, own) ** 2)
    line = np.stack([np.ones_like(since), since], axis=1)
    solved = np.linalg.solve(noise, np.column_stack([line, others]))
    covariance = np.linalg.inv(line.T @ solved[:, :2])
    expected = (covariance @ (line.T @ solved[:, 2]))[0]
    return float(abs(value[own] - expected) / np.sqrt(covariance[0, 0] + error[own] ** 2))
