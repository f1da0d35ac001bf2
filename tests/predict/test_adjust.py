"""The fit on a quadratic of its own: bounds of what may change, and a step that leads down."""

from __future__ import annotations

import numpy as np
import pytest

from atomreel.predict import synthesis
from atomreel.predict.adjust import PRIORS, Problem, State, fit, options, prior_of
from atomreel.predict.synthesis import Columns, Grid, column_library, exit_wave, view
from atomreel.predict.whitened import Noise, Recorded

PIXEL, STEP, SIDE = 0.12, 4.078 / 8**0.5, 180
NAMES = synthesis.names(3)


@pytest.fixture(scope="module")
def problem():
    """Thirteen columns along [110], recorded with noise of 3,000 e/Å² and image; the truth, and what is fitted."""
    rng = np.random.default_rng(3)
    grid = Grid(SIDE * PIXEL, (-170.0, -40.0, 90.0), 300.0, "Au")
    basis = 4.078 * np.array([[0.5, 0.125**0.5], [0.5, -(0.125**0.5)]])
    site = np.array([(i, j) for i in range(-2, 3) for j in range(-2, 3) if abs(i) + abs(j) < 3])
    count = rng.integers(2, 6, len(site))
    low = site.sum(1) % 2 - 2 * (count // 2)
    columns = Columns(grid.side / 2 + site @ basis, low, count, 2, STEP)
    library = column_library(grid, 9, spacing=2 * STEP, thermal2=0.006)
    shared = np.array(
        [
            {**{k: v.mean for k, v in PRIORS.items()}, "thermal2": 0.006, "focus": 4.0}.get(n, 0.0)
            for n in NAMES
        ]
    )
    coefficients = view(grid, exit_wave(grid, columns, library, thermal2=0.006), shared).coefficients
    level = 3000 * PIXEL**2
    spectra = np.fft.rfft2(np.sqrt(level) * rng.standard_normal((3, SIDE, SIDE)))
    k = np.rint(np.fft.fftfreq(grid.coarse) * grid.coarse).astype(int)[grid.rows[0]] % SIDE
    spectra[:, k, grid.rows[1]] += coefficients * SIDE**2 * level
    recorded = Recorded(spectra, np.zeros(2, dtype=np.int64), SIDE, PIXEL, level)
    bond = np.zeros((len(site), len(site)))
    known = Problem(
        grid, recorded, columns.position, np.ones(len(site), bool), bond, PRIORS, level, level, 12
    )
    return known, columns


def test_counts_and_blur_come_back(problem):
    known, true = problem
    count = true.count + (np.arange(len(true.count)) % 3 == 0)
    start = Columns(true.position + 0.05, true.low, count, 2, STEP)
    shared = np.array([prior_of(known, name).mean for name in NAMES])
    state, last = fit(known, State(start, shared, Noise(1.0, np.ones(3), 1.0)))
    np.testing.assert_array_equal(state.columns.count, true.count)
    assert last.chi2 / last.slopes.shape[1] == pytest.approx(1, abs=0.1)
    assert state.shared[NAMES.index("thermal2")] == pytest.approx(0.006, abs=0.001)
    assert state.shared[NAMES.index("focus")] == pytest.approx(4, abs=4)
    assert np.abs(state.columns.position - true.position).max() < 0.05


def test_options_keep_counts_within_bounds(problem):
    known, true = problem
    count = np.array([0, 1, 12] + [3] * 10)
    state = State(
        Columns(true.position, true.low, count, 2, STEP), np.zeros(len(NAMES)), Noise(1.0, np.ones(3), 1.0)
    )
    changes, ends = options(known, state)
    for n, change, end in zip(count, changes, ends, strict=True):
        after = n + end.sum(1)
        assert after.min() >= (0 if n < 2 else 1) and after.max() <= known.most and 0 in change[:, 0]
        np.testing.assert_array_equal(change[:, 0], end.sum(1))
    assert changes[0].shape == (2, 1) and changes[1].shape[1] == 2


def test_priors_by_name(problem):
    known, _ = problem
    assert prior_of(known, "x_2") == PRIORS["x_k"] and prior_of(known, "contrast_1") == PRIORS["contrast_k"]
    for name in NAMES:
        prior = prior_of(known, name)
        assert prior.low <= prior.mean <= prior.high and 0 < prior.step <= prior.stride
