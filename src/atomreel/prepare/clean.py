"""Frames made fit for analysis: dead numbers filled, stuck pixels mended, burnt-in bars and regions found.

Nothing here smooths or rescales: a pixel that is not broken keeps its value.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from atomreel.core.errors import InputError, RecipeError
from atomreel.core.image import FloatArray

_STRIP = 1024  # rows handled at once, so that a 20,000 × 20,000 frame needs no nine copies of itself
_SAMPLE = 1 << 18  # pixels from which noise and levels are estimated
_FILL_REACH = 32  # px: how far neighbours are carried into a patch of missing pixels
_HOT_SIGMA = 10.0  # a stuck pixel stands this many noise widths off all eight neighbours
_HOT_SHARE = 1e-3  # more "stuck" pixels than this are the picture itself
_ISOLATION = 0.25  # a column that the optics can make lights its neighbours at least this much
_SATURATED_SHARE = 1e-3


def clean_frame(
    array: npt.ArrayLike, *, stuck: bool = True, name: str = "frame"
) -> tuple[FloatArray, tuple[str, ...]]:
    """A real (Y, X) array → (float32 frame without NaN, Inf and stuck pixels, notices in words).

    Missing pixels take the mean of their nearest neighbours, so filled values stay inside the range of the
    measured ones; patches deeper than 32 px take the median. With `stuck`, single pixels far above or below
    all eight neighbours (more than ten noise widths, and alone: anything an optic can image spreads to its
    neighbours) take the neighbours' median. A constant or saturated frame is only reported.

    Raises InputError for complex, object or text arrays, other than two dimensions, fewer than 2 × 2 pixels,
    and frames without one finite pixel.
    """
    raw = np.asarray(array)
    if raw.dtype.kind not in "buif":
        raise InputError(f"{name}: real numbers are needed, got dtype {raw.dtype}")
    if raw.ndim != 2 or min(raw.shape) < 2:
        raise InputError(f"{name}: an image of at least 2 × 2 pixels is needed, got shape {raw.shape}")
    with np.errstate(over="ignore"):  # beyond float32 becomes Inf, and Inf is filled below
        frame = np.array(raw, dtype=np.float32)
    notices = []
    missing = ~np.isfinite(frame)
    if missing.all():
        raise InputError(f"{name}: not one finite pixel (all NaN or Inf); leave this frame out")
    if missing.any():
        frame = fill_missing(frame, missing)
        notices.append(f"{int(missing.sum())} pixels were NaN or Inf and were filled from their neighbours")
    low, high = float(frame.min()), float(frame.max())
    if low == high:
        return frame, (*notices, f"the frame is constant (every pixel is {low:g})")
    share = saturated_share(frame)
    if share > _SATURATED_SHARE:
        notices.append(f"{share:.1%} of the pixels are saturated at {high:g}")
    if stuck:
        found = stuck_pixels(frame)
        if found.any():
            frame = mend(frame, found)
            notices.append(f"{int(found.sum())} stuck pixels took their neighbours' median")
    return frame, tuple(notices)


def fill_missing(frame: FloatArray, missing: npt.NDArray[np.bool_]) -> FloatArray:
    """`frame` with the `missing` pixels grown inwards from the finite ones, ring by ring."""
    filled = np.where(missing, 0, frame).astype(np.float32)
    todo = missing.copy()
    for _ in range(_FILL_REACH):
        if not todo.any():
            return filled
        ring = todo & ndimage.binary_dilation(~todo, np.ones((3, 3)))
        y, x = np.nonzero(ring)
        values, weights = _around(filled, y, x), _around((~todo).astype(np.float32), y, x)
        filled[y, x] = (values * weights).sum(0) / weights.sum(0)
        todo[y, x] = False
    filled[todo] = np.median(frame[~missing])
    return filled


def stuck_pixels(frame: FloatArray) -> npt.NDArray[np.bool_]:
    """(Y, X) mask of single pixels that no image of a column can explain; empty when they would be too many."""
    threshold = _HOT_SIGMA * _pixel_noise(frame)
    found = np.zeros(frame.shape, dtype=bool)
    for top in range(0, frame.shape[0], _STRIP):
        stop = min(top + _STRIP, frame.shape[0])
        lo, hi = max(top - 1, 0), min(stop + 1, frame.shape[0])
        found[top:stop] = _isolated(frame[lo:hi], threshold)[top - lo : top - lo + stop - top]
    if found.sum() > max(4, _HOT_SHARE * frame.size):
        found[:] = False
    return found


def mend(frame: FloatArray, mask: npt.NDArray[np.bool_]) -> FloatArray:
    """`frame` with the pixels of `mask` replaced by the median of their eight neighbours."""
    y, x = np.nonzero(mask)
    mended = frame.copy()
    mended[y, x] = np.median(_around(frame, y, x), axis=0)
    return mended


def saturated_share(frame: FloatArray) -> float:
    """Share of pixels clipped at the maximum: 0 unless they pile up there against the levels just below."""
    sample = _sample(frame)
    low, high = float(frame.min()), float(frame.max())
    if np.unique(sample).size < 16:  # counting frames with a few electrons per pixel are not saturated
        return 0.0
    at_top = float(np.mean(frame == high))
    below = float(np.mean((sample < high) & (sample >= high - (high - low) / 32)))
    return at_top if at_top > 3 * below else 0.0


def find_data_bar(image: npt.ArrayLike) -> slice | None:
    """Rows to keep when a data bar (scale, text) is burnt in at the bottom or top; None when there is none.

    A bar is a band of 2–25 % of the height over the full width that is flat in one grey value, carries
    text that is flat too and stands out, and ends in a straight edge. Vacuum, padding and saturated
    regions carry no text and are kept.
    """
    data = np.asarray(image, dtype=np.float32)
    if data.ndim != 2 or min(data.shape) < 32:
        return None
    height = data.shape[0]
    bottom = _bar_height(data[::-1])
    if bottom:
        return slice(0, height - bottom)
    top = _bar_height(data)
    return slice(top, height) if top else None


def parse_roi(text: str, *, shape: tuple[int, int] | None = None) -> tuple[slice, slice]:
    """ "y0:y1,x0:x1" [px] → (rows, columns). Open ends are allowed ("100:,:512"). RecipeError says what is wrong."""
    parts = text.replace(" ", "").split(",")
    if len(parts) != 2:
        raise RecipeError(f"region {text!r}: expected y0:y1,x0:x1 in pixels, for example 0:256,100:400")
    rows, columns = (_parse_slice(part, f"region {text!r}", steps=False) for part in parts)
    for axis, cut, size in zip("yx", (rows, columns), shape or (None, None), strict=True):
        if (cut.start or 0) < 0 or (cut.stop is not None and cut.stop - (cut.start or 0) < 2):
            raise RecipeError(
                f"region {text!r}: {axis} must run upwards over at least 2 pixels from 0 or more"
            )
        if size is not None and ((cut.stop or 0) > size or size - (cut.start or 0) < 2):
            raise RecipeError(f"region {text!r}: {axis} leaves the image, which has {size} pixels there")
    return rows, columns


def parse_frames(text: str, *, count: int | None = None) -> slice:
    """ "0:100:2" → slice of frames; "7" is that frame alone; "-10:" the last ten. RecipeError says what is wrong."""
    cut = _parse_slice(text.replace(" ", ""), f"frames {text!r}", steps=True)
    if cut.step is not None and cut.step < 1:
        raise RecipeError(f"frames {text!r}: the step must be 1 or more, since time runs forwards")
    if count is not None and not range(*cut.indices(count)):
        raise RecipeError(f"frames {text!r} chooses none of the {count} frames (0 to {count - 1})")
    return cut


def read_mask(path: str | Path, *, shape: tuple[int, int] | None = None) -> npt.NDArray[np.bool_]:
    """A mask file (.npy, .tif, .png …) → boolean (Y, X): True (non-zero) is analysed, False is left out."""
    file = Path(path)
    try:
        data = _read_array(file)
    except (OSError, ValueError, SyntaxError) as error:
        raise InputError(f"mask {file}: cannot be read ({error})") from error
    if data.ndim == 3 and data.shape[-1] in (3, 4):
        data = data[..., :3].max(axis=-1)
    if data.ndim != 2 or data.dtype.kind not in "buif":
        raise InputError(f"mask {file}: one grey or boolean image is needed, got {data.dtype} {data.shape}")
    if shape is not None and data.shape != tuple(shape):
        raise InputError(f"mask {file} has shape {data.shape}, the image {tuple(shape)}")
    mask = np.asarray(data != 0)
    if not mask.any():
        raise InputError(f"mask {file} leaves nothing to analyse: every pixel is 0")
    return mask


def _read_array(file: Path) -> npt.NDArray[Any]:
    if file.suffix.lower() == ".npy":
        return np.asarray(np.load(file, allow_pickle=False))
    if file.suffix.lower() in (".tif", ".tiff"):
        import tifffile

        return np.asarray(tifffile.imread(file))
    import imageio.v3

    return np.asarray(imageio.v3.imread(file))


def _parse_slice(part: str, what: str, *, steps: bool) -> slice:
    numbers = part.split(":")
    try:
        values = [int(number) if number else None for number in numbers]
    except ValueError:
        values = []
    if steps and len(values) == 1 and values[0] is not None:
        start = values[0]
        return slice(start, start + 1 if start != -1 else None)
    if len(values) not in ((2, 3) if steps else (2,)):
        form = "start:stop or start:stop:step" if steps else "y0:y1,x0:x1"
        raise RecipeError(f"{what}: {part!r} is not {form} in whole numbers")
    return slice(*values)


def _around(frame: FloatArray, y: npt.NDArray[np.int_], x: npt.NDArray[np.int_]) -> FloatArray:
    """(8, N) values of the eight neighbours, mirrored at the border."""
    height, width = frame.shape
    offsets = [(dy, dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1) if (dy, dx) != (0, 0)]
    rows = [height - 1 - np.abs(height - 1 - np.abs(y + dy)) for dy, _ in offsets]
    columns = [width - 1 - np.abs(width - 1 - np.abs(x + dx)) for _, dx in offsets]
    return np.stack([frame[r, c] for r, c in zip(rows, columns, strict=True)])


def _isolated(frame: FloatArray, threshold: float) -> npt.NDArray[np.bool_]:
    """Pixels beyond all neighbours by `threshold`, with the neighbours themselves level against that."""
    padded = np.pad(frame, 1, mode="reflect")
    height, width = frame.shape
    views = [
        padded[1 + dy : 1 + dy + height, 1 + dx : 1 + dx + width]
        for dy in (-1, 0, 1)
        for dx in (-1, 0, 1)
        if (dy, dx) != (0, 0)
    ]
    high, low = views[0].copy(), views[0].copy()
    for view in views[1:]:
        np.maximum(high, view, out=high)
        np.minimum(low, view, out=low)
    spread = high - low
    above, below = frame - high, low - frame
    return ((above > threshold) & (spread < _ISOLATION * above)) | (
        (below > threshold) & (spread < _ISOLATION * below)
    )


def _pixel_noise(frame: FloatArray) -> float:
    """Width of pixel-to-pixel differences: robust, and never below the step between two grey values."""
    rows = _sample_rows(frame)
    residual = (
        (rows[:, 1:-1] - (rows[:, :-2] + rows[:, 2:]) / 2).ravel() if rows.shape[1] > 2 else rows.ravel()
    )
    width = np.abs(residual - np.median(residual))
    levels = np.unique(rows)
    steps = np.diff(levels)
    steps = steps[steps > 1e-6 * max(float(levels[-1] - levels[0]), 1e-30)]
    quantum = float(steps.min()) if steps.size else 0.0
    return max(1.4826 * float(np.median(width)), float(np.quantile(width, 0.99)) / 3, quantum)


def _sample_rows(frame: FloatArray) -> FloatArray:
    return frame[:: max(1, frame.size // _SAMPLE)]


def _sample(frame: FloatArray) -> FloatArray:
    return frame.ravel()[:: max(1, frame.size // _SAMPLE)]


def _bar_height(data: FloatArray) -> int:
    """Height of a bar at the start of `data` (row 0 is the edge of the picture), or 0."""
    height = data.shape[0]
    span = float(data.max() - data.min())
    if span <= 0:
        return 0
    limit = int(0.25 * height) + 2
    background = float(np.median(data[: max(4, height // 100)]))
    near = np.abs(data[:limit] - background) <= 0.04 * span
    share = near.mean(axis=1)
    own = np.abs(data[:limit] - np.median(data[:limit], axis=1, keepdims=True)) <= 0.04 * span
    frame_line = own.mean(axis=1) > 0.97  # a ruled line around the bar
    inside = (share >= 0.35) | frame_line
    rows = int(np.argmin(inside)) if not inside.all() else limit
    if not max(8, 0.02 * height) <= rows <= 0.25 * height:
        return 0
    band, flat = data[:rows], near[:rows]
    text = np.abs(band - background) > 0.3 * span
    if flat.mean() < 0.55 or not 0.005 <= text.mean() <= 0.45 or (share[:rows] > 0.97).sum() < 2:
        return 0
    # Text is one grey value (with soft edges); what an instrument records behind a flat region is not.
    if np.abs(band[text] - np.median(band[text])).mean() > 0.15 * span:
        return 0
    beyond = np.abs(data[rows : rows + max(8, rows // 2)] - background) <= 0.04 * span
    return rows if beyond.mean() < 0.3 else 0
