"""The model of an image looked at: residual and gradient of one state of the fit, and the normal equations there."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

from atomreel.interpret import background, normal, peaks
from atomreel.interpret.noise import Noise
from atomreel.interpret.peaks import Floats, Ints, Shape, Windows

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
    _padded: dict[int, tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]] = field(
        init=False, default_factory=dict, repr=False, compare=False
    )

    def padded(self, radius: int) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
        """Data, and 1 where a pixel counts, with a border of zeros."""
        if radius not in self._padded:
            self._padded[radius] = (
                peaks.pad(self.data, radius),
                peaks.pad(self.seen.astype(np.float32), radius),
            )
        return self._padded[radius]


@dataclass(frozen=True)
class State:
    positions: npt.NDArray[np.float64]
    heights: npt.NDArray[np.float64]
    knots: npt.NDArray[np.float64]
    shape: Shape
    noise: Noise
    striped: bool = False  # each line has an offset of its own, profiled out of every look
    guess: npt.NDArray[np.float64] | None = None  # (N,) heights for the slopes while there are none yet


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
class Overlap:
    """Products of unit peaks: own (N, 3, 3) with themselves, flat (N, 3) with a constant, pairs (P, 2) of neighbours
    and their blocks (P, 3, 3)."""

    own: npt.NDArray[np.float64]
    flat: npt.NDArray[np.float64]
    pairs: Ints
    blocks: npt.NDArray[np.float64]


@dataclass(frozen=True)
class Equations:
    """Normal equations of (height, y, x) of the columns, knots and shape, and what they were made of.

    factor: (N, 3) of the heights that they are for.
    """

    normal: normal.Normal
    overlap: Overlap
    factor: npt.NDArray[np.float64]


def start_state(problem: Problem, shape: Shape, noise: Noise) -> State:
    """Columns where they start, without height on no background; their slopes are those of typical ones."""
    n = len(problem.start)
    return State(
        problem.start,
        np.zeros(n),
        np.zeros(int(np.prod(problem.knots))),
        shape,
        noise,
        guess=np.full(n, problem.tall),
    )


def draw(
    state: State, w: Windows, hats: background.Hats, *, padded: tuple[int, int]
) -> npt.NDArray[np.float32]:
    model = peaks.draw(w, state.heights, size=padded)
    hats.add(model, state.knots)
    return model


def line_means(residual: Floats, weight: Floats) -> npt.NDArray[np.float32]:
    """(Y',) the offset of each line."""
    return np.asarray((weight * residual).sum(1) / np.maximum(weight.sum(1), np.float32(1e-20)))


def draw_whole(problem: Problem, state: State) -> npt.NDArray[np.float32]:
    """(Y, X) model of a state, line offsets left out."""
    size = problem.data.shape
    w = peaks.windows(state.positions, state.shape, size=size)
    r = w.radius
    hats = background.make_hats(size, knots=problem.knots, border=r)
    model = draw(state, w, hats, padded=(size[0] + 2 * r, size[1] + 2 * r))
    return unpadded(model, r)


def look(
    problem: Problem,
    state: State,
    *,
    weight: Floats | None = None,
    learn_shape: bool = False,
) -> View:
    """Model, residual and gradient at `state`. weight: (Y, X) or padded, else from the noise of the model."""
    size = problem.data.shape
    w = peaks.windows(state.positions, state.shape, size=size)
    r = w.radius
    padded = (size[0] + 2 * r, size[1] + 2 * r)
    hats = background.make_hats(size, knots=problem.knots, border=r)
    model = draw(state, w, hats, padded=padded)
    residual = problem.padded(r)[0] - model
    slopes = np.zeros((0, *padded), np.float32)
    if learn_shape:
        slopes = peaks.draw_shape_slopes(w, state.heights, size=padded)
    none = np.zeros(0, np.float32)
    return weighed(
        problem, state, View(w, hats, model, residual, none, none, slopes, np.zeros(0)), weight=weight
    )


def weighed(problem: Problem, state: State, view: View, *, weight: Floats | None = None) -> View:
    """The view with other weights: (Y, X) or padded, by default those of the noise of `state`."""
    r = view.windows.radius
    if weight is None:
        weight = state.noise.weights(view.model, problem.padded(r)[1])
    elif weight.shape != view.model.shape:
        weight = peaks.pad(weight * problem.seen, r)
    weight = np.asarray(weight, np.float32)
    residual, rows = view.residual, np.zeros(len(weight), np.float32)
    if state.striped:
        rows = line_means(residual, weight)
        residual = residual - rows[:, None]
        rows = rows + view.rows if len(view.rows) else rows
    new = replace(view, residual=residual, rows=rows, weight=weight)
    return replace(new, right=_right(problem, state, new))


def _right(problem: Problem, state: State, view: View) -> npt.NDArray[np.float64]:
    weighted = view.weight * view.residual
    w, slopes = view.windows, view.slopes
    gradient = peaks.project(weighted, w) * by_height(state)
    gradient -= prior(problem) * _away(problem, state)
    by_shape = (slopes.reshape(len(slopes), weighted.size) @ weighted.ravel()).astype(float)
    return np.concatenate([gradient.ravel(), view.hats.collect(weighted), by_shape])


def equations(problem: Problem, state: State, view: View) -> Equations:
    """The normal equations at a view of `state`."""
    w, hats, weight, factor = view.windows, view.hats, view.weight, by_height(state)
    overlap = _overlap(problem, state, view)
    s, n, k = len(view.slopes), 3 * len(factor), len(state.knots)
    weighted = weight * view.slopes
    own, blocks = at_heights(problem, overlap, factor)
    cross, touched = background.cross_blocks(hats, weight, w, factor=factor)
    system = normal.Normal(
        own=own,
        pairs=overlap.pairs,
        blocks=blocks,
        knots=background.own_matrix(hats, weight),
        cross=cross,
        touched=touched,
        shape_columns=np.array([peaks.project(d, w) * factor for d in weighted]).reshape(s, n).T,
        shape_knots=np.array([hats.collect(d) for d in weighted]).reshape(s, k).T,
        shape=(weighted.reshape(s, weight.size) @ view.slopes.reshape(s, weight.size).T).astype(float),
    )
    return Equations(system, overlap, factor)


def at_heights(
    problem: Problem, overlap: Overlap, factor: Floats
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """(N, 3, 3) and (P, 3, 3) products of columns whose heights give `factor`, the former with the prior."""
    i, j = overlap.pairs.T
    own = overlap.own * factor[:, :, None] * factor[:, None, :]
    own[:, range(3), range(3)] += prior(problem)
    return own, overlap.blocks * factor[i, :, None] * factor[j, None, :]


def renewed(
    problem: Problem, state: State, matrix: Equations, *, overlap: Overlap | None = None
) -> Equations:
    """The equations for the heights of `state`, whose columns stood nearly there when `matrix` was made.

    Products of unit peaks stay those of then, all of one place, or the equations would lose their positive curvature
    where columns overlap much. overlap: the same for other weights. Without the shape.
    """
    factor, overlap = by_height(state), overlap or matrix.overlap
    ratio = overlap.own[:, 0, 0] / np.maximum(matrix.overlap.own[:, 0, 0], 1e-30)
    brighter = float(np.median(ratio))
    rows = np.sqrt(ratio * brighter)[:, None] * factor / np.maximum(matrix.factor, 1e-30)
    old = matrix.normal
    own, blocks = at_heights(problem, overlap, factor)
    system = replace(
        old,
        own=own,
        blocks=blocks,
        knots=old.knots * brighter,
        cross=old.cross * rows[:, :, None],
        factored=old.factor_of_knots,
    )
    return Equations(system, overlap, factor)


def at_weights(view: View, overlap: Overlap) -> Overlap:
    """The overlap for the weights of a view, known of nearly the same places for other weights: what two share goes with what
    each has of its own."""
    i, j = overlap.pairs.T
    value = peaks.own_sums(view.weight, view.windows)[0][:, 0, 0]
    ratio = value / np.maximum(overlap.own[:, 0, 0], 1e-30)
    shared = np.sqrt(ratio[i] * ratio[j])
    return Overlap(
        overlap.own * ratio[:, None, None],
        overlap.flat * ratio[:, None],
        overlap.pairs,
        overlap.blocks * shared[:, None, None],
    )


def _overlap(problem: Problem, state: State, view: View) -> Overlap:
    own, flat = peaks.own_sums(view.weight, view.windows)
    pairs = peaks.neighbours(state.positions, peaks.PAIR_REACH * state.shape.width)
    size = problem.data.shape
    blocks = peaks.pair_blocks(state.positions, pairs, state.shape, weight=view.weight, size=size)
    return Overlap(own, flat, pairs, blocks)


def unpadded(image: Floats, radius: int) -> Floats:
    """The image without the border of its windows."""
    return image[radius:-radius, radius:-radius]


def by_height(state: State) -> npt.NDArray[np.float64]:
    """(N, 3) what multiplies the basis to give the slopes of the model by height, y, x."""
    heights = state.heights if state.guess is None else state.guess
    return np.stack([np.ones_like(heights), heights, heights], axis=1)


def prior(problem: Problem) -> Floats:
    """(N, 3) information of height, y, x: the start is worth a measurement of σ = PRIOR nearest-neighbour distances, the median
    height one of σ = 3 typical heights.

    Of a column outside the pixels that count only the tail is seen. Free, its height runs to any number
    that mends a stray pixel under that tail, and the huge tail then teaches the peak a false shape.
    """
    out = np.empty((len(problem.start), 3))
    out[:, 0] = (HEIGHT_PRIOR * problem.tall) ** -2.0
    out[:, 1:] = (PRIOR * problem.near[:, None]) ** -2.0
    return out


def _away(problem: Problem, state: State) -> Floats:
    height = state.heights - np.median(state.heights)
    return np.concatenate([height[:, None], state.positions - problem.start], axis=1)
