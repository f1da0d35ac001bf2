"""Parts of the joint fit: first width, the sample that teaches the shape, stripes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from atomreel.interpret.background import count_knots
from atomreel.interpret.equations import Problem, draw_whole, equations, look, start_state
from atomreel.interpret.fit import (
    advance,
    first_noise,
    fit,
    guess_width,
    is_striped,
    learn,
    sample_part,
    settle,
    start_from,
)
from atomreel.interpret.peaks import round_shape


def problem(rng, *, cells=12, spacing=14.0, sigma=2.5, noise=0.1, stripes=0.0):
    size = (int(cells * spacing),) * 2
    y, x = np.mgrid[: size[0], : size[1]]
    points = spacing * (np.stack(np.mgrid[:cells, :cells], -1).reshape(-1, 2) + 0.5)
    points = points + rng.uniform(-1, 1, points.shape)
    data = sum(np.exp(-((y - a) ** 2 + (x - b) ** 2) / (2 * sigma**2)) for a, b in points)
    data = data + rng.normal(0, noise, size) + rng.normal(0, stripes, (size[0], 1))
    return Problem(
        data=data.astype(np.float32),
        seen=np.ones(size, bool),
        start=points,
        near=np.full(len(points), spacing),
        spacing=spacing,
        knots=count_knots(size, 3 * spacing),
        tall=1.0,
    )


def test_width_is_found_and_refined(rng):
    given = problem(rng)
    guess = guess_width(given)
    assert guess == pytest.approx(2.5, rel=0.25)
    assert fit(given, 1.4 * guess).shape.width == pytest.approx(2.5, rel=0.08)


def test_sample_is_a_part_of_many_columns(rng):
    few = problem(rng, cells=10)
    assert sample_part(few) is few
    part = sample_part(problem(rng, cells=34, spacing=8.0))
    assert 300 < len(part.start) < 700
    assert part.data.shape[0] < 34 * 8


@pytest.mark.parametrize(("stripes", "expected"), [(0.0, False), (0.3, True)])
def test_stripes_are_noticed(rng, stripes, expected):
    given = problem(rng, stripes=stripes)
    state = fit(given, 2.5)
    assert state.striped is expected
    assert is_striped(look(given, state)) is False


def test_columns_of_which_only_the_tail_is_seen_do_not_run_away(rng):
    """Cut the image 3.2 σ beside a row of columns: their heights stay in proportion, and so does the shape."""
    whole = problem(rng, sigma=3.2, noise=0.4)
    cut = round(14.0 * 1.5 + 3.2 * 3.2)
    given = replace(whole, data=whole.data[cut:], seen=whole.seen[cut:], start=whole.start - (cut, 0))
    given = replace(given, knots=count_knots(given.data.shape, 42.0))
    given = replace(given, start=given.start[12:], near=given.near[12:])
    assert (given.start[:12, 0] < -2.5 * 3.2).all()
    state = fit(given, 2.6)
    assert state.heights.max() < 4
    assert state.shape.width == pytest.approx(3.2, rel=0.15)
    assert np.median(np.hypot(*(state.positions - given.start)[12:].T)) < 1.0


@pytest.mark.parametrize("guess", [2.5, 5.0])
def test_shape_does_not_overshoot_where_columns_overlap(rng, guess):
    """A full step of width, skirt, heights and background together is worse than none; the damped one is not."""
    given = problem(rng, cells=10, spacing=10.0, sigma=3.5, noise=0.3)
    noise, weight = first_noise(given, guess)
    state = start_state(given, round_shape(guess), noise)
    view = look(given, state, weight=weight)
    state, _ = advance(given, state, view, matrix=equations(given, state, view))
    view = look(given, state, weight=weight, learn_shape=True)
    matrix = equations(given, state, view)

    def misfit(at):
        return float((weight * (given.data - draw_whole(given, at)) ** 2).sum())

    assert misfit(advance(given, state, view, matrix=matrix)[0]) > 1.05 * misfit(state)
    assert misfit(learn(given, state, view, matrix=matrix)[0]) < misfit(state)


def settled(given, shape):
    state, moved, view = start_from(given, shape)
    return settle(given, state, moved, view=view)


def test_settled_fit_ends_where_the_gradient_is_zero(rng):
    """Stopped early is not stopped short: from far and from near, the same optimum."""
    given = problem(rng, cells=10, spacing=10.0, sigma=2.6, noise=0.05)
    far = replace(given, start=given.start + rng.normal(0, 0.5, given.start.shape))
    shape = round_shape(2.6)
    here, view, matrix = settled(given, shape)
    there = settled(far, shape)[0]
    sd = np.sqrt(matrix.normal.own_inverse[:, [1, 2], [1, 2]])
    assert np.quantile(abs(here.positions - there.positions) / sd, 0.9) < 0.4
    gradient = view.right[: 3 * len(sd)].reshape(-1, 3)[:, 1:]
    assert np.quantile(abs(gradient) * sd, 0.9) < 0.1
