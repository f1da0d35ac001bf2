import numpy as np
import pytest

from atomreel.core.errors import InputError
from atomreel.prepare.overlay import remove_overlay


def marked(rng):
    """Smooth grey picture with blobs, a red line and a blended cyan one over it."""
    y, x = np.mgrid[:80, :100]
    grey = 80 + 0.4 * x + 90 * np.exp(-((y - 40) ** 2 + (x - 30) ** 2) / 18.0)
    rgb = np.repeat((grey + rng.normal(0, 1, grey.shape))[..., None], 3, axis=2)
    rgb[20, 10:70] = (220, 30, 30)
    rgb[10:70, 31] = 0.5 * rgb[10:70, 31] + 0.5 * np.array((0, 200, 200))
    return np.clip(rgb, 0, 255).astype(np.uint8), grey


def test_marks_are_found_and_what_is_under_them_guessed(rng):
    rgb, grey = marked(rng)
    before = rgb.copy()
    out, filled = remove_overlay(rgb)
    assert filled[20, 10:70].all() and filled[10:70, 31].all()
    assert filled.sum() < 3 * (60 + 60) + 40
    assert np.abs(out - grey)[~filled].max() < 8
    assert np.sqrt(np.mean((out - grey)[filled] ** 2)) < 6
    # A blob crossed by a line keeps its place.
    weight = np.clip(out[32:49, 22:39] - 110, 0, None)
    grid = np.mgrid[32:49, 22:39]
    centre = [(weight * g).sum() / weight.sum() for g in grid]
    assert np.allclose(centre, [40, 30], atol=0.3)
    assert np.array_equal(rgb, before)


def test_grey_pictures_come_back(rng):
    grey = rng.integers(0, 255, (30, 40)).astype(np.uint8)
    out, filled = remove_overlay(np.repeat(grey[..., None], 4, axis=2))
    assert np.array_equal(out, grey) and not filled.any()


def test_bad_input(rng):
    with pytest.raises(InputError, match="shape"):
        remove_overlay(np.zeros((5, 5)))
    with pytest.raises(InputError, match="is coloured"):
        remove_overlay(rng.integers(0, 255, (30, 30, 3)))
    with pytest.raises(InputError, match="grow"):
        remove_overlay(np.zeros((5, 5, 3)), grow=-1)
    with pytest.raises(InputError, match="finite"):
        remove_overlay(np.full((5, 5, 3), np.nan))
