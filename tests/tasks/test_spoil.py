"""Cuts and turns keep columns in place; spoiling changes grey values only."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from atomreel.tasks.spoil import cut, spoil, turn


def spots(side: int = 64) -> tuple[np.ndarray, np.ndarray]:
    """Five bright spots at known places."""
    at = np.array([[10, 12], [20.5, 40], [33, 33.5], [50, 8], [55, 57]], dtype=np.float32)
    y, x = np.mgrid[:side, :side]
    image = sum(np.exp(-((y - a) ** 2 + (x - b) ** 2) / 8) for a, b in at)
    return np.asarray(image, dtype=np.float32), at


def test_turning_takes_the_columns_along_and_reaches_all_eight(rng: np.random.Generator) -> None:
    image, columns = spots()
    seen = set()
    for _ in range(80):
        turned, at = turn(image, columns, rng)
        assert ndimage.map_coordinates(turned, at.T, order=1).min() > 0.9
        seen.add(turned.tobytes())
    assert len(seen) == 8


def test_spoiling_keeps_the_shape_and_the_input(rng: np.random.Generator) -> None:
    image, _ = spots()
    before = image.copy()
    made = [spoil(image, rng) for _ in range(30)]
    assert all(m.shape == image.shape and np.isfinite(m).all() for m in made)
    assert np.array_equal(image, before)
    assert sum(not np.array_equal(m, image) for m in made) > 10


@pytest.mark.parametrize(("spacing", "wanted"), [(12.0, (5.0, 14.0)), (60.0, (5.0, 14.0))])
def test_a_cut_says_its_zoom(spacing: float, wanted: tuple[float, float], rng: np.random.Generator) -> None:
    image = rng.random((256, 256)).astype(np.float32)
    piece, zoom, (y, x) = cut(image, 128, rng, spacing=spacing, wanted=wanted)
    assert piece.shape == (128, 128)
    assert zoom >= 0.5
    assert 0 <= y <= 256 * zoom - 127
    assert 0 <= x <= 256 * zoom - 127
    if spacing == 12.0:
        assert wanted[0] <= zoom * spacing <= wanted[1]
