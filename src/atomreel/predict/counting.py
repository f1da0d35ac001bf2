"""Atoms per column by analysis and synthesis: the particle whose computed images are those that were recorded.

A first guess of columns and heights is refined together with the optics, the thermal blur and the tilt, all unknowns at
once: a misjudged blur then no longer makes all columns too high or too low.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from scipy.spatial import cKDTree

from atomreel.core.errors import InputError
from atomreel.predict import synthesis
from atomreel.predict.adjust import (
    LOOSE,
    PRIORS,
    Problem,
    Quadratic,
    State,
    fit,
    occupation,
    options,
    prior_of,
)
from atomreel.predict.integers import shares
from atomreel.predict.stacking import ZONES, Stack, empty_sites, find_stack
from atomreel.predict.synthesis import Columns, Grid
from atomreel.predict.whitened import Noise, Recorded, record
from atomreel.simulate.particles import CONSTANTS
from atomreel.simulate.series import FOCUS

Array = npt.NDArray[np.float64]
Index = npt.NDArray[np.int64]
MARGIN = 5.5  # Å around the columns: fringes reach so far
LARGEST = 60.0  # Å: larger fields are not tried
UNEXPLAINED = 0.06  # of the power of the contrast: a fit that leaves more is not believed
FAINT = 20.0  # times the noise of χ²: a particle's least contrast
MEMBERS = 0.9  # least share of columns on the lattice
NEAR = 3.2  # Å: neighbours


@dataclass(frozen=True)
class Refined:
    """position, error: (M, 2) [px], 1σ. count: (M,) atoms. probability: (M, most) of 1 … most atoms; rows sum to 1 less the
    probability that there is no column. source: (M,) row of the given columns, −1 where one was overlooked. optics: by the
    names of `synthesis.names`. misfit: χ² per degree of freedom. unexplained: share of the contrast's power that is left
    beyond noise. trouble: why the result must not be used, empty where it may."""

    position: Array
    error: Array
    count: Index
    probability: Array
    source: Index
    optics: Mapping[str, float]
    misfit: float
    unexplained: float
    trouble: str


def refine_heights(
    series: npt.ArrayLike,
    columns: npt.ArrayLike,
    heights: npt.ArrayLike,
    *,
    pixel: float,
    dose: float = np.nan,
    level: float = np.nan,
    element: str = "Au",
    voltage: float = 300.0,
    defocus: Sequence[float] = FOCUS,
    most: int = 12,
) -> Refined:
    """Heights of columns (N, 2) [px] of a focal series (F, Y, X), from a first guess `heights` (N,), mostly right to one.

    pixel: [Å]. dose: [e/Å² and image]. level: of the vacuum above the detector's offset [grey values]; NaN: not known.
    defocus: nominal, underfocus positive [Å]. most: atoms that a column may have. The guess comes back, with `trouble`
    in words, where there is no fcc lattice along ⟨110⟩, ⟨100⟩ or ⟨111⟩ or the images are not explained.
    Raises InputError.
    """
    images, at = np.asarray(series, dtype=float), np.asarray(columns, dtype=float).reshape(-1, 2)
    guess = np.clip(np.asarray(heights, dtype=np.int64), 1, most)
    if images.ndim != 3 or len(images) != len(defocus) or guess.shape != at.shape[:1]:
        raise InputError(
            f"series {images.shape}, {len(defocus)} defoci, columns {at.shape} and heights {guess.shape}: expected "
            "(F, Y, X) with F defoci, and one height per column"
        )
    stack = find_stack(at * pixel, CONSTANTS[element])
    if stack is None or stack.member.mean() < MEMBERS:
        return _unchanged(at, guess, most, "the columns lie on no fcc lattice along ⟨110⟩, ⟨100⟩ or ⟨111⟩")
    recorded = record(images, at[stack.member], pixel=pixel, margin=MARGIN)
    grid = Grid(recorded.side * pixel, tuple(map(float, defocus)), voltage, element)
    if grid.side > LARGEST:
        return _unchanged(at, guess, most, f"the particle is larger than {LARGEST - 2 * MARGIN:g} Å")
    free = empty_sites(stack)
    source = np.concatenate([np.flatnonzero(stack.member), np.full(len(free), -1)])
    fits = []
    for sense in (1, -1) if ZONES[stack.zone].layers > 2 else (1,):
        problem, start = _begin(stack, at * pixel, guess, grid=grid, recorded=recorded, sense=sense)
        problem = replace(problem, counts=dose * pixel**2, level=level, most=most)
        fits.append((problem, *fit(problem, start)))
    problem, state, quadratic = min(fits, key=lambda f: f[2].cost)
    return _refined(problem, state, quadratic, source)


def _unchanged(at: Array, guess: Index, most: int, why: str) -> Refined:
    unknown = np.full(at.shape, np.nan)
    return Refined(at, unknown, guess, np.eye(most)[guess - 1], np.arange(len(at)), {}, np.nan, np.nan, why)


def _begin(
    stack: Stack, at: Array, guess: Index, *, grid: Grid, recorded: Recorded, sense: int
) -> tuple[Problem, State]:
    """Columns with their middles near z = 0, and the empty sites around them; sense: of the order of layers."""
    zone, free, corner = ZONES[stack.zone], empty_sites(stack), recorded.corner * recorded.pixel
    step = zone.step * CONSTANTS[grid.element]
    site = np.concatenate([stack.site[stack.member], free])
    seen = np.arange(len(site)) < int(stack.member.sum())
    count = np.concatenate([guess[stack.member], np.zeros(len(free), dtype=np.int64)])
    layer = sense * stack.layer(site) % zone.layers
    tall = zone.layers * (np.maximum(count, 1) - 1)
    low = layer + zone.layers * np.rint((-0.5 * tall - layer) / zone.layers).astype(np.int64)
    ideal = stack.place(site) - corner
    position = np.concatenate([at[stack.member] - corner, ideal[~seen]])
    pairs = cKDTree(ideal[seen]).query_pairs(NEAR, output_type="ndarray")
    bond = np.zeros((len(site), len(site)))
    np.add.at(bond, (pairs[:, 0], pairs[:, 0]), 1.0)
    np.add.at(bond, (pairs[:, 1], pairs[:, 1]), 1.0)
    bond[pairs[:, 0], pairs[:, 1]] = bond[pairs[:, 1], pairs[:, 0]] = -1.0
    problem = Problem(grid, recorded, ideal, seen, bond, PRIORS, np.nan, np.nan, 12)
    shared = np.array([prior_of(problem, name).mean for name in synthesis.names(len(grid.focus))])
    return problem, State(
        Columns(position, low, count, zone.layers, step), shared, Noise(1.0, np.ones(3), 1.0)
    )


def _refined(problem: Problem, state: State, quadratic: Quadratic, source: Index) -> Refined:
    freedom = quadratic.slopes.shape[1] - len(quadratic.pull)
    misfit = quadratic.chi2 / freedom
    unexplained = max(quadratic.chi2 - freedom, 0.0) / max(quadratic.power - freedom, 1e-9)
    _, mean, covariance = occupation(state, quadratic)
    changes, ends = options(problem, state)
    still = np.array([int(np.flatnonzero((e == 0).all(1))[0]) for e in ends])
    parts = shares(mean, covariance * max(misfit, 1.0), changes, first=still, rng=np.random.default_rng(0))
    probability = np.zeros((len(ends), problem.most + 1))
    for i, (e, p) in enumerate(zip(ends, parts, strict=True)):
        np.add.at(probability[i], state.columns.count[i] + e.sum(1), p)
    kept = probability[:, 0] < 0.5
    count = probability[kept, 1:].argmax(1) + 1
    pixel = problem.recorded.pixel
    position = state.columns.position[kept] / pixel + problem.recorded.corner
    width = np.sqrt(np.diag(np.linalg.inv(quadratic.normal)) * max(misfit, 1.0))
    error = np.array([width[s][2:] if s.stop - s.start > 1 else (LOOSE, LOOSE) for s in quadratic.slots])
    optics = dict(zip(synthesis.names(len(problem.grid.focus)), state.shared.tolist(), strict=True))
    trouble = ""
    if quadratic.power - freedom < FAINT * np.sqrt(2 * freedom) or not kept.any():
        trouble = "the images show no particle beyond their noise"
    elif unexplained > UNEXPLAINED:
        trouble = f"{100 * unexplained:.0f} % of the contrast is not explained by a clean particle"
    likely = probability[kept, 1:]
    return Refined(
        position, error[kept] / pixel, count, likely, source[kept], optics, misfit, unexplained, trouble
    )
