"""Noise measured on images whose noise is known."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from atomreel.interpret.noise import correlation_factors, fit_noise, guess_noise, quiet


@pytest.mark.parametrize(("gain", "readout", "offset"), [(1.0, 0.0, 0.0), (12.0, 8.0, 300.0)])
def test_gain_and_variance(rng, gain, readout, offset):
    mean = np.tile(np.linspace(2, 60, 300), (200, 1))
    image = gain * rng.poisson(mean) + rng.normal(0, readout or 1e-9, mean.shape) + offset
    level = gain * mean + offset
    noise = fit_noise((image - level).ravel(), level.ravel())
    assert noise.gain == pytest.approx(gain, rel=0.05)
    expected = gain**2 * mean + readout**2
    assert noise.variance(level)[0, [20, 280]] == pytest.approx(expected[0, [20, 280]], rel=0.15)
    guess = guess_noise(image, ndimage.gaussian_filter(image, 1.5), blur=1.5)
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


@pytest.mark.parametrize("blur", [1.2, 2.0])
@pytest.mark.parametrize("shape", [(128, 128), (131, 127)])
def test_misfit_is_not_quiet(rng, blur, shape):
    scaled = rng.standard_normal(shape)
    scaled[60:68, 60:68] += 4
    calm = quiet(scaled, blur)
    assert calm.shape == shape
    assert not calm[62:66, 62:66].any()
    assert calm[:50].mean() > 0.97
    wide = quiet(scaled, blur, reach=8)
    assert not wide[56:72, 56:72].any() and wide.sum() < calm.sum()


def test_nothing_seen_is_quiet():
    assert quiet(np.zeros((20, 21)), 2.0).all()
