"""What an electron is worth, measured on series whose gain is known: particles, doses, detectors, rounding, ramps."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from atomreel.core.errors import InputError
from atomreel.interpret.vacuum import vacuum_level
from atomreel.simulate.detector import apply_mtf
from atomreel.simulate.particles import exit_wave, random_particle
from atomreel.simulate.series import random_shot, record

PIXEL = 0.12


def random_detector(rng):
    return {"c1": rng.uniform(0, 0.1), "c2": rng.uniform(0.4, 0.6), "c3": rng.uniform(2, 3)}


def made_series(rng, dose, *, side=320, pixel=PIXEL, gain=1.0, offset=0.0, contrast=0.3, ramp=0.0):
    """Fringes of two spacings and their harmonic in a disc of 60 % of the field, another phase in each image."""
    y, x = (np.mgrid[:side, :side] - side / 2) * pixel
    disc = 1 / (1 + np.exp((np.hypot(y, x) - 0.3 * side * pixel) / 0.3))
    detector = random_detector(rng)
    images = []
    for phase in (0.3, 1.5, 2.9):
        waves = [
            np.cos(2 * np.pi * q * (x * c + y * s) + phase) for q, c, s in ((0.43, 0.8, 0.6), (0.86, 0, 1))
        ]
        mean = 1 + contrast * disc * (waves[0] + waves[1]) + ramp * x / (side * pixel)
        images.append(apply_mtf(rng.poisson(dose * pixel**2 * np.maximum(mean, 0)), **detector))
    return offset + gain * np.array(images, dtype=float)


@pytest.mark.parametrize("dose", [100.0, 10_000.0])
def test_gain_of_fringes_in_vacuum_and_its_error(dose):
    found = []
    for seed in range(16):
        rng = np.random.default_rng([7, seed])
        gain, offset = rng.uniform(5, 60), rng.uniform(-200, 800)
        series = made_series(rng, dose, gain=gain, offset=offset)
        level, error = vacuum_level(series, pixel=PIXEL, dose=dose)
        found.append((level / (gain * dose * PIXEL**2) - 1, error))
    off, error = np.array(found).T
    assert abs(off.mean()) < 0.01
    assert np.sqrt(np.mean(off**2)) < 0.025
    assert 0.6 < np.sqrt(np.mean((off / error) ** 2)) < 1.4
    assert np.mean(np.abs(off) < 2 * error) > 0.85


@pytest.mark.parametrize("dose", [300.0, 8000.0])
def test_particle_by_multislice(rng, dose):
    wave = exit_wave(random_particle(rng, radius=(7, 8), support=0.0), side=320, pixel=PIXEL)
    found = []
    for _ in range(3):
        shot = replace(random_shot(rng), pixel=PIXEL, dose=dose)
        series = np.rint(400 + 25 * record(wave, shot, rng)).clip(0).astype(np.uint16)
        found.append(vacuum_level(series, pixel=PIXEL, dose=dose))
    level, error = np.array(found).T
    off = level / (25 * dose * PIXEL**2) - 1
    assert np.all(error < 0.03)
    assert np.all(np.abs(off) < 3 * error)
    assert np.abs(off).mean() < 0.025


def test_gain_scales_and_offset_does_not_matter(rng):
    series = made_series(rng, 1000.0) + 0.25
    level, error = vacuum_level(series, pixel=PIXEL, dose=1000.0)
    other, same = vacuum_level(7 * series - 300, pixel=PIXEL, dose=1000.0)
    assert other == pytest.approx(7 * level, rel=1e-3)
    assert same == pytest.approx(error, rel=1e-2)


def test_rounding_to_whole_numbers_is_taken_off(rng):
    """Two grey values an electron, one and a half electrons a pixel: a sixteenth of the noise at Nyquist is rounding."""
    off = []
    for _ in range(8):
        series = np.rint(made_series(rng, 100.0, gain=2.0, offset=50.0)).astype(np.uint16)
        off.append(vacuum_level(series, pixel=PIXEL, dose=100.0)[0] / (200 * PIXEL**2) - 1)
    assert abs(np.mean(off)) < 0.012


def test_uneven_light_changes_little(rng):
    off = []
    for _ in range(8):
        series = made_series(rng, 2000.0, ramp=0.3)
        off.append(vacuum_level(series, pixel=PIXEL, dose=2000.0)[0] / (2000 * PIXEL**2) - 1)
    assert abs(np.mean(off)) < 0.015


def test_coarse_pixels_leave_a_larger_error(rng):
    """At 0.25 Å nothing lies beyond the lattice: only the vacuum speaks, and of a flatter part of the transfer."""
    fine = vacuum_level(made_series(rng, 1000.0, side=400), pixel=PIXEL, dose=1000.0)
    series = made_series(rng, 1000.0, side=192, pixel=0.25)
    level, error = vacuum_level(series, pixel=0.25, dose=1000.0)
    assert error > 1.5 * fine[1]
    assert abs(level / (1000 * 0.25**2) - 1) < 3 * error


def test_input_stays_as_it_was(rng):
    series = made_series(rng, 1000.0)
    before = series.copy()
    vacuum_level(series, pixel=PIXEL, dose=1000.0)
    np.testing.assert_array_equal(series, before)


@pytest.mark.parametrize("level", [0.0, 12345.0])
def test_no_noise_cannot_be_told(level):
    found, error = vacuum_level(np.full((3, 128, 128), level), pixel=PIXEL, dose=1000.0)
    assert np.isnan(found)
    assert error == np.inf


@pytest.mark.parametrize(
    ("shape", "pixel", "dose", "message"),
    [
        ((128, 128), 0.1, 100.0, "two images or more"),
        ((1, 128, 128), 0.1, 100.0, "two images or more"),
        ((3, 128, 60), 0.1, 100.0, "96 × 96"),
        ((3, 128, 128), 0.0, 100.0, "pixel = 0.0"),
        ((3, 128, 128), 0.1, -5.0, "dose = -5.0"),
        ((3, 128, 128), 0.1, np.nan, "dose = nan"),
    ],
)
def test_bad_input_is_named(rng, shape, pixel, dose, message):
    with pytest.raises(InputError, match=message):
        vacuum_level(rng.normal(size=shape), pixel=pixel, dose=dose)


def test_missing_values_are_refused(rng):
    series = rng.normal(size=(3, 128, 128))
    series[1, 5, 5] = np.nan
    with pytest.raises(InputError, match="finite"):
        vacuum_level(series, pixel=0.1, dose=100.0)
