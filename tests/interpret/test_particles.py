import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from atomreel.core.errors import InputError
from atomreel.interpret.particles import find_particles, survey_particles


def discs(rng, *, radius, side=160, gap=3.2, depth=40.0, noise=4.0, blur=1.0, spread=0.12, tilt=0.0):
    """Dark discs drawn at eight times the resolution, blurred, on a slope, with noise. Truth: (N, 3) y, x, radius."""
    fine = 8
    spots, tries = [], 0
    while tries < 4000:
        y, x = rng.uniform(2 * radius, side - 1 - 2 * radius, 2)
        r = radius * rng.normal(1, spread)
        if all(np.hypot(y - a, x - b) > gap * radius for a, b, _ in spots):
            spots.append((y, x, r))
        tries += 1
    centre = (np.arange(side * fine) + 0.5) / fine - 0.5
    image = np.zeros((side * fine,) * 2)
    for y, x, r in spots:
        a, b = int((y - r - 1) * fine), int((x - r - 1) * fine)
        size = int((2 * r + 4) * fine)
        inside = (centre[a : a + size, None] - y) ** 2 + (centre[None, b : b + size] - x) ** 2 < r**2
        image[a : a + size, b : b + size] += inside
    image = image.reshape(side, fine, side, fine).mean((1, 3))
    ramp = tilt * np.arange(side)[None] / side
    return 200 + ramp - depth * gaussian_filter(image, blur) + rng.normal(0, noise, (side, side)), np.array(
        spots
    )


def matched(table, truth, within):
    away = np.hypot(*(table[["y", "x"]].to_numpy()[:, None] - truth[None, :, :2]).transpose(2, 0, 1))
    near = away.argmin(0)
    good = away[near, np.arange(len(truth))] < within
    return near[good], good


@pytest.mark.parametrize(("radius", "bright"), [(3.2, False), (5.0, True), (9.0, False)])
def test_size_sign_and_every_particle_found(rng, radius, bright):
    image, truth = discs(rng, radius=radius, tilt=30.0)
    image = -image if bright else image
    look = survey_particles([image])
    assert look.dark is not bright
    assert look.radius == pytest.approx(radius, rel=0.15)
    found = find_particles(image, look)
    sure = found[found["score"] >= 0.5]
    near, good = matched(sure, truth, within=radius / 2)
    assert good.all() and len(set(near)) == len(sure) == len(truth)
    assert not sure["cut"].any()
    assert (sure["contrast"] / 40).median() == pytest.approx(1, abs=0.15)


def test_errors_of_position_and_area_cover(rng):
    """Over many discs the stated 1σ holds as often as it says, and is not wide for nothing."""
    off, area = [], []
    for _ in range(6):
        image, truth = discs(rng, radius=5.0, noise=5.0)
        found = find_particles(image)
        found = found[found["score"] >= 0.5]
        near, good = matched(found, truth, within=2.5)
        own, true = found.iloc[near], truth[good]
        off += [*((own["y"] - true[:, 0]) / own["y_err"]), *((own["x"] - true[:, 1]) / own["x_err"])]
        area += [*((own["area"] - np.pi * true[:, 2] ** 2) / own["area_err"])]
        assert own["y_err"].median() < 0.12
    assert len(off) > 500
    assert 0.62 < np.mean(np.abs(off) < 1) < 0.80
    assert np.mean(np.abs(off) < 2) > 0.92
    assert 0.55 < np.mean(np.abs(area) < 1) < 0.85
    assert abs(np.median(area)) < 0.8


def test_noise_alone_is_not_counted(rng):
    image, truth = discs(rng, radius=4.0, depth=30.0, noise=6.0)
    look = survey_particles([image])
    empty = find_particles(200 + rng.normal(0, 6.0, image.shape), look)
    assert (empty["score"] >= 0.5).sum() <= 0.01 * len(truth)


def test_one_look_for_all_frames_and_scores_mean_something(rng):
    """Faint and clear particles together: the sum of the scores is the number of particles."""
    image, truth = discs(rng, radius=4.0, depth=16.0, noise=6.0)
    found = find_particles(image, survey_particles([image]))
    assert found["score"].sum() == pytest.approx(len(truth), rel=0.08)
    assert found["score"].between(0, 1).all()


def test_nothing_or_nonsense_is_refused(rng):
    with pytest.raises(InputError, match="stands out"):
        survey_particles([np.zeros((64, 64))])
    with pytest.raises(InputError, match="no frame"):
        survey_particles([])
    for bad in (np.zeros((8, 8)), np.zeros((3, 64, 64)), np.full((64, 64), np.nan)):
        with pytest.raises(InputError, match="finite image"):
            find_particles(bad)
    image, _ = discs(rng, radius=4.0, side=96)
    assert len(find_particles(np.full((96, 96), 3.0), survey_particles([image]))) == 0


def test_an_image_is_not_changed(rng):
    image, _ = discs(rng, radius=4.0, side=96)
    before = image.copy()
    find_particles(image)
    assert np.array_equal(image, before)


def test_rare_particles_are_found_among_much_noise(rng):
    """A dozen in a large field: the heap of noise is a hundred times as large."""
    y, x = np.mgrid[:400, :400]
    where = np.array([(a, b) for a in (60, 170, 300) for b in (40, 150, 260, 350)]) + rng.uniform(
        -9, 9, (12, 2)
    )
    image = sum(60 * np.exp(-((y - a) ** 2 + (x - b) ** 2) / 8) for a, b in where)
    found = find_particles(image + rng.normal(0, 3.0, image.shape))
    sure = found[found["score"] >= 0.5]
    near, good = matched(sure, where, within=1.0)
    assert good.all() and len(sure) == len(set(near)) == 12
