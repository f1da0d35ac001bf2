"""Coefficients and noise of a series made by hand: cosines of known amplitude behind a known detector."""

from __future__ import annotations

import numpy as np
import pytest

from atomreel.predict.synthesis import Grid
from atomreel.predict.whitened import coefficients, measure_noise, record
from atomreel.simulate.detector import add_counts, apply_mtf

PIXEL, LEVEL = 0.12, 400.0
MTF = {"c1": 0.05, "c2": 0.5, "c3": 2.4}


def series(rng, contrast=0.2):
    """(3, 200, 200): vacuum of 400 counts and a cosine of period 2 Å along x that the square holds whole times."""
    x = np.arange(200) * PIXEL
    clean = LEVEL * (1 + contrast * np.cos(2 * np.pi * x / 2.0)) * np.ones((3, 200, 1))
    return np.stack([3 * apply_mtf(add_counts(image, rng), **MTF) + 50 for image in clean])


def test_amplitude_and_noise(rng):
    images = series(rng)
    recorded = record(images, np.array([[20.0, 20.0], [170.0, 170.0]]), pixel=PIXEL, margin=0.0)
    assert recorded.side == 150 and recorded.corner.tolist() == [20, 20]
    grid = Grid(recorded.side * PIXEL, (-170.0, -40.0, 90.0), 300.0, "Au")
    noise = measure_noise(recorded, grid, None, model=None, counts=LEVEL, level=3 * LEVEL)
    assert noise.power == pytest.approx(9 * LEVEL, rel=0.06)
    q = np.array([0.05, 0.1, 0.2, 0.4])
    true = (1 - 0.05) / (1 + (q / 0.5) ** 2.4) + 0.05
    assert noise.transfer(q) == pytest.approx(true, rel=0.05)
    found, weight = coefficients(recorded, grid, noise)
    at = np.argmin(np.hypot(grid.at[0], grid.at[1] - 0.5))
    assert np.abs(found[:, at]) == pytest.approx(0.1, rel=0.03)
    rest = np.delete(found, at, axis=1) * weight
    assert rest.real.std() == pytest.approx(1, abs=0.08) and rest.imag.std() == pytest.approx(1, abs=0.08)
    model = np.zeros_like(found)
    model[:, at] = found[:, at]
    again = measure_noise(recorded, grid, noise, model=model, counts=LEVEL, level=np.nan)
    assert again.power == pytest.approx(9 * LEVEL, rel=0.06) and again.level == pytest.approx(
        3 * LEVEL, rel=0.03
    )


def test_beyond_the_border_is_vacuum(rng):
    images = series(rng)
    recorded = record(images, np.array([[2.0, 2.0], [60.0, 50.0]]), pixel=PIXEL, margin=4.0)
    square = np.fft.irfft2(recorded.spectra, s=(recorded.side, recorded.side))
    assert recorded.corner.min() < 0 and np.abs(square[:, : -recorded.corner[0]]).max() < 1e-6
    assert recorded.mean == pytest.approx(images.mean(), rel=0.05)
