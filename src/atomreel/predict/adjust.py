"""All unknowns of a particle and its images at once: whole numbers of atoms, positions, optics, thermal blur and tilt."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from atomreel.predict import synthesis
from atomreel.predict.integers import choose
from atomreel.predict.synthesis import Columns, Grid, Library, View
from atomreel.predict.whitened import Noise, Recorded, coefficients, measure_noise

Array = npt.NDArray[np.float64]
Float32 = npt.NDArray[np.float32]
Index = npt.NDArray[np.int64]
ROUNDS = 14
ENOUGH = 2.0  # χ²: a step that gains less is not made
LAST = 6  # rounds with the noise measured anew
FAR_OFF = 0.25  # atoms per column: whole particles are misjudged together
FEW = 0.1  # share of the columns that may change before derivatives are computed anew
STEP = 2.0  # the shared unknowns' first steps are about the widths of their priors / this
ROUGH = 1.5  # atoms by which neighbouring columns differ, roughly
WAVY = 1.0  # and atoms' distances by which their middles do
FAR = 2.5  # atoms' distances: of the middles from one plane
LOOSE = 0.15  # Å: how far columns are from their sites
RARE = 0.35  # atoms: width of the prior of sites where no column was seen, which makes one atom a matter of 1 : 60


class Prior(NamedTuple):
    """Mean, width, bounds of an unknown, the step for its derivative, and the farthest it goes in one round."""

    mean: float
    width: float
    low: float
    high: float
    step: float
    stride: float


PRIORS: Mapping[str, Prior] = {
    "focus": Prior(0.0, 25.0, -90.0, 90.0, 1.0, 10),
    "cs": Prior(-15.0, 4.0, -40.0, 40.0, 0.2, 4),
    "c5": Prior(1.5, 1.5, -5.0, 10.0, 0.2, 2),
    "a_cos": Prior(0.0, 8.0, -60.0, 60.0, 0.5, 8),
    "a_sin": Prior(0.0, 8.0, -60.0, 60.0, 0.5, 8),
    "spread2": Prior(900.0, 400.0, 0.0, 6400.0, 20.0, 400),
    "deflection2": Prior(0.02, 0.02, -0.02, 0.2, 0.001, 0.02),
    "contrast": Prior(0.0, 0.3, -2.0, 0.5, 0.01, 0.1),  # real images have 0.3–0.7 of what is simulated
    "contrast_k": Prior(0.0, 0.005, -0.1, 0.1, 0.01, 0.02),
    "y_k": Prior(0.0, 0.1, -1.0, 1.0, 0.01, 0.1),
    "x_k": Prior(0.0, 0.1, -1.0, 1.0, 0.01, 0.1),
    "thermal2": Prior(0.0055, 0.002, 0.001, 0.02, 0.0002, 0.0012),
    "tilt_y": Prior(0.0, 0.035, -0.12, 0.12, 0.002, 0.008),
    "tilt_x": Prior(0.0, 0.035, -0.12, 0.12, 0.002, 0.008),
}


@dataclass(frozen=True)
class Problem:
    """What does not change during the fit. site: (N, 2) ideal positions [Å]. seen: (N,) not an empty site. bond: (N, N)
    graph Laplacian of the seen columns."""

    grid: Grid
    recorded: Recorded
    site: Array
    seen: npt.NDArray[np.bool_]
    bond: Array
    priors: Mapping[str, Prior]
    counts: float
    level: float
    most: int


@dataclass(frozen=True)
class State:
    columns: Columns
    shared: Array
    noise: Noise


@dataclass(frozen=True)
class Quadratic:
    """½ xᵀ normal x − pull · x around a state, prior being in normal, x in the order of `slots` (N of slices), then the shared unknowns.
    chi2: of the residual; cost: with the priors; power: χ² of no specimen at all; slopes: (P, rows) derivatives."""

    normal: Array
    prior: Array
    pull: Array
    slots: list[slice]
    chi2: float
    cost: float
    power: float
    slopes: Float32
    model: npt.NDArray[np.complexfloating]


def prior_of(problem: Problem, name: str) -> Prior:
    """Of a shared unknown."""
    return problem.priors.get(name) or problem.priors[f"{name[:-1]}k"]


def fit(problem: Problem, state: State) -> tuple[State, Quadratic]:
    """Steps until no number of atoms changes; a far step that did not help at once is followed too."""
    noise = measure_noise(
        problem.recorded, problem.grid, None, model=None, counts=problem.counts, level=problem.level
    )
    state, best, other = _descended(problem, _scanned(problem, replace(state, noise=noise)), ROUNDS)
    if other is not None:
        there, found, _ = _descended(problem, other, ROUNDS)
        if found.cost < best.cost:
            state, best = there, found
    state, best, _ = _descended(problem, replace(state, noise=_noise(problem, state.noise, best)), LAST)
    return state, best


def _descended(problem: Problem, state: State, rounds: int) -> tuple[State, Quadratic, State | None]:
    """The best state that steps lead to, and one with far more or fewer atoms that they proposed."""
    best, damping, other = _quadratic(problem, state), 1.0, None
    for turn in range(rounds):
        after, gain = _stepped(problem, state, best, damping=damping)
        changed = np.flatnonzero(after.columns.count != state.columns.count)
        if turn > 2 and gain < ENOUGH and not len(changed):
            break
        same = (after.columns.count > 0) == (state.columns.count > 0)
        alike = turn > 2 and len(changed) <= FEW * len(same) and bool(same.all())
        quadratic = _quadratic(problem, after, best if alike else None)
        if quadratic.cost > best.cost:
            more = after.columns.count.sum() - state.columns.count.sum()
            if abs(more) > FAR_OFF * np.count_nonzero(state.columns.count):
                other = after
            if gain < ENOUGH:
                break
            damping *= 10
            continue
        state, best, damping = after, quadratic, 0.3 * damping
    return state, best, other


def _noise(problem: Problem, noise: Noise, quadratic: Quadratic) -> Noise:
    return measure_noise(
        problem.recorded,
        problem.grid,
        noise,
        model=quadratic.model,
        counts=problem.counts,
        level=problem.level,
    )


def _library(problem: Problem, state: State) -> Library:
    columns, (thermal2, *tilt) = state.columns, state.shared[-3:].tolist()
    return synthesis.column_library(
        problem.grid,
        problem.most + 2,
        spacing=columns.layers * columns.step,
        thermal2=thermal2,
        tilt=(tilt[0], tilt[1]),
    )


def _scanned(problem: Problem, state: State) -> State:
    """The common focus from a scan, as its effect is far from linear, and with it the contrast, as far as it is from 1."""
    wave = synthesis.exit_wave(
        problem.grid, state.columns, _library(problem, state), thermal2=float(state.shared[-3])
    )
    data, _ = coefficients(problem.recorded, problem.grid, state.noise)
    contrast = synthesis.COMMON.index("contrast")
    known = problem.priors["contrast"]
    tried = []
    for focus in np.arange(-40, 41, 8.0):
        shared = state.shared.copy()
        shared[0] = focus
        model = synthesis.view(problem.grid, wave, shared).coefficients
        ratio = float(np.vdot(model, data).real / np.vdot(model, model).real)
        ratio = float(np.clip(ratio, np.exp(known.low), np.exp(known.high)))
        shared[contrast] = np.log(ratio)
        tried.append((float(np.linalg.norm(data - ratio * model)), shared))
    return replace(state, shared=min(tried, key=lambda t: t[0])[1])


def _quadratic(problem: Problem, state: State, known: Quadratic | None = None) -> Quadratic:
    """χ² and priors to second order around a state, all unknowns free. known: has the derivatives, if they will do."""
    grid, columns, shared = problem.grid, state.columns, state.shared
    library = _library(problem, state)
    wave = synthesis.exit_wave(grid, columns, library, thermal2=float(shared[-3]))
    seen = synthesis.view(grid, wave, shared)
    data, weight = coefficients(problem.recorded, grid, state.noise)
    left = np.ascontiguousarray(data - seen.coefficients, dtype=np.complex64) * np.float32(weight)
    residual = left.ravel().view(np.float32)
    if known is None:
        parts = [
            synthesis.column_changes(grid, columns, i, library=library, seen=seen)
            for i in range(len(columns.count))
        ]
        ends = np.cumsum([len(p) for p in parts])
        slots = [slice(int(end) - len(p), int(end)) for end, p in zip(ends, parts, strict=True)]
        parts.append(_shared_changes(problem, state, wave, seen, library))
        rows = np.concatenate([p.reshape(len(p), -1) for p in parts]) * np.float32(weight)
        slopes = rows.view(np.float32)
        square = (slopes @ slopes.T).astype(float)
    else:
        slots, slopes = known.slots, known.slopes
        square = known.normal - known.prior
    prior, pull, cost = _priors(problem, state, slots, len(slopes))
    chi2 = float(residual.astype(float) @ residual)
    power = float(weight**2 * np.sum(np.abs(data) ** 2))
    gradient = (slopes @ residual).astype(float) + pull
    return Quadratic(
        square + prior, prior, gradient, slots, chi2, chi2 + cost, power, slopes, seen.coefficients
    )


def _shared_changes(
    problem: Problem, state: State, wave: synthesis.Complex, seen: View, library: Library
) -> synthesis.Complex:
    """(G, F, R) derivatives by the shared unknowns, by differences."""
    grid, names = problem.grid, synthesis.names(len(problem.grid.focus))
    alone = synthesis.together(grid, state.columns, library)
    out = []
    for k, name in enumerate(names):
        step = prior_of(problem, name).step
        shared = state.shared.copy()
        shared[k] += step
        if name in synthesis.THICK:
            other = synthesis.together(grid, state.columns, _library(problem, replace(state, shared=shared)))
            out.append(synthesis.changed(grid, seen, other - alone) / np.float32(step))
        else:
            out.append(
                (synthesis.view(grid, wave, shared).coefficients - seen.coefficients) / np.float32(step)
            )
    return np.stack(out).astype(np.complex64)


def _priors(problem: Problem, state: State, slots: list[slice], total: int) -> tuple[Array, Array, float]:
    """Normal matrix (P, P), pull (P,) and cost of the priors around a state."""
    columns, seen, bond = state.columns, problem.seen, problem.bond
    matrix, x = np.zeros((total, total)), np.zeros(total)
    first = np.array([s.start for s in slots])
    full = columns.count > 0
    both = seen & full
    i, h = first[both], np.ix_(both, both)
    middle = columns.middle / (columns.layers * columns.step)
    matrix[np.ix_(i, i)] += bond[h] / ROUGH**2
    x[i] = columns.count[both]
    level = np.eye(both.sum()) - 1 / max(int(both.sum()), 1)  # how high the particle lies does not matter
    matrix[np.ix_(i + 1, i + 1)] += bond[h] / WAVY**2 + level / FAR**2 + np.eye(both.sum()) / 100
    x[i + 1] = middle[both]
    for axis in (0, 1):
        j = first[full] + 2 + axis
        matrix[j, j] += 1 / LOOSE**2
        x[j] = (columns.position - problem.site)[full, axis]
    new = ~both
    matrix[first[new], first[new]] += 1 / RARE**2
    x[first[new]] = columns.count[new]
    late = first[full & ~seen] + 1
    matrix[late, late] += 1 / WAVY**2
    x[late] = middle[full & ~seen]
    priors = [prior_of(problem, name) for name in synthesis.names(len(problem.grid.focus))]
    g = np.arange(total - len(priors), total)
    matrix[g, g] += [1 / p.width**2 for p in priors]
    x[g] = state.shared - [p.mean for p in priors]
    pull = matrix @ x
    return matrix, -pull, float(x @ pull)


def options(problem: Problem, state: State) -> tuple[list[Array], list[Array]]:
    """For each column the changes (K, D) of its unknowns, and the atoms added at the bottom and at the top (K, 2)."""
    changes, ends = [], []
    ends_of = np.array(
        [(b, t) for b in range(-3, 4) for t in range(-3, 4) if abs(b + t) < 3 and abs(t - b) < 4]
    )
    for n in state.columns.count.tolist():
        if n == 0:
            ends.append(np.array([[0, 0], [0, 1]]))
            changes.append(np.array([[0.0], [1.0]]))
            continue
        allowed = ends_of[(n + ends_of.sum(1) >= 1) & (n + ends_of.sum(1) <= problem.most)]
        if n == 1:
            allowed = np.vstack([allowed, [0, -1]])
        ends.append(allowed)
        changes.append(np.column_stack([allowed.sum(1), 0.5 * (allowed[:, 1] - allowed[:, 0])]))
    return changes, ends


def occupation(state: State, quadratic: Quadratic) -> tuple[Index, Array, Array]:
    """Places of the numbers of atoms and of the middles, their mean and covariance with all else free."""
    where = np.concatenate(
        [np.arange(s.start, s.start + (1 if s.stop - s.start == 1 else 2)) for s in quadratic.slots]
    )
    everything = np.linalg.inv(quadratic.normal)
    return where, (everything @ quadratic.pull)[where], everything[np.ix_(where, where)]


def _stepped(problem: Problem, state: State, quadratic: Quadratic, *, damping: float) -> tuple[State, float]:
    """The state with the whole numbers of atoms that fit best, and all else as fits them; what it should gain.

    damping: as a share of a step of 1 atom, half a width of a prior or 0.1 Å (K. Levenberg, D. Marquardt).
    """
    widths = [prior_of(problem, name).width / STEP for name in synthesis.names(len(problem.grid.focus))]
    usual = np.concatenate(
        [*([1.0] if s.stop - s.start == 1 else [1.0, 1.0, 0.1, 0.1] for s in quadratic.slots), widths]
    )
    damped = replace(quadratic, normal=quadratic.normal + np.diag(damping / usual**2))
    after, x = _solved(problem, state, damped)
    return after, float(2 * quadratic.pull @ x - x @ quadratic.normal @ x)


def _solved(problem: Problem, state: State, quadratic: Quadratic) -> tuple[State, Array]:
    """The state with whole numbers of atoms, and the change of all unknowns."""
    where, mean, covariance = occupation(state, quadratic)
    changes, ends = options(problem, state)
    chosen = choose(mean, covariance, changes)
    x = np.zeros(len(quadratic.pull))
    x[where] = np.concatenate([c[k] for c, k in zip(changes, chosen, strict=True)])
    rest = np.setdiff1d(np.arange(len(x)), where)
    pull = quadratic.pull[rest] - quadratic.normal[np.ix_(rest, where)] @ x[where]
    x[rest] = np.linalg.solve(quadratic.normal[np.ix_(rest, rest)], pull)
    columns = state.columns
    added = np.array([e[k] for e, k in zip(ends, chosen, strict=True)])
    priors = [prior_of(problem, name) for name in synthesis.names(len(problem.grid.focus))]
    stride = np.array([p.stride for p in priors])
    shared = state.shared + np.clip(x[-len(priors) :], -stride, stride)
    shared = np.clip(shared, [p.low for p in priors], [p.high for p in priors])
    moved = np.array([x[s][2:] if s.stop - s.start > 1 else (0.0, 0.0) for s in quadratic.slots])
    after = replace(
        columns, low=columns.low - columns.layers * added[:, 0], count=columns.count + added.sum(1)
    )
    lean = np.where(
        (after.count > 0) & (columns.count > 0), after.middle - columns.middle, 0.0
    )  # the atoms that were there stay
    position = columns.position + np.clip(moved, -0.3, 0.3) + lean[:, None] * state.shared[-2:]
    return replace(state, columns=replace(after, position=position), shared=shared), x
