import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import kstest, poisson

from atomreel.simulate import detector


@pytest.mark.parametrize("mean", [0.05, 0.7, 5.0, 29.0, 31.0, 400.0])
def test_counts_are_poisson(mean):
    counts = detector.add_counts(np.full((200, 200), mean), np.random.default_rng(3))
    assert counts.mean() == pytest.approx(mean, abs=5 * np.sqrt(mean / 4e4))
    assert counts.var() == pytest.approx(mean, rel=0.04)
    assert np.all(counts == np.rint(counts)) and counts.min() >= 0
    tail = (counts >= poisson.ppf(0.95, mean)).mean()
    assert tail == pytest.approx(poisson.sf(poisson.ppf(0.95, mean) - 1, mean), abs=0.012)


def test_mixed_counts_keep_their_pixels():
    expected = np.repeat([[1.0], [1000.0]], 500, axis=1)
    counts = detector.add_counts(expected, np.random.default_rng(0))
    assert counts[0].mean() < 2 and counts[1].mean() > 900


def test_white_noise_shows_the_mtf(rng):
    """Amplitude spectrum of filtered white noise, binned by radius, is the MTF."""
    asked = {"c1": 0.05, "c2": 0.5, "c3": 2.5}
    power = 0.0
    for _ in range(8):
        image = detector.apply_mtf(rng.standard_normal((128, 128)), **asked)
        power = power + np.abs(np.fft.fft2(image)) ** 2 / 128**2 / 8
    q = np.hypot(*np.meshgrid(np.fft.fftfreq(128), np.fft.fftfreq(128), indexing="ij"))
    for low in (0.05, 0.2, 0.35, 0.5):
        ring = (q >= low) & (q < low + 0.03)
        wanted = (0.95 / (1 + (q[ring] / 0.5) ** 2.5) + 0.05) ** 2
        assert power[ring].mean() == pytest.approx(wanted.mean(), rel=0.08)


@settings(max_examples=20, deadline=None)
@given(st.floats(-3, 3), st.floats(-2, 2))
def test_jitter_by_a_constant_is_a_shift(dx, dy):
    y, x = np.mgrid[:48, :48]

    def scene(oy, ox):
        return np.exp(-((y - 24 + oy) ** 2 + (x - 20 + ox) ** 2) / 18.0)

    moved = detector.jitter_lines(scene(0, 0), np.full(48, dy), np.full(48, dx))
    assert np.abs(moved - scene(dy, dx)).max() < 0.01


def test_jitter_has_the_asked_size_and_memory():
    dy, dx = detector.line_jitter(40000, np.random.default_rng(2), y=0.2, x=0.5, memory=0.3)
    assert (dy.std(), dx.std()) == pytest.approx((0.2, 0.5), rel=0.03)
    assert np.corrcoef(dx[1:], dx[:-1])[0, 1] == pytest.approx(0.3, abs=0.03)


def test_drift_moves_the_last_line_by_the_rate():
    line = np.array([[0.0, 10.0], [50.0, 10.0], [100.0, 10.0]])
    seen = detector.drift(line, rate=(2.0, -4.0), bend=(0.0, 1.0), lines=101)
    assert seen - line == pytest.approx(np.array([[-1, 2], [0, 1], [1, -2]]))


def test_smooth_fields_are_smooth_and_normal(rng):
    maps = np.array([detector.smooth_field((96, 64), rng, scale=16) for _ in range(20)])
    assert maps.std() == pytest.approx(1, abs=0.15) and abs(maps.mean()) < 0.2
    assert np.abs(np.diff(maps, axis=1)).max() < 0.6  # no steps


def test_plain_effects():
    flat = np.full((40, 30), 10.0)
    ramped = detector.add_background(flat, level=1, ramp=(4, 0))
    assert ramped[-1, 0] - ramped[0, 0] == pytest.approx(4) and ramped.mean() == pytest.approx(11)
    hole = detector.add_vacuum(flat, np.arange(30) > 15 + 0 * np.arange(40)[:, None], level=2, edge=0)
    assert hole[0, 0] == 10 and hole[0, -1] == 2
    assert detector.blur(flat, sigma=2) == pytest.approx(flat)
    spot = np.zeros((9, 40))
    spot[4, 10] = 1
    tail = detector.afterglow(spot, decay=1.5)
    assert tail.sum() == pytest.approx(1, abs=0.01) and tail[4, 9] == 0 < tail[4, 12] < tail[4, 10]
    assert not np.shares_memory(detector.afterglow(flat, decay=0), flat)


def test_noise_has_its_size(rng):
    flat = np.zeros((300, 200))
    assert detector.add_readout(flat, rng, sigma=2).std() == pytest.approx(2, rel=0.02)
    assert detector.add_line_noise(flat, rng, sigma=3)[:, 0].std() == pytest.approx(3, rel=0.15)
    walk = detector.add_line_noise(flat, rng, sigma=0, drift=1)[:, 0]
    assert kstest(np.diff(walk), "norm").pvalue > 1e-3
    assert detector.add_contamination(flat, rng, blobs=5, height=2, width=20).max() > 0


def test_screen_shots(rng):
    image = rng.normal(0, 1, (64, 64))
    grey = detector.to_8bit(image, clip=0.02)
    assert grey.min() == 0 and grey.max() == 255 and np.all(grey == np.rint(grey))
    smooth = detector.blur(image, sigma=2)
    error = detector.jpeg(smooth, quality=95) - detector.to_8bit(smooth)
    assert 10 * np.log10(255**2 / np.mean(error**2)) > 35  # PSNR [dB]


def test_nothing_changes_its_input(rng):
    image = rng.random((32, 32))
    before = image.copy()
    detector.add_counts(image, rng)
    detector.apply_mtf(image, c1=0, c2=0.5, c3=2)
    detector.jitter_lines(image, np.ones(32), np.ones(32))
    detector.add_contamination(image, rng, blobs=2, height=1, width=5)
    detector.add_vacuum(image, image > 0.5)
    detector.to_8bit(image)
    assert np.array_equal(image, before)
