import numpy as np
import pytest

from atomreel.prepare.correlate import subpixel_shift
from atomreel.prepare.drift import drift_between


def scene(rng, shift=(0.0, 0.0), *, shear=0.0, n=128, spacing=8.7, defects=6, dose=30.0):
    """Poisson image of a triangular crystal with dim columns, drawn at its exact positions."""
    rows, columns = np.meshgrid(np.arange(-40, 40), np.arange(-40, 40), indexing="ij")
    points = (
        np.stack([spacing * rows * np.sqrt(0.75), spacing * (columns + rows / 2)], axis=-1).reshape(-1, 2)
        + n / 2
    )
    height = np.ones(len(points))
    inner = np.nonzero((np.abs(points - n / 2) < n / 2.5).all(axis=1))[0]
    height[np.random.default_rng(4).choice(inner, defects, replace=False)] = 0.3
    moved = points + shift
    moved[:, 1] += shear * (moved[:, 0] - n / 2)
    near = (np.abs(moved - n / 2) < n / 2 + 9).all(axis=1)
    y = np.exp(-((np.arange(n)[:, None] - moved[near, 0]) ** 2) / 6)
    x = np.exp(-((np.arange(n)[:, None] - moved[near, 1]) ** 2) / 6)
    return rng.poisson(((y * height[near]) @ x.T + 0.2) * dose).astype(np.float32)


def test_shift_errors_cover(rng):
    pulls, errors = [], []
    for _ in range(200):
        true = rng.uniform(-2.5, 2.5, 2)
        found = drift_between(scene(rng), scene(rng, true))
        error = np.array([found.dy_err, found.dx_err])
        pulls.append((np.array([found.dy, found.dx]) - true) / error)
        errors.append(error)
    pulls = np.array(pulls)
    assert abs(pulls.mean()) < 0.2
    assert 0.8 < np.median(np.abs(pulls)) / 0.6745 < 1.3
    assert (np.abs(pulls) < 1.96).mean() > 0.88
    assert np.median(errors) < 0.03  # px: thirty electrons at each of 240 columns


@pytest.mark.parametrize("shear", [-0.02, 0.005, 0.015])
def test_shear_is_measured(rng, shear):
    found = drift_between(scene(rng), scene(rng, (0.4, -0.8), shear=shear))
    assert found.shear == pytest.approx(shear, abs=4 * found.shear_err + 0.15 * abs(shear))
    assert found.shear_err < 0.003


def test_ambiguity_of_a_perfect_crystal_is_reported(rng):
    half = 8.7 / 2
    crystal = drift_between(scene(rng, defects=0), scene(rng, (0, half), defects=0))
    marked = drift_between(
        scene(rng, defects=25, dose=200), scene(rng, (0, half - 0.6), defects=25, dose=200)
    )
    assert crystal.ambiguity > 0.1
    assert np.hypot(*crystal.alias) == pytest.approx(8.7, abs=1)
    assert marked.ambiguity < 0.05


def test_subpixel_shift_moves_by_the_stated_amount():
    y, x = np.mgrid[:64, :64]

    def spot(cy, cx):
        return np.exp(-((y - cy) ** 2 + (x - cx) ** 2) / 18).astype(np.float32)

    assert np.allclose(subpixel_shift(spot(30, 33), np.array([0.3, -0.45])), spot(30.3, 32.55), atol=1e-4)
