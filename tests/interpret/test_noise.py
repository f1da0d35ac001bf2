"""Noise measured on images whose noise is known."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from atomreel.interpret.noise import correlation_factors, fit_noise, guess_noise, loudness


@pytest.mark.parametrize(("gain", "readout", "offset"), [(1.0, 0.0, 0.0), (12.0, 8.0, 300.0)])
def test_gain_and_variance(rng, gain, readout, offset):
    mean = np.tile(np.linspace(2, 60, 300), (200, 1))
    image = gain * rng.poisson(mean) + rng.normal(0, readout or 1e-9, mean.shape) + offset
    level = gain * mean + offset
    noise = fit_noise((image - level).ravel(), level.ravel())
    assert noise.gain == pytest.approx(gain, rel=0.05)
    expected = gain**2 * mean + readout**2
    assert noise.variance(level)[0, [20, 280]] == pytest.approx(expected[0, [20, 280]], rel=0.15)
    guess, _ = guess_noise(image, blur=1.5)
    assert guess.gain == pytest.approx(gain, rel=0.2)


def test_gaussian_noise_has_no_gain(rng):
    level = np.tile(np.linspace(0, 5, 300), (200, 1))
    noise = fit_noise(rng.normal(0, 0.5, level.size), level.ravel())
    assert noise.gain == 0
    assert noise.zero == pytest.approx(0.25, rel=0.05)


def test_correlation_factor_is_the_variance_of_a_projection(rng):
    """Against brute force: the scatter of Σ F·noise over many places."""
    y, x = np.mgrid[-8:9, -8:9]
    profile = np.exp(-(y**2 + x**2) / 8.0)[None]
    white = rng.standard_normal((256, 256))
    smooth = ndimage.gaussian_filter(white, 1.0, mode="wrap")
    found = correlation_factors(
        smooth, rng.standard_normal((256, 256)), profile, centre=np.array([128.0, 128.0])
    )
    scatter = ndimage.correlate(smooth, profile[0], mode="wrap").var()
    assert found[0] == pytest.approx(scatter / (profile**2).sum(), rel=0.15)


def test_loudness_finds_misfit(rng):
    scaled = rng.standard_normal((128, 128))
    scaled[60:68, 60:68] += 4
    loud = loudness(scaled, 2.0)
    assert loud[64, 64] > 2
    assert np.mean(loud > 1) < 0.03
