"""Rigid drift of a movie, frame by frame, with errors; sub-pixel; one small state between frames.

Each frame is compared with the running average of the frames before it, already aligned, so errors do not
add up from frame to frame. A shift is the maximum of the band-passed cross-correlation, which is refined by
Newton steps on its exact trigonometric interpolation (Guizar-Sicairos et al., Opt. Lett. 33, 156 (2008), do it by
zooming). Its error is a sandwich estimate over blocks of the frame, so scan jitter and distortion count as noise.

On a perfect crystal a drift is known only up to a lattice vector. Among the correlation's peaks the likelihood
of each is weighed with a heavy-tailed prior about the drift so far; what the rejected peaks keep is `ambiguity`,
and the nearest rival's offset is written beside it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import ndimage

from atomreel.core.errors import InputError
from atomreel.core.image import Frames, Movie
from atomreel.prepare.correlate import Shift, compare, flatten, subpixel_shift

_MEMORY = 32  # frames that the reference remembers
_RECENTRE = 0.125  # of the frame: the reference follows the content when it has moved so far
_FOUND = 5.0  # standard deviations of chance that a correlation peak must reach


@dataclass(frozen=True)
class DriftState:
    """What a drift measurement carries from one frame to the next; `arrays()` and `from_arrays` save it.

    reference: (Y, X) running average of flattened frames; weight: (Y, X) frames in it; anchor: (y, x) [px] of the
    reference against frame 0; last, velocity: (y, x) [px, px/frame]; scatter: usual surprise [px];
    origin: (2,) [px²] variance of where frame 0 itself is known to lie; count: frames seen.
    """

    reference: npt.NDArray[np.float32]
    weight: npt.NDArray[np.float32]
    anchor: npt.NDArray[np.float64]
    last: npt.NDArray[np.float64]
    velocity: npt.NDArray[np.float64]
    scatter: float
    origin: npt.NDArray[np.float64]
    count: int

    def arrays(self) -> dict[str, npt.NDArray[Any]]:
        """Plain arrays for `np.savez`."""
        return {name: np.asarray(getattr(self, name)) for name in self.__dataclass_fields__}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, npt.NDArray[Any]]) -> DriftState:
        """The state that `arrays()` came from."""
        missing = [name for name in cls.__dataclass_fields__ if name not in arrays]
        if missing:
            raise InputError(f"drift state: {', '.join(missing)} missing")
        values: dict[str, Any] = {name: np.asarray(arrays[name]) for name in cls.__dataclass_fields__}
        return cls(**{**values, "scatter": float(values["scatter"]), "count": int(values["count"])})


def drift_between(a: npt.ArrayLike, b: npt.ArrayLike, *, max_shift: float | None = None) -> Shift:
    """How far the content of `b` lies from where it is in `a`: (dy, dx) [px], with errors and ambiguity.

    a, b: (Y, X) of one shape. max_shift: search radius [px], by default a quarter of the shorter side.
    """
    first, second = _usable(a), _usable(b)
    if first.shape != second.shape:
        raise InputError(f"drift: shapes {first.shape} and {second.shape} differ")
    return compare(
        flatten(first),
        flatten(second),
        around=(0.0, 0.0),
        radius=_radius(first.shape, max_shift),
        scatter=None,
    )


def advance(
    state: DriftState | None, frame: npt.ArrayLike, *, max_shift: float | None = None
) -> tuple[DriftState, dict[str, float]]:
    """One frame further: (new state, row of the drift table). Start with state None.

    The row has dy, dx [px, since frame 0], dy_err, dx_err, shear, shear_err (x′ = x + s·y against the reference),
    ambiguity (0…1), alias_dy, alias_dx (offset to the rival reading, NaN if there is none) and found (0 or 1).
    """
    data = flatten(_usable(frame))
    if state is None:
        zero = np.zeros(2)
        ones = np.ones(data.shape, dtype=np.float32)
        start = DriftState(data, ones, zero, zero, zero, 0.0, zero, 1)
        return start, {**_row(zero), "dy_err": 0.0, "dx_err": 0.0, "shear_err": 0.0}
    if data.shape != state.reference.shape:
        raise InputError(f"drift: frame of shape {data.shape} in a movie of {state.reference.shape}")
    expected = state.last + state.velocity
    shift = compare(
        _filled(state.reference, state.weight),
        data,
        around=tuple(expected - state.anchor),
        radius=_radius(data.shape, max_shift),
        scatter=state.scatter if state.count > 2 else None,
    )
    if shift.significance < _FOUND:
        lost = replace(state, count=state.count + 1)
        radius = _radius(data.shape, max_shift)
        return lost, {**_row(state.last, found=0.0), "dy_err": radius, "dx_err": radius, "ambiguity": 1.0}
    drift = state.anchor + np.array([shift.dy, shift.dx])
    step, surprise = drift - state.last, float(np.hypot(*(drift - expected)))
    moved = _absorb(state, data, drift)
    rate = 1.0 / min(state.count, 4)
    variance = np.square([shift.dy_err, shift.dx_err])
    # The second frame's error holds the first frame's noise too; later the average has less of it, the origin not.
    origin = variance / 2 if state.count == 1 else state.origin
    errors = np.sqrt(variance + (1 - 1 / state.count) * origin)
    return (
        replace(
            moved,
            last=drift,
            velocity=(1 - rate) * state.velocity + rate * step,
            scatter=(1 - rate) * state.scatter + rate * min(surprise, 3 * state.scatter + 2),
            origin=origin,
            count=state.count + 1,
        ),
        {
            **_row(drift),
            "dy_err": float(errors[0]),
            "dx_err": float(errors[1]),
            **{name: getattr(shift, name) for name in ("shear", "shear_err", "ambiguity")},
            "alias_dy": shift.alias[0],
            "alias_dx": shift.alias[1],
        },
    )


def measure_drift(movie: Movie, *, max_shift: float | None = None) -> pd.DataFrame:
    """Drift of every frame against frame 0 (columns of `advance`, and frame); memory does not grow with frames.

    max_shift: largest move between frames [px], by default a quarter of the shorter side.
    """
    state, rows = None, []
    for number in range(len(movie)):
        state, row = advance(state, np.asarray(movie.frames[number]), max_shift=max_shift)
        rows.append({"frame": number, **row})
    return pd.DataFrame(rows)


def aligned(movie: Movie, drift: pd.DataFrame) -> Movie:
    """`movie` with each frame moved back by its drift (cubic spline), lazily; edges repeat the nearest pixel."""
    table = drift.set_index("frame").reindex(range(len(movie)))
    shifts = table[["dy", "dx"]].to_numpy(float)
    if not np.isfinite(shifts).all():
        raise InputError(
            f"drift table: {int((~np.isfinite(shifts)).any(1).sum())} of {len(movie)} frames have no drift"
        )
    return replace(movie, frames=_Shifted(movie.frames, shifts))


@dataclass(frozen=True)
class _Shifted:
    frames: Frames
    shifts: npt.NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.frames)

    def __getitem__(self, i: int, /) -> npt.NDArray[np.float32]:
        frame = _usable(self.frames[i])
        return np.asarray(ndimage.shift(frame, -self.shifts[i], order=3, mode="nearest"), dtype=np.float32)


def _row(drift: npt.NDArray[np.float64], *, found: float = 1.0) -> dict[str, float]:
    nan = float("nan")
    return {
        "dy": float(drift[0]),
        "dx": float(drift[1]),
        "dy_err": nan,
        "dx_err": nan,
        "shear": 0.0,
        "shear_err": nan,
        "ambiguity": 0.0,
        "alias_dy": nan,
        "alias_dx": nan,
        "found": found,
    }


def _usable(frame: npt.ArrayLike) -> npt.NDArray[np.float32]:
    data = np.array(frame, dtype=np.float32)
    if data.ndim != 2 or min(data.shape) < 16:
        raise InputError(f"drift needs images of at least 16 × 16 pixels, got shape {data.shape}")
    finite = np.isfinite(data)
    if not finite.all():
        data[~finite] = data[finite].mean() if finite.any() else 0.0
    return data


def _radius(shape: tuple[int, ...], max_shift: float | None) -> float:
    largest = min(shape) / 4
    if max_shift is None:
        return largest
    if not 0 < max_shift <= min(shape) / 2:
        raise InputError(
            f"max_shift {max_shift} px: expected more than 0 and at most half the frame, {min(shape) / 2}"
        )
    return max(float(max_shift), 1.0)


def _filled(reference: npt.NDArray[np.float32], weight: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    known = weight > 0
    return np.where(known, reference, reference[known].mean()).astype(np.float32)


def _absorb(state: DriftState, frame: npt.NDArray[np.float32], drift: npt.NDArray[np.float64]) -> DriftState:
    """The reference with one more aligned frame in it; it is re-centred by whole pixels when content runs away."""
    reference, weight, anchor = state.reference, state.weight, state.anchor
    if np.abs(drift - anchor).max() > _RECENTRE * min(frame.shape):
        jump = np.round(drift - anchor)
        dy, dx = (int(value) for value in jump)
        reference, weight = _rolled(reference, dy, dx), _rolled(weight, dy, dx)
        anchor = anchor + jump
    back = anchor - drift
    whole = np.round(back).astype(int)
    moved = _rolled(subpixel_shift(frame, back - whole), int(whole[0]), int(whole[1]))
    seen = _rolled(np.ones(frame.shape, dtype=np.float32), int(whole[0]), int(whole[1]))
    heavier = np.minimum(weight + seen, _MEMORY)
    share = np.divide(seen, heavier, out=np.zeros_like(seen), where=heavier > 0)
    return replace(
        state,
        reference=(reference + share * (moved - reference)).astype(np.float32),
        weight=heavier,
        anchor=anchor,
    )


def _rolled(array: npt.NDArray[np.float32], dy: int, dx: int) -> npt.NDArray[np.float32]:
    """Shift by whole pixels; what comes in from outside is 0."""
    out = np.zeros_like(array)
    height, width = array.shape
    target = (slice(max(dy, 0), height + min(dy, 0)), slice(max(dx, 0), width + min(dx, 0)))
    source = (slice(max(-dy, 0), height + min(-dy, 0)), slice(max(-dx, 0), width + min(-dx, 0)))
    out[target] = array[source]
    return out
