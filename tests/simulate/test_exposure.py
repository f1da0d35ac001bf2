"""Each microscope, against measurements on the image that use nothing of the code that made it."""

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter, map_coordinates

from atomreel.core.material import load_material
from atomreel.core.scope import Scope
from atomreel.simulate.exposure import EXPOSERS
from atomreel.simulate.scenes import Scene
from atomreel.simulate.structures import crystal

CALM = {"drift": 0.01, "background": 0.0, "damage": 0.0, "tail": 0.0, "jitter": 0.0, "abf": 0.0}


def scene(name, nn=14.0, size=(160, 160)):
    pattern = load_material(name).project()
    pixel = pattern.nearest / nn
    patch = crystal(pattern, (-12, -12, size[0] * pixel + 12, size[1] * pixel + 12), angle=11)
    return Scene(patch, name, "bulk", pattern.nearest, True)


def expose(kind, name, seed, **conditions):
    scope = Scope(**{**CALM, **conditions})
    return EXPOSERS[kind](scene(name), scope, np.random.default_rng(seed), nn=14.0, size=(160, 160))


def centroids(image, positions, reach):
    """Background-subtracted centre of mass in a disc around each position."""
    n = int(reach)
    y, x = np.mgrid[-n : n + 1, -n : n + 1]
    disc = np.hypot(y, x) <= reach
    found = []
    for p in positions:
        c = np.rint(p).astype(int)
        cut = image[c[0] - n : c[0] + n + 1, c[1] - n : c[1] + n + 1].astype(float)
        w = np.clip(cut - np.quantile(cut, 0.3), 0, None) * disc
        found.append([c[0] + (w * y).sum() / w.sum(), c[1] + (w * x).sum() / w.sum()])
    return np.array(found)


@pytest.mark.parametrize("seed", range(4))
def test_stem_columns_are_where_the_truth_says(seed):
    shot = expose("stem", "graphene", seed, counts=5000, fwhm=0.5)
    truth = shot.seen[shot.index]
    inner = np.all((truth > 15) & (truth < 144), axis=1)
    level = shot.image - gaussian_filter(shot.image, 14)  # slow backgrounds pull at a centre of mass
    error = centroids(level, truth[inner], 5) - truth[inner]
    assert np.abs(np.median(error, axis=0)).max() < 0.06
    assert np.abs(error).max() < 1.0


def test_counts_at_the_peak_are_the_asked_ones():
    """The brightest columns' pixel, background taken off, averages to `counts`; the noise is Poisson."""
    shots = (expose("stem", "ws2", seed, counts=200, fwhm=0.4) for seed in range(20))
    shot = next(shot for shot in shots if shot.meta["probe"].startswith("Probe"))
    truth = shot.seen[shot.index]
    bright = truth[shot.intensity > 0.9 * shot.intensity.max()]
    values = map_coordinates(shot.image, bright.T, order=1)
    floor = np.quantile(shot.image, 0.02)
    assert np.mean(values) - floor == pytest.approx(200, rel=0.15)
    assert shot.dose == 200 and shot.intensity.max() == pytest.approx(200, rel=0.02)
    ratio = shot.intensity.min() / shot.intensity.max()
    assert 2 * (16 / 74) ** 2.0 < ratio < 2 * (16 / 74) ** 1.4


def test_annular_bright_field_is_dark_and_shows_oxygen():
    shot = expose("stem", "srtio3", 5, abf=1.0, counts=3000, fwhm=0.4)
    assert not shot.bright
    truth = shot.seen[shot.index]
    labels = scene("srtio3").structure.labels[shot.index]
    assert {"Sr", "Ti", "O"} == set(labels)
    smooth = gaussian_filter(shot.image, 1.5)
    strong = truth[labels == "Sr"]
    assert np.mean(map_coordinates(smooth, strong.T, order=1)) < np.median(smooth)


@pytest.mark.parametrize("seed", range(4))
def test_hrtem_contrast_has_the_stated_sign(seed):
    shot = expose("hrtem", "ws2", seed, dose=3e4, astigmatism=0.0, voltage=80, defocus=(-200, 200))
    truth = shot.seen[shot.index][shot.snr > 3]
    assert len(truth) > 20
    inner = truth[np.all((truth > 8) & (truth < 151), axis=1)]
    local = shot.image - gaussian_filter(shot.image, 10)
    mean = np.mean(map_coordinates(gaussian_filter(local, 1), inner.T, order=1))
    assert (mean > 0) == shot.bright


def test_hrtem_mean_is_the_dose():
    shot = expose("hrtem", "graphene", 1, dose=1000.0)
    pixel = 1.4203 / 14
    assert shot.image.mean() == pytest.approx(1000 * pixel**2, rel=0.03)


def test_stm_lobes_and_noise():
    shot = expose("stm", "graphene", 2, noise=0.05, lobe=0.6)
    truth = shot.seen[shot.index]
    smooth = gaussian_filter(shot.image, 1) - gaussian_filter(shot.image, 10)
    assert np.mean(map_coordinates(smooth, truth.T, order=1) > 0) > 0.95
    assert shot.bright and np.isnan(shot.dose)


def test_the_stated_signal_to_noise_is_about_right():
    """Matched filter on many noise realisations of the same columns: mean over sd of the score, within 40 %."""
    low = [expose("stem", "graphene", seed, counts=6, fwhm=0.5, semiangle=30) for seed in range(10)]
    measured, claimed = [], []
    for shot in low:
        if "AberratedProbe" in shot.meta["probe"]:
            continue
        width = 0.5 * 14 / 2.3548
        truth = shot.seen[shot.index]
        inner = np.all((truth > 12) & (truth < 147), axis=1)
        score = gaussian_filter(shot.image.astype(float), width / np.sqrt(2) * np.sqrt(2))
        at = map_coordinates(score, truth[inner].T, order=1)
        noise = np.sqrt(np.mean(shot.image)) / (2 * np.sqrt(np.pi) * width)
        # height of a unit Gaussian after a normalised filter of its own width: ½
        measured.append(0.5 * 6 * (np.mean(at) > 0) / noise)
        claimed.append(np.median(shot.snr[inner]))
    assert len(measured) > 2
    assert np.mean(claimed) == pytest.approx(np.mean(measured), rel=0.4)
