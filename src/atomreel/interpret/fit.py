"""Gauss-Newton fit of all columns of one image together: heights, positions, background and one peak shape."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt

from atomreel.interpret import background, normal, peaks
from atomreel.interpret.equations import (
    Equations,
    Problem,
    State,
    View,
    at_weights,
    equations,
    look,
    prior,
    renewed,
    start_state,
    unpadded,
    weighed,
)
from atomreel.interpret.noise import SAMPLE, Noise, blurred, fit_noise, guess_noise, quiet
from atomreel.interpret.peaks import Floats, Shape

DAMPING = (1e-3, 0.01, 0.1, 1.0)  # of the shape, tried in turn while a step makes the fit worse
WORSE = 1.05  # times the weighted squares: the shape overshot, which is more than a wiggle on the way
KNOT_STEP = 3.0  # background knots, in nearest-neighbour distances
LEAST_HEIGHT = 0.2  # times the height before: the least by which a move is told from height times move
STEP_LIMIT = 0.12  # of the nearest-neighbour distance, per iteration
MOVE_LIMIT = 0.55  # of the nearest-neighbour distance, from the start
PART_COLUMNS = 250
LEARNING_ROUNDS = 6
LEARNED = 0.1  # of χ² per column: a round that gains less is the last
SETTLED = 0.1  # of a column's standard deviation: nearer to the end than this is there
SLOWEST = 0.95  # share of a step that the next may be expected to have
SETTLING = 12  # steps at most
FAR = 0.5  # standard deviations: a step longer than this calls for new equations
MEDIAN_CHI2 = 0.4549  # of one degree of freedom


def advance(
    problem: Problem,
    state: State,
    view: View,
    *,
    matrix: Equations,
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
    share, information = _at_height(problem, matrix, heights)
    move = _limited(column[:, 1:] * share, STEP_LIMIT * problem.near)
    away = _limited(state.positions + move - problem.start, MOVE_LIMIT * problem.near)
    new = state.shape
    if len(shape):
        new = new.moved(shape, limits=(max(0.5, 0.05 * problem.spacing), 0.55 * problem.spacing))
    size = np.sqrt((move**2 * information).max(1))
    moved = replace(
        state,
        positions=problem.start + away,
        heights=heights,
        knots=state.knots + knots,
        shape=new,
        guess=None,
    )
    return moved, float(np.quantile(size, 0.9))


def _at_height(problem: Problem, matrix: Equations, heights: Floats) -> tuple[Floats, Floats]:
    """(N, 2) what makes a column's step that of its new height, and the information of its position then: the image is linear
    in height times move, not in the move."""
    known, start = matrix.normal.own[:, (1, 2), (1, 2)], prior(problem)[:, 1:]
    before = matrix.factor[:, 1]
    ratio = (np.maximum(heights, LEAST_HEIGHT * before) / before)[:, None]
    now = (known - start) * ratio**2 + start
    return ratio * known / now, now


def learn(
    problem: Problem, state: State, view: View, *, matrix: Equations, damping: int = 0
) -> tuple[State, View, float]:
    """A step that frees the shape too, damped until the image is not fitted clearly worse than before, its view
    with the old weights, and how far columns moved.

    Width, skirt, heights and background trade for each other where columns overlap, and a full step
    along that valley overshoots.
    """
    weight = unpadded(view.weight, view.windows.radius)
    before = _misfit(view)
    for much in DAMPING[damping:]:
        new, moved = advance(problem, state, view, matrix=matrix, damping=much)
        seen = look(problem, new, weight=weight, learn_shape=True)
        if _misfit(seen) < WORSE * before:
            break
    return new, seen, moved


def _misfit(view: View) -> float:
    return float((view.weight * view.residual**2).sum(dtype=float))


def _limited(vectors: Floats, limit: Floats) -> Floats:
    length = np.maximum(np.hypot(*vectors.T), 1e-12)
    return np.asarray(vectors * np.minimum(1, limit / length)[:, None])


def first_noise(
    problem: Problem, width: float, *, noise: Noise | None = None
) -> tuple[Noise, npt.NDArray[np.float32]]:
    """The noise, guessed if not given, and weights (Y, X) from the blurred image."""
    blur = max(0.7, 0.6 * width)
    smooth = blurred(problem.data, blur)
    noise = noise or guess_noise(problem.data, smooth, blur=blur)
    return noise, np.reciprocal(noise.variance(smooth))


def measure_noise(problem: Problem, state: State, view: View) -> Noise:
    """Noise from the residuals of the present fit, pixels near columns and background together."""
    calm = quiet(np.sqrt(view.weight) * view.residual, state.shape.width)
    count = max(1, int(problem.seen.sum()))
    every = max(1, count // SAMPLE)
    while np.gcd(every, view.weight.shape[1]) > 1:  # else the sample would stand in image columns
        every += 1
    use = calm.ravel()[::every] & (view.weight.ravel()[::every] > 0)
    parameters = 3 * len(state.heights) + len(state.knots)
    freedom = max(0.3, 1 - parameters / count)
    return fit_noise(view.residual.ravel()[::every][use], view.model.ravel()[::every][use], freedom=freedom)


def is_striped(view: View) -> bool:
    """Whether the means of lines scatter far more than the means of image columns: offsets line by line."""
    excess = []
    for axis in (1, 0):
        info = view.weight.sum(axis, dtype=float)
        mean = (view.weight * view.residual).sum(axis, dtype=float)[info > 0] / info[info > 0]
        excess.append(float(np.median(mean**2 * info[info > 0])))
    return excess[0] > 4 * max(excess[1], MEDIAN_CHI2)


def learn_all(problem: Problem, width: float) -> tuple[State, float]:
    """Fit everything, the shape too, and how far columns moved last. width: first guess of σ [px].

    The first round's weights are the blurred image's.
    """
    noise, weight = first_noise(problem, width)
    state = start_state(problem, peaks.round_shape(width), noise)
    view = look(problem, state, weight=weight)
    state, _ = advance(problem, state, view, matrix=equations(problem, state, view))
    view = look(problem, state, weight=weight, learn_shape=True)
    damping, step = 0, 0.0
    for number in range(1, LEARNING_ROUNDS + 1):
        if number == 2:
            state = replace(state, noise=measure_noise(problem, state, view))
            view = weighed(problem, state, view)
        elif number == 3 and is_striped(view):
            state = replace(state, striped=True)
            view = weighed(problem, state, view)
        before, misfit = state.shape, _misfit(view)
        matrix = equations(problem, state, view)
        state, view, moved = learn(problem, state, view, matrix=matrix, damping=damping)
        turn = (state.shape.skirt - before.skirt) * step < 0
        step = state.shape.skirt - before.skirt
        damping = min(damping + turn, len(DAMPING) - 1)
        if number > 2 and abs(misfit - _misfit(view)) < LEARNED * len(state.heights):
            break
    return state, moved


def start_from(
    problem: Problem, shape: Shape, *, noise: Noise | None = None, striped: bool = False
) -> tuple[State, float, View]:
    """Columns and background after one step from their start that holds `shape`, how far columns moved, and the view of it."""
    guess, weight = first_noise(problem, shape.width, noise=noise)
    state = replace(start_state(problem, shape, guess), striped=striped)
    view = look(problem, state, weight=weight)
    state, moved = advance(problem, state, view, matrix=equations(problem, state, view))
    view = look(problem, state)
    if noise is None:
        state = replace(state, noise=measure_noise(problem, state, view))
        view = weighed(problem, state, view)
    return state, moved, view


def settle(
    problem: Problem, state: State, moved: float, *, view: View | None = None
) -> tuple[State, View, Equations]:
    """Steps that hold the shape until columns are within SETTLED of their standard deviations of the end, if steps go on
    getting shorter as the last two did.

    moved: the last step to `state`. view: of `state`. The equations are made anew after steps that move columns far; small steps
    do with those there are (the chord method), the gradient being that of the place. The view and the equations returned
    are those at the end, with the noise measured there.
    """
    view = look(problem, state) if view is None else view
    matrix = equations(problem, state, view)
    for number in range(SETTLING):
        before = moved
        state, moved = advance(problem, state, view, matrix=matrix)
        view = look(problem, state)
        shorter = min(moved / max(before, 1e-9), SLOWEST)
        if moved * shorter / (1 - shorter) < SETTLED:
            break
        if moved > FAR:
            if number == 0:
                state = replace(state, noise=measure_noise(problem, state, view))
                view = weighed(problem, state, view)
            matrix = equations(problem, state, view)
        else:
            matrix = renewed(problem, state, matrix)
    state = replace(state, noise=measure_noise(problem, state, view))
    view = weighed(problem, state, view)
    return state, view, renewed(problem, state, matrix, overlap=at_weights(view, matrix.overlap))


def fit(problem: Problem, width: float, *, shape: Shape | None = None) -> State:
    """Fit everything. width: first guess of σ [px]. shape: hold this shape instead of learning one."""
    if shape is None:
        return settle(problem, *learn_all(problem, width))[0]
    state, moved, view = start_from(problem, shape)
    return settle(problem, state, moved, view=view)[0]


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
    seen = patch[disc] - patch[disc].mean()
    ratios = np.geomspace(0.08, 0.5, 16)
    g = np.exp(-((y**2 + x**2)[disc]) / (2 * (ratios[:, None] * problem.spacing) ** 2))
    g -= g.mean(1, keepdims=True)
    shared, power = g @ seen, np.maximum((g**2).sum(1), 1e-30)
    gain = np.where(shared > 0, shared**2 / power, -np.inf)  # of squares, by a peak on a constant
    width = ratios[gain.argmax()] * problem.spacing if np.isfinite(gain).any() else 0.3 * problem.spacing
    return max(0.6, float(width))
