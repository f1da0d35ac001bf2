"""Focal series: the quick exposure for training agrees with one on the detector's own pixels, in signal and in noise."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from atomreel.prepare.scale import zoom_image
from atomreel.simulate.particles import coarser, exit_wave, random_particle
from atomreel.simulate.series import FOCUS, expose, random_shot, record


@pytest.fixture
def shot(rng):
    return replace(random_shot(rng), pixel=0.125, shifts=np.zeros((3, 2)), ramp=np.zeros(2))


def test_focus_differs_as_planned_and_the_rest_is_common(rng):
    for _ in range(50):
        made = random_shot(rng)
        focus = np.array([o.defocus for o in made.optics])
        np.testing.assert_allclose(np.diff(focus), np.diff(FOCUS))
        assert abs(focus[0] - FOCUS[0]) <= 30
        assert (
            len({(o.cs, o.c5, o.astigmatism, o.angle, o.focal_spread, o.deflection) for o in made.optics})
            == 1
        )


def test_quick_and_fine_exposures_agree(rng, shot):
    particle = random_particle(rng, radius=(7, 8), support=0.0)
    wave = exit_wave(particle, side=256, pixel=0.125)
    many = replace(shot, dose=1e7)
    fine = np.stack([zoom_image(image, 0.5) for image in record(wave, many, rng)]) * 4
    quick = expose(coarser(wave, 128), many, rng, pixel=0.25)
    # an averaged pixel lies half a fine one to the right and below: compare amplitudes of spectra
    for a, b in zip(fine, quick, strict=True):
        fa, fb = (np.abs(np.fft.rfft2(i / i.mean() - 1))[:30, :30] for i in (a, b))
        assert np.linalg.norm(fa - fb) / np.linalg.norm(fa) < 0.02
    assert quick.mean() == pytest.approx(1e7 * 0.25**2, rel=0.03)


def test_noise_is_that_of_the_dose_behind_the_detector(rng, shot):
    empty = np.ones((256, 256), dtype=np.complex64)
    few = replace(shot, dose=400.0)
    fine = np.stack([zoom_image(image, 0.5) for image in record(empty, few, rng)]) * 4
    quick = expose(empty[:128, :128], few, rng, pixel=0.25)
    power = [(np.abs(np.fft.fft2(s - s.mean())) ** 2).mean(0) for s in (fine, quick)]
    q = np.hypot(np.fft.fftfreq(128)[:, None], np.fft.fftfreq(128))
    for low, high in ((0.02, 0.1), (0.1, 0.2), (0.2, 0.3)):
        ring = (q > low) & (q < high)
        assert power[0][ring].mean() == pytest.approx(power[1][ring].mean(), rel=0.12)
    ring = (q > 0) & (q < 0.05)  # where the detector transfers nearly all, the noise is that of counting
    assert power[1][ring].mean() / 128**2 == pytest.approx(400 * 0.0625, rel=0.25)


def test_images_move_by_their_shifts_and_light_follows_its_ramp(rng, shot):
    wave = exit_wave(random_particle(rng, radius=(5, 6), support=0.0), side=128, pixel=0.25)
    shifts = np.array([[0.5, 0.0], [0.0, -0.25], [0.0, 0.0]])
    many = replace(shot, dose=1e7, pixel=0.25)
    for take in (lambda s: expose(wave, s, rng, pixel=0.25), lambda s: record(wave, s, rng)):
        still, moved = take(many), take(replace(many, shifts=shifts))
        np.testing.assert_allclose(np.roll(still[0], 2, 0), moved[0], rtol=0.02)
        np.testing.assert_allclose(np.roll(still[1], -1, 1), moved[1], rtol=0.02)
        lit = take(replace(many, ramp=np.array([0.0, 0.2])))
        there = 0.2 * (np.array([8, 119]) / 127 - 0.5)  # inside, as the detector's spread wraps at the edges
        low, high = lit[0, :8, 8].mean(), lit[0, :8, 119].mean()
        assert high / low == pytest.approx((1 + there[1]) / (1 + there[0]), rel=0.02)
