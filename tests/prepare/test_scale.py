"""Zooming keeps counts, places and tiles; the spectrum gives the spacing back."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from atomreel.prepare.scale import from_zoomed, spectral_spacing, to_zoomed, zoom_image, zoomed_shape


def blob(shape: tuple[int, int], centre: tuple[float, float], sigma: float) -> np.ndarray:
    y, x = np.mgrid[: shape[0], : shape[1]]
    return np.exp(-((y - centre[0]) ** 2 + (x - centre[1]) ** 2) / (2 * sigma**2)).astype(np.float32)


@pytest.mark.parametrize("zoom", [0.25, 0.5, 0.625])
def test_area_averaging_keeps_the_counts(zoom: float, rng: np.random.Generator) -> None:
    image = rng.poisson(0.3, (64, 96)).astype(np.float32)
    small = zoom_image(image, zoom)
    assert small.shape == zoomed_shape(image.shape, zoom)
    assert small.sum() / zoom**2 == pytest.approx(image.sum(), rel=1e-5)


def test_binning_lowers_noise_as_counting_does(rng: np.random.Generator) -> None:
    image = rng.poisson(4.0, (512, 512)).astype(np.float32)
    assert zoom_image(image, 0.25).std() == pytest.approx(2 / 4, rel=0.03)


@settings(max_examples=25, deadline=None)
@given(zoom=st.floats(0.2, 3.0), y=st.floats(30, 50), x=st.floats(30, 60))
def test_a_blob_lies_where_the_coordinates_say(zoom: float, y: float, x: float) -> None:
    zoomed = zoom_image(blob((80, 96), (y, x), 6.0), zoom)
    rows, cols = np.mgrid[: zoomed.shape[0], : zoomed.shape[1]]
    found = np.array([(rows * zoomed).sum(), (cols * zoomed).sum()]) / zoomed.sum()
    assert from_zoomed(found, zoom) == pytest.approx((y, x), abs=0.05)
    assert from_zoomed(to_zoomed(np.array([y, x]), zoom), zoom) == pytest.approx((y, x))


@pytest.mark.parametrize("zoom", [0.31, 0.8, 1.0, 1.7])
def test_a_tile_is_a_cut_from_the_whole(zoom: float, rng: np.random.Generator) -> None:
    image = rng.random((90, 70)).astype(np.float32)
    whole = zoom_image(image, zoom)
    assert np.array_equal(zoom_image(image, zoom, rows=(5, 20), cols=(3, 17)), whole[5:20, 3:17])


def test_zoom_one_changes_nothing(rng: np.random.Generator) -> None:
    image = rng.random((17, 23)).astype(np.float32)
    assert np.array_equal(zoom_image(image, 1.0), image)


def test_pixels_without_a_value_do_not_spread() -> None:
    image = np.full((32, 32), 2.0, dtype=np.float32)
    image[3, 4], image[20, 20] = np.nan, np.inf
    assert np.array_equal(zoom_image(image, 0.5), np.full((16, 16), 2.0, dtype=np.float32))


@settings(max_examples=20, deadline=None)
@given(spacing=st.floats(4.0, 25.0), angle=st.floats(0, np.pi), seed=st.integers(0, 1000))
def test_the_spectrum_gives_the_spacing_back(spacing: float, angle: float, seed: int) -> None:
    y, x = np.mgrid[:256, :256]
    wave = np.cos(2 * np.pi * (x * np.cos(angle) + y * np.sin(angle)) / spacing)
    noisy = wave + np.random.default_rng(seed).normal(0, 2, wave.shape) + 0.02 * x
    found = spectral_spacing(noisy)
    assert found.spacing == pytest.approx(spacing, rel=0.06)
    assert found.strength > 6.5


def test_noise_has_no_spacing(rng: np.random.Generator) -> None:
    strengths = [spectral_spacing(rng.normal(0, 1, (256, 256))).strength for _ in range(20)]
    assert max(strengths) < 5
    assert spectral_spacing(np.zeros((64, 64))).strength < 5
