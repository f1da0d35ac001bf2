"""Heights from images that the simulator made with its own multislice, from wrong starts."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.spatial import cKDTree

from atomreel.core.errors import InputError
from atomreel.predict.counting import refine_heights
from atomreel.simulate.hrtem import Optics
from atomreel.simulate.particles import coarser, exit_wave, random_particle
from atomreel.simulate.series import FOCUS, Shot, record

PIXEL, SIDE = 0.12, 260
MTF = {"c1": 0.04, "c2": 0.5, "c3": 2.5}


def made(seed: int, *, dose: float, tilt: float = 0.0, contrast: float = 1.0):
    """Series of a small particle, true positions [px] and heights; focus, blur, tilt and optics drawn at random.

    contrast: share of the electrons that see the particle.
    """
    rng = np.random.default_rng([5, seed])
    particle = random_particle(rng, tilt=(tilt, tilt), radius=(6, 7.5), thickest=7, support=0.0)
    common = (float(rng.uniform(-19, -11)), 1.0, float(rng.uniform(0, 8)), float(rng.uniform(-180, 180)))
    spread, shake = float(rng.uniform(22, 38)), float(rng.uniform(0, 0.2))
    offset = float(rng.uniform(-20, 20))
    optics = tuple(Optics(300.0, f + offset, *common, spread, shake) for f in FOCUS)
    shot = Shot(optics, dose / 3, PIXEL, MTF, rng.normal(0, 0.05, (3, 2)), np.zeros(2))
    thermal = float(rng.uniform(0.05, 0.09))
    wave = exit_wave(particle, side=432, pixel=SIDE * PIXEL / 432, thermal=thermal, slice_thickness=1.2)
    wave = coarser(wave, SIDE)
    counts = record(wave, replace(shot, dose=contrast * shot.dose), rng)
    counts += record(np.ones_like(wave), replace(shot, dose=(1 - contrast) * shot.dose), rng)
    series = 1.7 * counts + 20
    return series, particle.columns / PIXEL + SIDE / 2, particle.heights, 1.7 * shot.dose * PIXEL**2


def wrong(at, heights, rng, *, share: float):
    """`share` of the columns off by one, all one way, positions off by 0.1 Å, one column missing."""
    heights = np.maximum(heights + int(rng.choice([-1, 1])) * (rng.random(len(heights)) < share), 1)
    keep = np.arange(len(at)) != rng.integers(len(at))
    return (at + rng.normal(0, 0.1 / PIXEL, at.shape))[keep], heights[keep]


@pytest.mark.parametrize(("tilt", "dose"), [(0.0, 30_000.0), (1.5, 10_000.0)])
def test_heights_from_a_wrong_start(tilt, dose):
    series, true, heights, level = made(1, dose=dose, tilt=tilt)
    at, guess = wrong(true, heights, np.random.default_rng(2), share=0.3)
    before = series.copy()
    found = refine_heights(series, at, guess, pixel=PIXEL, dose=dose / 3, level=level)
    np.testing.assert_array_equal(series, before)
    assert not found.trouble and len(found.count) == len(true)
    distance, index = cKDTree(true).query(found.position)
    assert distance.max() * PIXEL < 0.15 and len(set(index)) == len(true)
    assert (found.count == heights[index]).mean() > 0.95
    assert (found.source == -1).sum() == 1 and found.probability.shape == (len(true), 12)
    assert (found.probability.sum(1) <= 1 + 1e-9).all() and found.probability.max(1).mean() > 0.9
    assert 0.9 < found.misfit < 1.15


@pytest.mark.parametrize("contrast", [0.7, 0.35])
def test_contrast_lower_than_simulated_is_fitted(contrast):
    """What real images have (W. M. Stobbs's factor) neither moves the counts nor what is claimed."""
    series, true, heights, level = made(3, dose=12_000.0, contrast=contrast)
    at, guess = wrong(true, heights, np.random.default_rng(4), share=0.3)
    found = refine_heights(series, at, guess, pixel=PIXEL, dose=4000.0, level=level)
    assert not found.trouble and np.exp(found.optics["contrast"]) == pytest.approx(contrast, rel=0.06)
    index = cKDTree(true).query(found.position)[1]
    assert (found.count == heights[index]).mean() > 0.95


def test_noise_alone_is_not_believed(rng):
    _, true, heights, _ = made(1, dose=3000.0)
    noise = 60 + 8 * rng.standard_normal((3, SIDE, SIDE))
    assert refine_heights(noise, true, heights, pixel=PIXEL, dose=1000.0).trouble


def test_no_lattice_gives_the_guess_back(rng):
    at = rng.uniform(40, 200, (40, 2))
    found = refine_heights(rng.normal(100, 5, (3, SIDE, SIDE)), at, np.full(40, 3), pixel=PIXEL)
    assert "lattice" in found.trouble and (found.count == 3).all() and (found.position == at).all()


def test_input_is_checked(rng):
    with pytest.raises(InputError, match="one height per column"):
        refine_heights(np.zeros((3, 100, 100)), np.zeros((5, 2)), np.ones(4), pixel=PIXEL)
