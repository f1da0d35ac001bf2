"""One look at a model: its gradient against finite differences, other weights, and what neighbours share."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from atomreel.interpret.background import count_knots
from atomreel.interpret.equations import (
    Problem,
    at_weights,
    equations,
    look,
    renewed,
    start_state,
    weighed,
)
from atomreel.interpret.noise import Noise
from atomreel.interpret.peaks import Shape

SHAPE = Shape(yy=0.2, xx=0.24, yx=0.02, skirt=0.1)


@pytest.fixture
def looked_at(rng):
    size = (50, 60)
    points = 7.0 * (np.stack(np.mgrid[:6, :7], -1).reshape(-1, 2) + 0.7) + rng.uniform(-0.6, 0.6, (42, 2))
    problem = Problem(
        data=rng.normal(0.5, 0.3, size).astype(np.float32),
        seen=rng.random(size) > 0.05,
        start=points,
        near=np.full(42, 7.0),
        spacing=7.0,
        knots=count_knots(size, 21.0),
        tall=1.0,
    )
    state = start_state(problem, SHAPE, Noise(0.1, 0.2, 0.01))
    state = replace(
        state,
        heights=rng.uniform(0.5, 1.5, 42),
        guess=None,
        knots=rng.uniform(0, 0.3, len(state.knots)),
        positions=points + rng.normal(0, 0.2, points.shape),
    )
    return problem, state, rng.uniform(0.5, 2.0, size)


def energy(problem, state, weight):
    """½ Σ W·r² and the priors: positions worth σ = 0.12 nearest-neighbour distances, heights one of 3 about their median."""
    view = look(problem, state, weight=weight)
    away = ((state.positions - problem.start) / (0.12 * problem.near[:, None])) ** 2
    tall = ((state.heights - np.median(state.heights)) / 3.0) ** 2
    return 0.5 * (float((view.weight * view.residual.astype(float) ** 2).sum()) + away.sum() + tall.sum())


def test_right_side_is_minus_the_gradient(looked_at):
    problem, state, weight = looked_at
    right = look(problem, state, weight=weight).right
    off_edge = np.abs(state.positions % 1 - 0.5).min(1) > 0.05  # where no window jumps by a pixel
    for column, axis in [(k, k % 2) for k in np.flatnonzero(off_edge)[::4]]:
        step = np.zeros_like(state.positions)
        step[column, axis] = 1e-2
        up, down = (replace(state, positions=state.positions + s * step) for s in (1, -1))
        slope = (energy(problem, up, weight) - energy(problem, down, weight)) / 2e-2
        assert right[3 * column + 1 + axis] == pytest.approx(-slope, rel=0.02, abs=0.05)
    knot = np.zeros_like(state.knots)
    knot[4] = 1e-2
    up, down = (replace(state, knots=state.knots + s * knot) for s in (1, -1))
    slope = (energy(problem, up, weight) - energy(problem, down, weight)) / 2e-2
    assert right[3 * 42 + 4] == pytest.approx(-slope, rel=0.02, abs=0.05)


@pytest.mark.parametrize("striped", [False, True])
def test_other_weights_need_no_other_look(looked_at, striped):
    problem, state, weight = looked_at
    state = replace(state, striped=striped)
    view = weighed(problem, state, look(problem, state), weight=weight)
    fresh = look(problem, state, weight=weight)
    for name in ("residual", "rows", "weight", "right"):
        assert getattr(view, name) == pytest.approx(getattr(fresh, name), rel=1e-3, abs=2e-4), name


def test_products_follow_the_weights(looked_at):
    """For weights that differ smoothly the old products, reweighted, are nearly the new ones."""
    problem, state, _ = looked_at
    slope = np.linspace(1, 2, 60)[None, :] * np.ones((50, 1))
    plain = replace(problem, seen=np.ones((50, 60), bool))
    old = equations(plain, state, look(plain, state, weight=np.ones((50, 60)))).overlap
    view = look(plain, state, weight=slope)
    new, reused = equations(plain, state, view).overlap, at_weights(view, old)
    for name, part in (("own", np.s_[:, 0, 0]), ("flat", np.s_[:, 0]), ("blocks", np.s_[:, 0, 0])):
        fresh, again, before = (getattr(o, name)[part] for o in (new, reused, old))
        assert np.abs(again - fresh).max() < 0.04 * fresh.max(), name
        assert np.abs(before - fresh).max() > 0.2 * fresh.max(), name


def test_equations_renewed_are_those_of_the_new_heights(looked_at, rng):
    problem, state, weight = looked_at
    matrix = equations(problem, state, look(problem, state, weight=weight))
    other = replace(state, heights=state.heights * rng.uniform(0.01, 3, 42))
    fresh = equations(problem, other, look(problem, other, weight=weight)).normal
    again = renewed(problem, other, matrix).normal
    v = rng.standard_normal(3 * 42 + len(state.knots))
    assert again.times(v) == pytest.approx(fresh.times(v), rel=1e-4, abs=1e-3)
    assert again.own_inverse == pytest.approx(fresh.own_inverse, rel=1e-4, abs=1e-6)
