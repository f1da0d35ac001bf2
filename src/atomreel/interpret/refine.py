"""Sub-pixel positions: one maximum-likelihood fit of all overlapping columns of an image, with errors.

The model is a smooth background plus Σ A_i g(p − r_i) with one peak shape learned from the image. Its noise
model is variance = gain·m + constant, measured on the image, so that no calibration is needed. Errors come
from the Fisher information with neighbours and background free, widened by the correlation of the residuals
and by scan-line jitter, both measured.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import ndimage
from scipy.spatial import cKDTree

from atomreel.core.errors import InputError
from atomreel.interpret import normal, peaks
from atomreel.interpret.background import count_knots
from atomreel.interpret.chunks import one_blas_thread, side_by_side
from atomreel.interpret.equations import (
    PRIOR,
    Equations,
    Problem,
    State,
    View,
    by_height,
    draw_whole,
    line_means,
    look,
    unpadded,
)
from atomreel.interpret.errors import marginal_covariance, misfit, widened
from atomreel.interpret.fit import (
    KNOT_STEP,
    MOVE_LIMIT,
    guess_width,
    learn_all,
    sample_part,
    settle,
    start_from,
)
from atomreel.interpret.jitter import measure_jitter
from atomreel.interpret.noise import CROP, Noise, around, correlation_factors, quiet
from atomreel.interpret.peaks import Floats, Shape, replace_covariance

ENOUGH = 8000  # pixels for the level and the spread of an image
FEWEST = 16  # finite pixels of an image that can be fitted
LEAST_WIDTH = 1.8  # σ [px] to which images are binned: coarser pixels would cost precision
COLUMNS = ("y", "x", "y_err", "x_err", "intensity", "intensity_err", "chi2")


@dataclass(frozen=True)
class Refined:
    """table: one row per given position, in order: y, x, y_err, x_err [px], intensity, intensity_err
    [image units above (below, for dark columns) the background], chi2 (mean squared residual under the
    column over its expectation), kept (False: the fit ran away, the start was kept).

    model: (Y, X) fitted image. gain, zero: variance = gain·m + zero. width: (σ_y, σ_x) of the peak [px].
    jitter_px: sd of the scan lines' displacement (y, x), 0 when not detectable.
    correlation: variance factors of (height, y, x) due to correlated noise and misfit.
    """

    table: pd.DataFrame
    model: npt.NDArray[np.float32]
    gain: float
    zero: float
    width: tuple[float, float]
    shape: Shape
    jitter_px: tuple[float, float]
    correlation: tuple[float, float, float]
    warnings: tuple[str, ...]


def refine_columns(
    image: npt.ArrayLike,
    positions: npt.ArrayLike,
    *,
    width: float | None = None,
    bright: bool = True,
    shape: Shape | None = None,
    jitter: bool = True,
) -> Refined:
    """Fit all columns of an image together, starting from `positions`.

    image: (Y, X); pixels that are not finite do not count. positions: (N, 2) y, x [px].
    width: first guess of the peak's σ [px]; by default measured. bright: False for dark columns.
    shape: hold this peak shape (from another frame) instead of learning it. jitter: look for scan jitter.

    A column may move half the distance to its nearest neighbour (less beside a close one); one that would move further keeps its
    start and gets that distance as its error. Fisher information: Kay, Fundamentals of Statistical Signal
    Processing I (1993), ch. 3; joint fits of columns: De Backer et al., Ultramicroscopy 171 (2016) 104.
    Raises InputError on anything but a 2-D image and (N, 2) finite positions.
    """
    data, start = checked(image, positions)
    if not len(start):
        return _nothing(data)
    with one_blas_thread():
        return _refined(data, start, width=width, bright=bright, shape=shape, jitter=jitter)


def _refined(
    data: Floats, start: Floats, *, width: float | None, bright: bool, shape: Shape | None, jitter: bool
) -> Refined:
    """refine_columns on a checked image with columns."""
    whole, level, scale = _problem(data, start, bright)
    guess = width or guess_width(whole)
    bin_size = max(1, min(int((shape.width if shape else guess) / LEAST_WIDTH), min(data.shape) // 4))
    problem = _binned(whole, bin_size)
    held = _binned_shape(shape, bin_size)
    state, view, matrix = _fitted(problem, guess / bin_size, held)
    state, lost = _bring_back(problem, state)
    if lost.any():
        view = look(problem, state, weight=view.weight)
    covariance, chi2, factors, sd = _errors(problem, state, (view, matrix), jitter=jitter)
    covariance[lost, 1, 1] += (MOVE_LIMIT * problem.near[lost]) ** 2
    covariance[lost, 2, 2] += (MOVE_LIMIT * problem.near[lost]) ** 2
    covariance *= np.outer([1, bin_size, bin_size], [1, bin_size, bin_size])
    noise = _in_image_units(state.noise, level, scale, bin_size)
    state, fitted = _unbinned(whole, state, view, size=bin_size)
    sigma = np.sqrt(np.maximum(covariance[:, [0, 1, 2], [0, 1, 2]], 0))
    table = _table(state, sigma, abs(scale), chi2).assign(kept=~lost)
    wide = np.sqrt(state.shape.covariance.diagonal())
    return Refined(
        table=table,
        model=(fitted * scale + level).astype(np.float32),
        gain=noise[0],
        zero=noise[1],
        width=(float(wide[0]), float(wide[1])),
        shape=state.shape,
        jitter_px=(sd[0] * bin_size**1.5, sd[1] * bin_size**1.5),
        correlation=(float(factors[0]), float(factors[1]), float(factors[2])),
        warnings=_warnings(lost, chi2, factors),
    )


def _fitted(problem: Problem, width: float, shape: Shape | None) -> tuple[State, View, Equations]:
    """The joint fit with the shape given, or learned from all columns or a part of them."""
    if shape is not None:
        state, moved, view = start_from(problem, shape)
        return settle(problem, state, moved, view=view)
    part = sample_part(problem)
    learned, moved = learn_all(part, width)
    if part is problem:
        return settle(problem, learned, moved)
    state, moved, view = start_from(problem, learned.shape, noise=learned.noise, striped=learned.striped)
    return settle(problem, state, moved, view=view)


def _table(state: State, sigma: Floats, scale: float, chi2: Floats) -> pd.DataFrame:
    """One row per column; heights back in units of the image."""
    rows = [state.positions, sigma[:, 1:], state.heights * scale, sigma[:, 0] * scale, chi2]
    return pd.DataFrame(np.column_stack(rows), columns=list(COLUMNS))


def checked(image: npt.ArrayLike, positions: npt.ArrayLike) -> tuple[Floats, Floats]:
    data = np.asarray(image)
    if data.ndim != 2 or min(data.shape) < 4 or data.dtype.kind not in "fiub":
        raise InputError(
            f"refine_columns needs a real (Y, X) image of at least 4×4, got {data.dtype} {data.shape}"
        )
    start = np.asarray(positions, float)
    if start.size == 0:
        start = start.reshape(0, 2)
    if start.ndim != 2 or start.shape[1] != 2 or not np.isfinite(start).all():
        raise InputError(f"positions must be finite (N, 2) y, x, got shape {start.shape}")
    beyond = np.maximum(-start, start - np.array(data.shape)).max(initial=0.0)
    if beyond > max(data.shape):
        raise InputError(
            f"positions must lie in the image of {data.shape} px or near it, got one {beyond:.4g} px outside"
        )
    # in C order, as the compiled loops are made for
    return data.astype(np.float32, order="C"), np.ascontiguousarray(start)


def _nothing(data: Floats) -> Refined:
    table = pd.DataFrame({name: np.zeros(0) for name in COLUMNS}).assign(kept=np.zeros(0, bool))
    level = np.float32(np.nanmedian(np.where(np.isfinite(data), data, np.nan)))
    return Refined(
        table, np.full(data.shape, level), 0.0, float(np.nanvar(data)), (np.nan, np.nan), peaks.round_shape(1.0),
        (0.0, 0.0), (1.0, 1.0, 1.0), ("no columns to refine",),
    )  # fmt: skip


def _problem(data: Floats, start: Floats, bright: bool) -> tuple[Problem, float, float]:
    """The image on a scale of order one with peaks upright: data = (image − level) / scale."""
    seen = np.isfinite(data)
    values = data.ravel() if seen.all() else data[seen]
    if len(values) < FEWEST:
        raise InputError(f"the image has {len(values)} finite pixels; a fit needs {FEWEST} at least")
    few = values[:: max(1, len(values) // ENOUGH)]  # a scale, no measurement
    level = float(np.median(few))
    spread = float(few.std(dtype=float)) or 1.0
    scale = spread if bright else -spread
    distance = cKDTree(start).query(start, k=2)[0][:, 1] if len(start) > 1 else np.array([np.inf])
    longest = min(data.shape) / 4
    spacing = float(np.clip(np.median(distance), 2.0, longest))
    near = np.clip(3 * distance, 0.6 * spacing, spacing)
    upright = (data - np.float32(level)) * np.float32(1 / scale)
    if len(values) < data.size:
        upright[~seen] = 0
    return (
        Problem(
            data=upright,
            seen=seen,
            start=start.astype(float),
            near=near,
            spacing=spacing,
            knots=count_knots(data.shape, KNOT_STEP * spacing),
            tall=_typical_height(upright, seen, start),
        ),
        level,
        scale,
    )


def _typical_height(upright: Floats, seen: npt.NDArray[np.bool_], start: Floats) -> float:
    """Median of the image at the columns above its low end; at least its standard deviation, which is 1."""
    pixel = np.clip(np.rint(start).astype(int), 0, np.array(upright.shape) - 1)
    at_columns = upright[pixel[:, 0], pixel[:, 1]]
    few = upright[seen] if not seen.all() else upright.ravel()
    low = np.quantile(few[:: max(1, upright.size // ENOUGH)], 0.05)
    return max(1.0, float(np.median(at_columns) - low))


def _binned(problem: Problem, size: int) -> Problem:
    """The same problem on pixels `size` times as wide: means, so that heights keep their unit."""
    if size == 1:
        return problem
    shape = [-(-n // size) * size for n in problem.data.shape]
    margin = [(0, whole - n) for whole, n in zip(shape, problem.data.shape, strict=True)]
    blocks = (shape[0] // size, size, shape[1] // size, size)
    seen = np.asarray(np.pad(problem.seen, margin).reshape(blocks).all((1, 3)))
    data = np.pad(problem.data, margin).reshape(blocks).mean((1, 3))
    return replace(
        problem,
        data=np.where(seen, data, 0).astype(np.float32),
        seen=seen,
        start=(problem.start - (size - 1) / 2) / size,
        near=problem.near / size,
        spacing=problem.spacing / size,
    )


def _binned_shape(shape: Shape | None, size: int) -> Shape | None:
    """The shape on pixels `size` times as wide, broadened by them."""
    if shape is None or size == 1:
        return shape
    return replace_covariance(shape, (shape.covariance + np.eye(2) * (size**2 - 1) / 12) / size**2)


def _full_shape(shape: Shape, size: int) -> Shape:
    if size == 1:
        return shape
    return replace_covariance(shape, shape.covariance * size**2 - np.eye(2) * (size**2 - 1) / 12)


def _unbinned(
    whole: Problem, state: State, view: View, *, size: int
) -> tuple[State, npt.NDArray[np.float32]]:
    """The state and its model on the pixels of the image as given."""
    r = view.windows.radius
    if size == 1:
        return state, unpadded(view.model, r) + view.rows[r:-r, None]
    positions = state.positions * size + (size - 1) / 2
    full = replace(state, positions=positions, shape=_full_shape(state.shape, size))
    rows = np.repeat(view.rows[r:-r], size)[: whole.data.shape[0]]
    return full, draw_whole(whole, full) + rows[:, None]


def _in_image_units(noise: Noise, level: float, scale: float, bin_size: int) -> tuple[float, float]:
    pixels = bin_size**2  # whose mean the noise was measured on
    return noise.gain * scale * pixels, (noise.zero * scale**2 - noise.gain * scale * level) * pixels


def _bring_back(problem: Problem, state: State) -> tuple[State, npt.NDArray[np.bool_]]:
    """Columns at the end of their leash return to the start."""
    away = np.hypot(*(state.positions - problem.start).T)
    lost = away > 0.995 * MOVE_LIMIT * problem.near
    positions = np.where(lost[:, None], problem.start, state.positions)
    return replace(state, positions=positions), lost


def _errors(
    problem: Problem, state: State, at: tuple[View, Equations], *, jitter: bool
) -> tuple[Floats, Floats, Floats, tuple[float, float]]:
    """Covariance (N, 3, 3) of height, y, x; chi2 (N,); correlation factors (3,); jitter sd (y, x)."""
    view, _ = at

    def apart() -> tuple[Floats, Floats, tuple[float, float]]:
        added = _jitter(state, view) if jitter else (np.zeros((len(state.heights), 2)), (0.0, 0.0))
        return _marginal(problem, state, at), *added

    (covariance, added, sd), (factors, chi2, larger) = side_by_side(apart, lambda: _correlation(state, at))
    factors = np.maximum(factors, 1)  # below one it is mostly the scatter of its own measurement
    covariance = widened(covariance, (PRIOR * problem.near) ** -2.0, factors) * larger[:, None, None]
    covariance[:, [1, 2], [1, 2]] += added
    return covariance, chi2, factors, sd


def _marginal(problem: Problem, state: State, at: tuple[View, Equations]) -> Floats:
    """(N, 3, 3) covariance for white noise, neighbours and a local constant being free."""
    view, matrix = at
    w, pairs = view.windows, matrix.overlap.pairs
    own, blocks = matrix.normal.own, matrix.normal.blocks
    distance = np.hypot(*(state.positions[pairs[:, 0]] - state.positions[pairs[:, 1]]).T)
    box = 2 * int(peaks.PAIR_REACH * state.shape.width) + 2 * w.radius + 1
    wide = ndimage.uniform_filter(view.weight, box, mode="constant") * float(box) ** 2
    area = wide[w.corner[:, 0] + w.radius, w.corner[:, 1] + w.radius].astype(float)
    flat = matrix.overlap.flat * matrix.factor
    return marginal_covariance(own, pairs, blocks, flat=flat, area=area, distance=distance)


def _correlation(state: State, at: tuple[View, Equations]) -> tuple[Floats, Floats, Floats]:
    """(3,) variance factors of correlated noise; (N,) chi2 and misfit of each column."""
    view, matrix = at
    w = view.windows
    side = 2 * w.radius + 1
    scaled = np.sqrt(view.weight) * view.residual
    calm = quiet(scaled, state.shape.width, reach=round(2 * state.shape.width))
    centre = np.median(state.positions, axis=0) + w.radius
    one = peaks.windows(np.full((1, 2), float(w.radius)), state.shape, size=(side, side))
    padded = (side + 2 * w.radius, side + 2 * w.radius)
    profiles = [unpadded(peaks.draw(one, basis[None], size=padded), w.radius) for basis in np.eye(3)]
    factors = correlation_factors(
        scaled * calm,
        _white_reference(state, (view, matrix), centre) * calm,
        np.array(profiles),
        centre=centre,
    )
    return factors, *misfit(scaled, view.weight, view.windows)


def _white_reference(state: State, at: tuple[View, Equations], centre: Floats) -> npt.NDArray[np.float32]:
    """White noise of unit variance about `centre` after the fit took from it what it takes from any noise.

    A padded image, for a crop of CROP px.
    """
    view, matrix = at
    w = view.windows
    noise = np.zeros_like(view.weight)
    near = around(centre, noise.shape, side=CROP + 4 * w.radius)  # noise further off changes nothing there
    noise[near] = _white(*noise[near].shape)
    root = np.sqrt(view.weight)
    weighted = noise * root
    n = len(state.heights)
    factor = by_height(state)
    own = (peaks.project(weighted, w) * factor).ravel()
    right = np.concatenate([own, view.hats.collect(weighted), np.zeros(len(matrix.normal.shape))])
    step = normal.solve(matrix.normal, right, tolerance=0.03, steps=60)
    swallowed = peaks.draw(w, step[: 3 * n].reshape(n, 3) * factor, size=view.weight.shape)
    view.hats.add(swallowed, step[3 * n : 3 * n + len(state.knots)])
    if state.striped:
        left = np.where(root > 0, noise / np.maximum(root, 1e-12), 0) - swallowed
        swallowed += line_means(left, view.weight)[:, None]
    return np.asarray(noise * (root > 0) - root * swallowed)


@lru_cache(maxsize=4)  # the frames of a movie are all alike
def _white(rows: int, cols: int) -> npt.NDArray[np.float32]:
    """Noise of unit variance, always the same."""
    return np.random.default_rng(0).standard_normal((rows, cols), np.float32)


def _jitter(state: State, view: View) -> tuple[Floats, tuple[float, float]]:
    """(N, 2) variance added to y and x, and the sd of the lines' displacement in y and x."""
    w, weighted = view.windows, view.weight * view.residual
    size = np.array(weighted.shape) - 2 * w.radius
    inside = ((state.positions >= 0) & (state.positions <= size - 1)).all(1)
    added, sd = [], []
    for axis in (0, 1):
        towards = np.eye(3)[1 + axis] * state.heights[:, None]
        whole = peaks.draw(w, towards, size=view.weight.shape)
        sums = peaks.slopes_along((weighted, view.weight, whole), w, state.heights, axis=axis)
        # of a column outside only a tail is seen, and a line that it misfits is not displaced
        sums[:, ~inside] = 0
        rows, rows_information, *across = sums
        found = measure_jitter(
            rows, rows_information, w, lines=view.weight.shape[0], across=(across[0], across[1])
        )
        added.append(found.added)
        sd.append(float(np.sqrt(found.variance)))
    return np.stack(added, axis=1), (sd[0], sd[1])


def _warnings(lost: npt.NDArray[np.bool_], chi2: Floats, factors: Floats) -> tuple[str, ...]:
    found = []
    if lost.mean() > 0.05:
        found.append("more than 5 % of the columns ran away in the fit and kept their start positions")
    if factors[1:].max() > 3:
        found.append(
            "residuals are correlated or the peak shape misfits: variances were widened more than threefold"
        )
    return tuple(found)
