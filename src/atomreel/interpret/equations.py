"""The model of an image looked at: residual and gradient of one state of the fit, and the normal equations there."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from scipy import sparse

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
class Overlap:
    """What neighbouring unit peaks share: pairs (P, 2), blocks (P, 3, 3), own (N,) with what each peak had of its own."""

    pairs: Ints
    blocks: npt.NDArray[np.float64]
    own: npt.NDArray[np.float64]


@dataclass(frozen=True)
class Equations:
    """Normal equations of (height, y, x) of the columns, knots and shape, and the parts errors are made of."""

    normal: normal.Normal
    own: npt.NDArray[np.float64]  # (N, 3, 3), prior included
    flat: npt.NDArray[np.float64]  # (N, 3) with a constant
    overlap: Overlap
    factor: npt.NDArray[np.float64]  # (N, 3) of the heights at the time


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
    before: View | None = None,
) -> View:
    """Model, residual and gradient at `state`. weight: (Y, X) or padded, else from the noise of the model.

    before: a view of a state with the same positions and shape, whose windows serve again.
    """
    size = problem.data.shape
    w = (
        before.windows
        if before
        else peaks.windows(state.positions, state.shape, size=size, slopes=learn_shape)
    )
    r = w.radius
    padded = (size[0] + 2 * r, size[1] + 2 * r)
    hats = before.hats if before else background.make_hats(size, knots=problem.knots, border=r)
    model = np.asarray(draw(state, w, hats, padded=padded), np.float32)
    residual = peaks.pad(problem.data, r) - model
    slopes = _shape_images(state, w, padded) if learn_shape else np.zeros((0, *padded), np.float32)
    none = np.zeros(0, np.float32)
    return weighed(
        problem, state, View(w, hats, model, residual, none, none, slopes, np.zeros(0)), weight=weight
    )


def weighed(problem: Problem, state: State, view: View, *, weight: Floats | None = None) -> View:
    """The view with other weights: (Y, X) or padded, by default those of the noise of `state`."""
    r = view.windows.radius
    if weight is None:
        weight = np.reciprocal(state.noise.variance(unpadded(view.model, r)))
    if weight.shape != view.model.shape:
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
    gradient = peaks.project(peaks.gather(weighted, w), w) * by_height(state)
    gradient -= np.matmul(_prior(problem), _away(problem, state)[:, :, None])[:, :, 0]
    by_shape = (slopes.reshape(len(slopes), weighted.size) @ weighted.ravel()).astype(float)
    return np.concatenate([gradient.ravel(), view.hats.collect(weighted), by_shape])


def equations(problem: Problem, state: State, view: View, *, overlap: Overlap | None = None) -> Equations:
    """The normal equations at a view of `state`. overlap: of a state whose columns stood nearly there."""
    w, hats, weight, factor = view.windows, view.hats, view.weight, by_height(state)
    weight_windows = peaks.gather(weight, w)
    unit, flat = peaks.own_sums(weight_windows, w)
    overlap = (
        share(problem, state, view, unit[:, 0, 0]) if overlap is None else rescaled(overlap, unit[:, 0, 0])
    )
    pairs = overlap.pairs
    own = unit * factor[:, :, None] * factor[:, None, :] + _prior(problem)
    s = len(view.slopes)
    weighted = weight * view.slopes
    shape_columns = [(peaks.project(peaks.gather(d, w), w) * factor).ravel() for d in weighted]
    shape_knots = [hats.collect(d) for d in weighted]
    system = normal.Normal(
        columns=normal.assemble(own, pairs, at_heights(overlap, state)),
        knots=background.own_matrix(hats, weight),
        cross=background.cross_matrix(hats, weight_windows, w, factor=factor),
        shape_columns=np.array(shape_columns).reshape(s, 3 * len(own)).T,
        shape_knots=np.array(shape_knots).reshape(s, hats.rows.shape[1] * hats.cols.shape[1]).T,
        shape=(weighted.reshape(s, weight.size) @ view.slopes.reshape(s, weight.size).T).astype(float),
        column_inverse=np.linalg.inv(own),
    )
    return Equations(system, own, flat * factor, overlap, factor)


def renewed(problem: Problem, state: State, view: View, *, matrix: Equations) -> Equations:
    """The equations at a view of a state whose columns stood nearly there when `matrix` was made.

    Heights and what each column has of its own are the present ones; what columns share with each other and
    with the knots is taken over, on the scale of the present heights and weights. Without the shape.
    """
    factor = by_height(state)
    unit, flat = peaks.own_sums(peaks.gather(view.weight, view.windows), view.windows)
    overlap = rescaled(matrix.overlap, unit[:, 0, 0])
    own = unit * factor[:, :, None] * factor[:, None, :] + _prior(problem)
    old, brighter = matrix.normal, float(np.median(unit[:, 0, 0] / np.maximum(matrix.overlap.own, 1e-30)))
    rows = (brighter * factor / np.maximum(matrix.factor, 1e-30)).ravel()
    cross = sparse.csr_array(
        (old.cross.data * np.repeat(rows, np.diff(old.cross.indptr)), old.cross.indices, old.cross.indptr),
        shape=old.cross.shape,
    )
    system = replace(
        old,
        columns=normal.assemble(own, overlap.pairs, at_heights(overlap, state)),
        knots=old.knots * brighter,
        cross=cross,
        column_inverse=np.linalg.inv(own),
        factored=old.factor_of_knots,
    )
    return Equations(system, own, flat * factor, overlap, factor)


def share(problem: Problem, state: State, view: View, own: npt.NDArray[np.float64]) -> Overlap:
    """What the neighbouring columns of `state` share."""
    pairs = peaks.neighbours(state.positions, peaks.PAIR_REACH * state.shape.width)
    size = problem.data.shape
    blocks = peaks.pair_blocks(state.positions, pairs, state.shape, weight=view.weight, size=size)
    return Overlap(pairs, blocks, own)


def rescaled(overlap: Overlap, own: npt.NDArray[np.float64]) -> Overlap:
    """The same for other weights: what two share goes with what each has of its own."""
    ratio = np.sqrt(own / np.maximum(overlap.own, 1e-30))
    i, j = overlap.pairs.T
    return Overlap(overlap.pairs, overlap.blocks * (ratio[i] * ratio[j])[:, None, None], own)


def at_heights(overlap: Overlap, state: State) -> npt.NDArray[np.float64]:
    """(P, 3, 3) blocks of columns of the heights of `state`."""
    factor = by_height(state)
    i, j = overlap.pairs.T
    return overlap.blocks * factor[i, :, None] * factor[j, None, :]


def unpadded(image: Floats, radius: int) -> Floats:
    """The image without the border of its windows."""
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
