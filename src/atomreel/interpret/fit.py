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
LEARNING_ROUNDS = 6
SETTLED = 0.1  # of a column's standard deviation: a step shorter than this is the last
SETTLING = 6  # steps at most
MEDIAN_CHI2 = 0.4549  # of one degree of freedom
# 1σ of the start position, in nearest-neighbour distances: what a finder scatters by at one count per column.
# A freer column ends further off than it started there; where counts are many, the start weighs nothing.
PRIOR = 0.12
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
    """A state looked at: what one evaluation of the model gives. Images are padded. right: minus the gradient."""

    windows: Windows
    hats: background.Hats
    model: npt.NDArray[np.float32]
    residual: npt.NDArray[np.float32]
    rows: npt.NDArray[np.float32]  # (Y',) offsets of the lines
    weight: npt.NDArray[np.float32]
    slopes: npt.NDArray[np.float32]  # (S, Y', X') derivatives by the shape
    right: npt.NDArray[np.float64]


@dataclass(frozen=True)
class Equations:
    """Normal equations of (height, y, x) of the columns, knots and shape, and the parts errors are made of."""

    normal: normal.Normal
    own: npt.NDArray[np.float64]  # (N, 3, 3), prior included
    flat: npt.NDArray[np.float64]  # (N, 3) with a constant
    pairs: Ints
    blocks: npt.NDArray[np.float64]


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
    columns = peaks.stamp(w.value, w.index, size=padded, heights=state.heights)
    return columns + hats.draw(state.knots)


def line_means(residual: Floats, weight: Floats, striped: bool) -> npt.NDArray[np.float32]:
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


def look(problem: Problem, state: State, *, weight: Floats | None = None, learn_shape: bool = False) -> View:
    """Model, residual and gradient at `state`. weight: (Y, X) or padded, else from the noise of the model."""
    size = problem.data.shape
    w = peaks.windows(state.positions, state.shape, size=size, slopes=learn_shape)
    r = w.radius
    padded = (size[0] + 2 * r, size[1] + 2 * r)
    hats = background.make_hats(size, knots=problem.knots, border=r)
    model = np.asarray(draw(state, w, hats, padded=padded), np.float32)
    if weight is None:
        weight = np.reciprocal(state.noise.variance(_unpadded(model, r)))
    whole = weight if weight.shape == padded else peaks.pad(np.where(problem.seen, weight, 0), r)
    weight = np.asarray(whole, np.float32)
    residual = peaks.pad(problem.data, r) - model
    rows = line_means(residual, weight, state.striped)
    if state.striped:
        residual -= rows[:, None]
    slopes = _shape_images(state, w, padded) if learn_shape else np.zeros((0, *padded), np.float32)
    view = View(w, hats, model, residual, rows, weight, slopes, np.zeros(0))
    return replace(view, right=_right(problem, state, view))


def _right(problem: Problem, state: State, view: View) -> npt.NDArray[np.float64]:
    weighted = view.weight * view.residual
    w, slopes = view.windows, view.slopes
    gradient = peaks.project(peaks.gather(weighted, w), w) * by_height(state)
    gradient -= np.matmul(_prior(problem), _away(problem, state)[:, :, None])[:, :, 0]
    by_shape = (slopes.reshape(len(slopes), weighted.size) @ weighted.ravel()).astype(float)
    return np.concatenate([gradient.ravel(), view.hats.collect(weighted), by_shape])


def equations(problem: Problem, state: State, view: View) -> Equations:
    """The normal equations at a view of `state`."""
    w, hats, weight, factor = view.windows, view.hats, view.weight, by_height(state)
    weight_windows = peaks.gather(weight, w)
    own, flat = peaks.own_sums(weight_windows, w)
    pairs = peaks.neighbours(state.positions, peaks.PAIR_REACH * state.shape.width)
    blocks = peaks.pair_blocks(state.positions, pairs, state.shape, weight=weight, size=problem.data.shape)
    blocks *= factor[pairs[:, 0], :, None] * factor[pairs[:, 1], None, :]
    own = own * factor[:, :, None] * factor[:, None, :] + _prior(problem)
    flat = flat * factor
    s = len(view.slopes)
    weighted = weight * view.slopes
    shape_columns = [(peaks.project(peaks.gather(d, w), w) * factor).ravel() for d in weighted]
    shape_knots = [hats.collect(d) for d in weighted]
    system = normal.Normal(
        columns=normal.assemble(own, pairs, blocks),
        knots=background.own_matrix(hats, weight),
        cross=background.cross_matrix(hats, weight_windows, w, factor=factor),
        shape_columns=np.array(shape_columns).reshape(s, 3 * len(own)).T,
        shape_knots=np.array(shape_knots).reshape(s, hats.rows.shape[1] * hats.cols.shape[1]).T,
        shape=(weighted.reshape(s, weight.size) @ view.slopes.reshape(s, weight.size).T).astype(float),
        column_inverse=np.linalg.inv(own),
    )
    return Equations(system, own, flat, pairs, blocks)


def _unpadded(image: Floats, radius: int) -> Floats:
    return image[radius:-radius, radius:-radius]


