"""Gauss-Newton fit of all columns of one image together: heights, positions, background and one peak shape."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from atomreel.interpret import background, normal, peaks
from atomreel.interpret.noise import Noise, fit_noise, guess_noise, loudness
from atomreel.interpret.peaks import Floats, Ints, Shape, Windows

DAMPING = (1e-3, 0.01, 0.1, 1.0)  # of the shape, tried in turn while a step makes the fit worse
WORSE = 1.05  # times the weighted squares: the shape overshot, which is more than a wiggle on the way
KNOT_STEP = 3.0  # background knots, in nearest-neighbour distances
STEP_LIMIT = 0.12  # of the nearest-neighbour distance, per iteration
MOVE_LIMIT = 0.55  # of the nearest-neighbour distance, from the start
PART_COLUMNS = 400
ROUNDS = 9
LEARNING_ROUNDS = 6
MEDIAN_CHI2 = 0.4549  # of one degree of freedom
PRIOR = 0.3  # 1σ of the start position, in nearest-neighbour distances
HEIGHT_PRIOR = 3.0  # 1σ of a height about the median one, in typical heights


@dataclass(frozen=True)
class Problem:
    """One image to fit: data (Y, X) normalised, peaks upright; seen: 1 where a pixel counts; near: (N,) px.

    tall: how high a column typically rises, roughly.
    """

    data: npt.NDArray[np.float32]
    seen: npt.NDArray[np.bool_]
    start: npt.NDArray[np.float64]
    near: npt.NDArray[np.float64]
    spacing: float
    knots: tuple[int, int]
    tall: float


@dataclass(frozen=True)
class State:
    positions: npt.NDArray[np.float64]
    heights: npt.NDArray[np.float64]
    knots: npt.NDArray[np.float64]
    shape: Shape
    noise: Noise
    striped: bool = False  # each line has an offset of its own, profiled out of every look


@dataclass(frozen=True)
class View:
    """A state looked at: everything that one evaluation of the model gives. Images are padded."""

    windows: Windows
    hats: background.Hats
    model: npt.NDArray[np.float32]
    residual: npt.NDArray[np.float32]
    rows: npt.NDArray[np.float32]  # (Y',) offsets of the lines
    weight: npt.NDArray[np.float32]
    weight_windows: npt.NDArray[np.float32]
    pairs: Ints
    system: normal.Normal
    right: npt.NDArray[np.float64]


def start_state(problem: Problem, shape: Shape, noise: Noise) -> State:
    n = len(problem.start)
    return State(
        problem.start,
        np.zeros(n),
        np.zeros(int(np.prod(problem.knots))),
        shape,
        noise,
    )


def draw(state: State, w: Windows, hats: background.Hats, *, padded: tuple[int, int]) -> Floats:
    values = state.heights.astype(np.float32)[:, None] * w.basis[:, 0]
    return peaks.stamp(values, w.index, size=padded) + hats.draw(state.knots)


def _line_means(residual: Floats, weight: Floats, striped: bool) -> npt.NDArray[np.float32]:
    if not striped:
        return np.zeros(len(residual), np.float32)
    return np.asarray((weight * residual).sum(1) / np.maximum(weight.sum(1), np.float32(1e-20)))


def draw_whole(problem: Problem, state: State) -> npt.NDArray[np.float32]:
    """(Y, X) model of a state, line offsets left out."""
    size = problem.data.shape
    w = peaks.windows(state.positions, state.shape, size=size)
    r = w.radius
    hats = background.make_hats(size, knots=problem.knots, border=r)
    model = draw(state, w, hats, padded=(size[0] + 2 * r, size[1] + 2 * r))
    return _unpadded(model, r)


def look(
    problem: Problem,
    state: State,
    *,
    weight: Floats | None = None,
    learn_shape: bool = False,
) -> View:
    """Model, residual and normal equations at `state`. weight: (Y, X), else from the noise of the model."""
    size = problem.data.shape
    w = peaks.windows(state.positions, state.shape, size=size, slopes=learn_shape)
    r = w.radius
    padded = (size[0] + 2 * r, size[1] + 2 * r)
    hats = background.make_hats(size, knots=problem.knots, border=r)
    model = draw(state, w, hats, padded=padded).astype(np.float32, copy=False)
    if weight is None:
        weight = 1 / state.noise.variance(_unpadded(model, r))
    weight = peaks.pad(np.where(problem.seen, weight, 0), r)
    residual = peaks.pad(problem.data, r) - model
    rows = _line_means(residual, weight, state.striped)
    residual -= rows[:, None]
    weighted = weight * residual
    scaled = replace(w, basis=w.basis * _scale(state.heights)[:, :, None])
    pull = _prior(problem) @ _away(problem, state)[:, :, None]
    gradient = peaks.project(peaks.gather(weighted, w), scaled) - pull[:, :, 0]
    slopes = _shape_images(state, w, padded) if learn_shape else np.zeros((0, *padded), np.float32)
    shape_right = (slopes.reshape(len(slopes), weighted.size) @ weighted.ravel()).astype(float)
    right = np.concatenate([gradient.ravel(), hats.collect(weighted), shape_right])
    weight_windows = peaks.gather(weight, w)
    pairs, blocks = _pairs(state, weight, size)
    own = peaks.own_blocks(weight_windows, scaled) + _prior(problem)
    system = _system(scaled, hats, own, pairs, blocks, weight, weight_windows, slopes)
    return View(
        scaled,
        hats,
        model,
        residual.astype(np.float32, copy=False),
        rows,
        weight,
        weight_windows,
        pairs,
        system,
        right,
    )


def _unpadded(image: Floats, radius: int) -> Floats:
    return image[radius:-radius, radius:-radius]


def _pairs(state: State, weight: Floats, size: tuple[int, int]) -> tuple[Ints, Floats]:
    pairs = peaks.neighbours(state.positions, peaks.PAIR_REACH * state.shape.width)
    blocks = peaks.pair_blocks(state.positions, pairs, state.shape, weight=weight, size=size)
    scale = _scale(state.heights).astype(float)
    blocks *= scale[pairs[:, 0], :, None] * scale[pairs[:, 1], None, :]
    return pairs, blocks


def _scale(heights: Floats) -> npt.NDArray[np.float32]:
    return np.stack([np.ones_like(heights), heights, heights], axis=1).astype(np.float32)


def _prior(problem: Problem) -> Floats:
    """(N, 3, 3): the start is worth a measurement of σ = 0.3 nearest-neighbour distances, the median
    height one of σ = 3 typical heights.

    Of a column outside the pixels that count only the tail is seen. Free, its height runs to any number
    that mends a stray pixel under that tail, and the huge tail then teaches the peak a false shape.
    """
    out = np.zeros((len(problem.start), 3, 3))
    out[:, 0, 0] = (HEIGHT_PRIOR * problem.tall) ** -2.0
    out[:, [1, 2], [1, 2]] = (PRIOR * problem.near[:, None]) ** -2.0
    return out


def _away(problem: Problem, state: State) -> Floats:
    height = state.heights - np.median(state.heights)
    return np.concatenate([height[:, None], state.positions - problem.start], axis=1)


def _shape_images(state: State, w: Windows, padded: tuple[int, int]) -> npt.NDArray[np.float32]:
    """(4, Y', X') derivatives of the model by yy, xx, yx and skirt."""
    assert w.shape_slopes is not None
    heights = state.heights.astype(np.float32)[:, None]
    return np.stack(
        [
            peaks.stamp(heights * w.shape_slopes[:, s], w.index, size=padded)
            for s in range(peaks.SHAPE_PARAMETERS)
        ]
    )


def _system(
    w: Windows,
    hats: background.Hats,
    own: Floats,
    pairs: Ints,
    blocks: Floats,
    weight: Floats,
    weight_windows: Floats,
    slopes: Floats,
) -> normal.Normal:
    s = len(slopes)
    shape_columns = [peaks.project(peaks.gather(weight * d, w), w).ravel() for d in slopes]
    shape_knots = [hats.collect(weight * d) for d in slopes]
    gram = np.array([[float((weight * a * b).sum(dtype=float)) for b in slopes] for a in slopes]).reshape(
        s, s
    )
    return normal.Normal(
        columns=normal.assemble(own, pairs, blocks),
        knots=background.own_matrix(hats, weight),
        cross=background.cross_matrix(hats, weight_windows, w),
        shape_columns=np.array(shape_columns).reshape(s, 3 * len(own)).T,
        shape_knots=np.array(shape_knots).reshape(s, hats.rows.shape[1] * hats.cols.shape[1]).T,
        shape=gram,
        column_inverse=np.linalg.inv(own),
    )


def advance(
    problem: Problem,
    state: State,
    view: View,
    *,
    free_positions: bool = True,
    tolerance: float = 0.03,
    damping: float = DAMPING[0],
) -> tuple[State, float]:
    """One Gauss-Newton step, and the 90th percentile of the columns' moves in px.

    damping: of the shape's part of the step, relative to its own information (Marquardt 1963).
    """
    damped = view.system.shape * (1 + damping * np.eye(len(view.system.shape)))
    step = normal.solve(replace(view.system, shape=damped), view.right, tolerance=tolerance, steps=60)
    n = len(state.heights)
    column, rest = step[: 3 * n].reshape(n, 3), step[3 * n :]
    knots, shape = rest[: len(state.knots)], rest[len(state.knots) :]
    heights = state.heights + column[:, 0]
    typical = float(np.median(heights[heights > 0])) if (heights > 0).any() else 1e-6
    heights = np.maximum(heights, 1e-3 * typical)
    move = _limited(column[:, 1:], STEP_LIMIT * problem.near) if free_positions else 0 * column[:, 1:]
    away = _limited(state.positions + move - problem.start, MOVE_LIMIT * problem.near)
    new = state.shape
    if len(shape):
        new = new.moved(shape, limits=(max(0.5, 0.05 * problem.spacing), 0.55 * problem.spacing))
    size = float(np.quantile(np.hypot(*move.T), 0.9))
    return replace(
        state, positions=problem.start + away, heights=heights, knots=state.knots + knots, shape=new
    ), size


def learn(problem: Problem, state: State, view: View) -> tuple[State, float]:
    """A step that frees the shape too, damped until the image is not fitted clearly worse than before.

    Width, skirt, heights and background trade for each other where columns overlap, and a full step
    along that valley overshoots.
    """
    r = view.windows.radius
    weight = _unpadded(view.weight, r)
    before = float((view.weight * view.residual**2).sum(dtype=float))
    for damping in DAMPING:
        new, moved = advance(problem, state, view, damping=damping)
        left = problem.data - draw_whole(problem, new)
        left -= _line_means(left, weight, state.striped)[:, None]
        if float((weight * left**2).sum(dtype=float)) < WORSE * before:
            break
    return new, moved


def _limited(vectors: Floats, limit: Floats) -> Floats:
    length = np.maximum(np.hypot(*vectors.T), 1e-12)
    return np.asarray(vectors * np.minimum(1, limit / length)[:, None])


def first_noise(problem: Problem, width: float) -> tuple[Noise, npt.NDArray[np.float32]]:
    noise, smooth = guess_noise(problem.data, blur=max(0.7, 0.6 * width))
    return noise, (1 / noise.variance(smooth)).astype(np.float32)


def measure_noise(problem: Problem, state: State, view: View) -> Noise:
    """Noise from the residuals of the present fit, pixels near columns and background together."""
    r = view.windows.radius
    loud = loudness(np.sqrt(view.weight) * view.residual, state.shape.width)
    seen = problem.seen & (loud[r:-r, r:-r] < 1)
    parameters = 3 * len(state.heights) + len(state.knots)
    freedom = max(0.3, 1 - parameters / max(1, int(seen.sum())))
    return fit_noise(view.residual[r:-r, r:-r][seen], view.model[r:-r, r:-r][seen], freedom=freedom)


def is_striped(view: View) -> bool:
    """Whether the means of lines scatter far more than the means of image columns: offsets line by line."""
    excess = []
    for axis in (1, 0):
        info = view.weight.sum(axis, dtype=float)
        mean = (view.weight * view.residual).sum(axis, dtype=float)[info > 0] / info[info > 0]
        excess.append(float(np.median(mean**2 * info[info > 0])))
    return excess[0] > 4 * max(excess[1], MEDIAN_CHI2)


def fit(problem: Problem, width: float, *, shape: Shape | None = None) -> State:
    """Fit everything. width: first guess of σ [px]. shape: hold this shape instead of learning one.

    Gauss-Newton rounds, the first two with weights from the blurred image.
    """
    noise, weight = first_noise(problem, width)
    state = start_state(problem, shape or peaks.round_shape(width), noise)
    state, _ = advance(problem, state, look(problem, state, weight=weight), free_positions=False)
    for number in range(ROUNDS):
        learning = shape is None and number < LEARNING_ROUNDS
        view = look(problem, state, weight=weight if number < 2 else None, learn_shape=learning)
        if number in (1, 3):
            state = replace(state, noise=measure_noise(problem, state, view))
        before = state.shape.width
        state, moved = (learn if learning else advance)(problem, state, view)
        if (number == 2 and shape is None) or (number == 0 and shape is not None):
            state = replace(state, striped=is_striped(view))
        settled = abs(state.shape.width / before - 1) < 0.01
        if number > 2 and settled and moved < 0.005 * problem.spacing:
            break
    return state


def sample_part(problem: Problem) -> Problem:
    """A rectangle in the middle of the columns with about PART_COLUMNS of them: enough to learn a shape."""
    count = len(problem.start)
    if count <= 1.5 * PART_COLUMNS:
        return problem
    low, high = np.quantile(problem.start, [0.05, 0.95], axis=0)
    middle = np.median(problem.start, axis=0)
    half = 0.5 * (high - low) / 0.9 * np.sqrt(PART_COLUMNS / count)
    first = np.maximum(0, np.floor(middle - half)).astype(int)
    last = np.minimum(problem.data.shape, np.ceil(middle + half) + 1).astype(int)
    cut = np.s_[first[0] : last[0], first[1] : last[1]]
    # columns just outside still reach in: they are fitted, and only their inner side is seen
    use = ((problem.start > first - problem.spacing) & (problem.start < last + problem.spacing)).all(1)
    if use.sum() < PART_COLUMNS // 4:
        return problem
    knots = background.count_knots(problem.data[cut].shape, KNOT_STEP * problem.spacing)
    return replace(
        problem,
        data=problem.data[cut],
        seen=problem.seen[cut],
        start=problem.start[use] - first,
        near=problem.near[use],
        knots=knots,
    )


def guess_width(problem: Problem) -> float:
    """σ [px] of a Gaussian on a constant that fits the mean surroundings of all columns best."""
    r = max(2, int(0.5 * problem.spacing))
    size = problem.data.shape
    centre = np.rint(problem.start).astype(int)
    inside = ((centre >= r) & (centre < np.array(size) - r)).all(1)
    if not inside.any():
        return 0.3 * problem.spacing
    view = np.lib.stride_tricks.sliding_window_view(problem.data, (2 * r + 1, 2 * r + 1))
    pick = centre[inside][:: max(1, int(inside.sum()) // 2000)]
    patch = view[pick[:, 0] - r, pick[:, 1] - r].mean(0, dtype=float)
    y, x = np.mgrid[-r : r + 1, -r : r + 1]
    disc = (y**2 + x**2) <= r**2
    best, width = np.inf, 0.3 * problem.spacing
    for ratio in np.geomspace(0.08, 0.5, 16):
        g = np.exp(-(y**2 + x**2) / (2 * (ratio * problem.spacing) ** 2))[disc]
        design = np.stack([g, np.ones_like(g)], axis=1)
        found, *_ = np.linalg.lstsq(design, patch[disc], rcond=None)
        misfit = float(((patch[disc] - design @ found) ** 2).sum())
        if found[0] > 0 and misfit < best:
            best, width = misfit, float(ratio * problem.spacing)
    return max(0.6, width)


def white_reference(state: State, view: View) -> npt.NDArray[np.float32]:
    """White noise of unit variance after the fit took from it what it takes from any noise. Padded image."""
    noise = np.random.default_rng(0).standard_normal(view.weight.shape, np.float32)
    root = np.sqrt(view.weight)
    weighted = noise * root
    right = np.concatenate(
        [
            peaks.project(peaks.gather(weighted, view.windows), view.windows).ravel(),
            view.hats.collect(weighted),
            np.zeros(len(view.system.shape)),
        ]
    )
    step = normal.solve(view.system, right, tolerance=0.03, steps=60)
    n = len(state.heights)
    taken = np.einsum("nk,nkp->np", step[: 3 * n].reshape(n, 3).astype(np.float32), view.windows.basis)
    swallowed = peaks.stamp(taken, view.windows.index, size=view.weight.shape)
    swallowed += view.hats.draw(step[3 * n : 3 * n + len(state.knots)])
    left = np.where(root > 0, noise / np.maximum(root, 1e-12), 0) - swallowed
    return np.asarray(root * (left - _line_means(left, view.weight, state.striped)[:, None]))
