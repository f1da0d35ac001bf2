"""Unresolved dumbbells drawn as two Gaussians: separation and angle with errors that cover the truth."""

from __future__ import annotations

import numpy as np
import pytest

from atomreel.core.errors import InputError
from atomreel.core.tables import check_table
from atomreel.interpret.twins import fit_twins


def drawn(
    rng: np.random.Generator,
    *,
    separation: float,
    angle: float,
    sigma: float = 4.0,
    noise: float = 0.0,
    shares: tuple[float, float] = (0.5, 0.5),
    counted: float = 0.0,
) -> tuple[np.ndarray, np.ndarray]:
    """Image of 6 × 6 dumbbells on a jittered grid 22 px apart, and their centres. counted: counts at unit height."""
    grid = np.stack(np.meshgrid(np.arange(6), np.arange(6), indexing="ij"), -1).reshape(-1, 2)
    centres = 20 + 22.0 * grid + rng.uniform(-0.5, 0.5, grid.shape)
    y, x = np.mgrid[:150, :150]
    image = np.full(y.shape, 0.3)
    half = 0.5 * separation * np.array([-np.sin(np.deg2rad(angle)), np.cos(np.deg2rad(angle))])
    for centre in centres:
        for share, (cy, cx) in zip(shares, (centre - half, centre + half), strict=True):
            image += share * np.exp(-((y - cy) ** 2 + (x - cx) ** 2) / (2 * sigma**2))
    if counted:
        image = rng.poisson(image * counted) / counted
    return image + rng.normal(0, noise, y.shape), centres


@pytest.mark.parametrize("separation", [4.0, 8.0])
@pytest.mark.parametrize("angle", [-75.0, 33.0, 90.0])
def test_without_noise_the_truth_comes_back(
    separation: float, angle: float, rng: np.random.Generator
) -> None:
    image, centres = drawn(rng, separation=separation, angle=angle)
    table = fit_twins(image, centres + rng.uniform(-2, 2, centres.shape))
    check_table(table, "dumbbells")
    assert len(table) == 36
    np.testing.assert_allclose(table["separation_px"].median(), separation, rtol=0.03)
    away = (table["angle_deg"] - angle + 90) % 180 - 90
    assert np.abs(away).max() < 4 and table["angle_deg"].between(-90, 90).all()
    np.testing.assert_allclose(table[["y", "x"]].to_numpy(), centres, atol=0.1)
    np.testing.assert_allclose(table["width_px"].median(), 4.0, rtol=0.05)


@pytest.mark.parametrize(("noise", "counted"), [(0.05, 0.0), (0.0, 150.0)])
def test_errors_cover_the_truth_and_are_not_wide(noise: float, counted: float) -> None:
    z_length, z_angle, widths = [], [], []
    for seed in range(6):
        rng = np.random.default_rng(seed)
        image, centres = drawn(rng, separation=7.0, angle=30.0, noise=noise, counted=counted)
        table = fit_twins(image, centres + rng.uniform(-1, 1, centres.shape))
        z_length += ((table["separation_px"] - 7.0) / table["separation_px_err"]).tolist()
        z_angle += (((table["angle_deg"] - 30.0 + 90) % 180 - 90) / table["angle_deg_err"]).tolist()
        widths += table["separation_px_err"].tolist()
        assert (table["score"] > 0.99).mean() > 0.95
    for z in (z_length, z_angle):
        assert np.mean(np.abs(z) < 1) == pytest.approx(0.683, abs=0.1)
        assert np.mean(np.abs(z) < 2) == pytest.approx(0.954, abs=0.05)
    assert np.median(widths) < 0.8


def test_round_blobs_are_not_called_elongated() -> None:
    scores: list[float] = []
    for seed in range(5):
        rng = np.random.default_rng(100 + seed)
        image, centres = drawn(rng, separation=0.0, angle=0.0, noise=0.05)
        scores += fit_twins(image, centres)["score"].tolist()
    # under a round truth the score is uniform: a test at one in twenty is wrong one time in twenty
    assert np.mean(np.array(scores) > 0.95) < 0.13
    assert np.mean(np.array(scores) > 0.999) < 0.03


def test_unequal_ends_look_nearer(rng: np.random.Generator) -> None:
    image, centres = drawn(rng, separation=6.0, angle=20.0, shares=(0.3, 0.7))
    got = fit_twins(image, centres)["separation_px"].median()
    assert got == pytest.approx(6.0 * np.sqrt(4 * 0.3 * 0.7), rel=0.08)


def test_dark_blobs_pixels_and_missing_pixels(rng: np.random.Generator) -> None:
    image, centres = drawn(rng, separation=7.0, angle=30.0, noise=0.01)
    image[60:63, 60:63] = np.nan
    bright, dark = fit_twins(image, centres), fit_twins(-image, centres, bright=False)
    np.testing.assert_allclose(bright["separation_px"], dark["separation_px"], rtol=1e-6)
    known = fit_twins(image, centres, pixel=(0.2, 0.2))
    np.testing.assert_allclose(known["separation_A"], 0.2 * bright["separation_px"], rtol=1e-3)
    np.testing.assert_allclose(known["separation_px"], bright["separation_px"], rtol=1e-3)
    np.testing.assert_allclose(known["width_px"], bright["width_px"], rtol=1e-3)


def test_pixels_that_are_not_square(rng: np.random.Generator) -> None:
    """Every second row only: the same dumbbells in Å."""
    image, centres = drawn(rng, separation=7.0, angle=30.0, noise=0.005)
    full = fit_twins(image, centres, pixel=(0.1, 0.1))
    half = fit_twins(image[::2], centres * (0.5, 1.0), pixel=(0.2, 0.1))
    assert np.median(np.abs(full["separation_A"] - half["separation_A"])) < 0.02
    assert half["angle_deg"].median() == pytest.approx(30, abs=1.0)


def test_bad_input() -> None:
    image = np.zeros((20, 20))
    assert fit_twins(image, np.zeros((0, 2))).empty
    assert fit_twins(image, [[10, 10]]).empty, "nothing to fit in a flat image"
    with pytest.raises(InputError, match="two-dimensional"):
        fit_twins(np.zeros(5), [[1, 1]])
    with pytest.raises(InputError, match=r"\(N, 2\)"):
        fit_twins(image, [1, 2, 3])
    with pytest.raises(InputError, match="radius"):
        fit_twins(image, [[10, 10]], radius=-1)