def by_height(state: State) -> npt.NDArray[np.float64]:
    """(N, 3) what multiplies the basis to give the slopes of the model by height, y, x."""
    return np.stack([np.ones_like(state.heights), state.heights, state.heights], axis=1)


def _prior(problem: Problem) -> Floats:
    """(N, 3, 3): the start is worth a measurement of σ = PRIOR nearest-neighbour distances, the median
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
    return np.stack(
        [
            peaks.stamp(w.shape_slopes[:, s], w.index, size=padded, heights=state.heights)
            for s in range(peaks.SHAPE_PARAMETERS)
        ]
    )


def advance(
    problem: Problem,
    state: State,
    view: View,
    *,
    matrix: Equations,
    free_positions: bool = True,
    tolerance: float = 0.03,
    damping: float = DAMPING[0],
) -> tuple[State, float]:
    """One Gauss-Newton step, and the 90th percentile of the columns' moves in their own standard deviations.

    damping: of the shape's part of the step, relative to its own information (Marquardt 1963).
    """
    system = matrix.normal
    if len(system.shape):
        system = replace(system, shape=system.shape * (1 + damping * np.eye(len(system.shape))))
    step = normal.solve(system, view.right, tolerance=tolerance, steps=60)
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
    size = np.sqrt((move**2 * np.einsum("nii->ni", matrix.own)[:, 1:]).max(1))
    moved = replace(
        state, positions=problem.start + away, heights=heights, knots=state.knots + knots, shape=new
    )
    return moved, float(np.quantile(size, 0.9))


def learn(problem: Problem, state: State, view: View, *, matrix: Equations) -> tuple[State, float]:
    """A step that frees the shape too, damped until the image is not fitted clearly worse than before.

    Width, skirt, heights and background trade for each other where columns overlap, and a full step
    along that valley overshoots.
    """
    r = view.windows.radius
    weight = _unpadded(view.weight, r)
    before = float((view.weight * view.residual**2).sum(dtype=float))
    for damping in DAMPING:
        new, moved = advance(problem, state, view, matrix=matrix, damping=damping)
        left = problem.data - draw_whole(problem, new)
        left -= line_means(left, weight, state.striped)[:, None]
        if float((weight * left**2).sum(dtype=float)) < WORSE * before:
            break
    return new, moved


def _limited(vectors: Floats, limit: Floats) -> Floats:
    length = np.maximum(np.hypot(*vectors.T), 1e-12)
    return np.asarray(vectors * np.minimum(1, limit / length)[:, None])


def first_noise(
    problem: Problem, width: float, *, noise: Noise | None = None
) -> tuple[Noise, npt.NDArray[np.float32]]:
    """The noise, guessed if not given, and weights (Y, X) from the blurred image."""
    guess, smooth = guess_noise(problem.data, blur=max(0.7, 0.6 * width))
    noise = noise or guess
    return noise, np.reciprocal(noise.variance(smooth))


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


def learn_all(problem: Problem, width: float) -> State:
    """Fit everything, the shape too. width: first guess of σ [px]. The first rounds' weights are the blurred image's."""
    noise, weight = first_noise(problem, width)
    state = start_state(problem, peaks.round_shape(width), noise)
    for number in range(LEARNING_ROUNDS + 1):
        view = look(problem, state, weight=weight if number < 3 else None, learn_shape=number > 0)
        if number in (2, 4):
            state = replace(state, noise=measure_noise(problem, state, view))
        matrix = equations(problem, state, view)
        if number == 0:
            state, moved = advance(problem, state, view, matrix=matrix, free_positions=False)
            continue
        before = state.shape.width
        state, moved = learn(problem, state, view, matrix=matrix)
        if number == 3:
            state = replace(state, striped=is_striped(view))
        if number > 3 and abs(state.shape.width / before - 1) < 0.01 and moved < 0.1:
            break
    return state


def start_from(problem: Problem, shape: Shape, *, noise: Noise | None = None, striped: bool = False) -> State:
    """Heights and background of columns at their start, in one linear step of a fit that holds `shape`."""
    guess, weight = first_noise(problem, shape.width, noise=noise)
    state = replace(start_state(problem, shape, guess), striped=striped)
    view = look(problem, state, weight=weight)
    return advance(problem, state, view, matrix=equations(problem, state, view), free_positions=False)[0]


def settle(problem: Problem, state: State) -> tuple[State, View, Equations]:
    """Steps that hold the shape until columns move by less than SETTLED of their standard deviations.

    The view and the equations returned are those at the end, with the noise measured there.
    """
    for number in range(SETTLING):
        view = look(problem, state)
        if number in (0, 2):
            state = replace(state, noise=measure_noise(problem, state, view))
            view = look(problem, state)
        state, moved = advance(problem, state, view, matrix=equations(problem, state, view))
        if moved < SETTLED:
            break
    state = replace(state, noise=measure_noise(problem, state, look(problem, state)))
    view = look(problem, state)
    return state, view, equations(problem, state, view)


def fit(problem: Problem, width: float, *, shape: Shape | None = None) -> State:
    """Fit everything. width: first guess of σ [px]. shape: hold this shape instead of learning one."""
    first = learn_all(problem, width) if shape is None else start_from(problem, shape)
    return settle(problem, first)[0]


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
