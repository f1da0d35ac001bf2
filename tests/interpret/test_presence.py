"""Where a lattice is: edges of known place."""

from __future__ import annotations

import numpy as np
import pytest
from polycrystals import SHAPES, basis, grow

from atomreel.interpret.presence import open_spectrum, presence


@pytest.mark.parametrize(("counts", "edge"), [(40.0, 101.3), (3.0, 118.8)])
def test_half_of_the_amplitude_stands_at_the_edge(counts: float, edge: float) -> None:
    rng = np.random.default_rng(1)
    made = grow(rng, turns=(13.0,), region=lambda at: np.where(at[:, 1] < edge, 0, -1), counts=counts)
    power = presence(open_spectrum(made.image, step=4, spread=16.0), basis(SHAPES["hexagonal"], a=8, turn=13))
    x = 4 * np.arange(56) + 1.5
    share = np.sqrt(power / np.median(power[:, :15])).mean(0)
    place = float(np.interp(-0.5, -share[10:45], x[10:45]))
    assert place == pytest.approx(edge, abs=2.5)
    assert share[-8:].max() < 0.2 and np.abs(share[:15] - 1).max() < 0.1  # the border of the frame is no edge


def test_another_lattice_and_noise_are_not_it() -> None:
    rng = np.random.default_rng(2)
    made = grow(rng, turns=(13.0,), region=lambda at: np.zeros(len(at), int))
    spectrum = open_spectrum(made.image, step=4, spread=16.0)
    own = np.median(presence(spectrum, basis(SHAPES["hexagonal"], a=8, turn=13)))
    for shape, turn in (("hexagonal", 25), ("square", 13)):
        assert np.median(presence(spectrum, basis(SHAPES[shape], a=8, turn=turn))) < 0.02 * own
    noise = open_spectrum(rng.poisson(30, made.image.shape), step=4, spread=16.0)
    assert np.median(presence(noise, basis(SHAPES["hexagonal"], a=8, turn=13))) < 0.02 * own


def test_the_grid_covers_frames_of_any_size_and_missing_pixels_do_not_spread() -> None:
    image = np.random.default_rng(3).normal(size=(50, 77))
    image[3, 4] = np.nan
    spectrum = open_spectrum(image, step=6, spread=12.0)
    power = presence(spectrum, basis(SHAPES["square"], a=7, turn=3))
    assert power.shape == spectrum.grid == (9, 13) and np.isfinite(power).all() and (power >= 0).all()
