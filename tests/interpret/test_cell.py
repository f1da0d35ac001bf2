import crystals
import numpy as np
import pytest

from atomreel.core.errors import InputError
from atomreel.core.lattice import Lattice
from atomreel.interpret.cell import accumulate, average_cell, finish, render_cell, start

VECTORS = crystals.vectors_of(16.3, 21.7, 80, 24)


def wave(shape, origin):
    """Brightness that repeats with the cell: 1 at the origin, falling to −1 half a cell away along a and b."""
    grid = np.stack(np.indices(shape), -1) - origin
    fraction = grid @ np.linalg.inv(VECTORS)
    return 0.5 * np.cos(2 * np.pi * fraction).sum(-1)


def test_cell_is_the_motif_within_its_errors(rng):
    lattice = Lattice((40.2, 50.9), VECTORS)
    image = wave((300, 310), lattice.origin) + 0.5 * rng.standard_normal((300, 310))
    cell = average_cell(image, lattice, oversample=1.0)
    u, v = ((np.arange(n) + 0.5) / n for n in cell.mean.shape)
    truth = 0.5 * (np.cos(2 * np.pi * u)[:, None] + np.cos(2 * np.pi * v)[None])
    pull = (cell.mean - truth) / cell.error
    assert 0.6 < (np.abs(pull) < 1).mean() < 0.76
    assert np.median(cell.error) == pytest.approx(0.5 / np.sqrt(image.size / cell.mean.size), rel=0.1)


def test_frames_that_drift_add_up(rng):
    sums = start(Lattice((0, 0), VECTORS))
    for _ in range(4):
        lattice = Lattice(rng.random(2) * 20, VECTORS)
        sums = accumulate(sums, wave((120, 120), lattice.origin), lattice)
    one = finish(accumulate(start(lattice), wave((120, 120), lattice.origin), lattice))
    both = finish(sums)
    assert both.count.sum() == 4 * 120 * 120
    np.testing.assert_allclose(both.mean, one.mean, atol=0.2)


def test_accumulating_changes_nothing_before():
    lattice = Lattice((0, 0), VECTORS)
    first = start(lattice)
    accumulate(first, np.ones((30, 30)), lattice)
    assert first.count.sum() == 0


def test_nan_and_mask_are_left_out():
    image = np.ones((60, 60))
    image[:30] = np.nan
    mask = np.ones((60, 60), dtype=bool)
    mask[:, :30] = False
    lattice = Lattice((0, 0), VECTORS)
    cell = finish(accumulate(start(lattice), image, lattice, mask=mask))
    assert cell.count.sum() == 900 and np.nanmax(np.abs(cell.mean - 1)) == 0


def test_render_puts_the_origin_in_the_middle():
    lattice = Lattice((10, 12), VECTORS)
    picture = render_cell(average_cell(wave((200, 200), lattice.origin), lattice), repeat=2, pixels=65)
    assert picture.shape == (65, 65)
    assert picture[32, 32] > 0.9
    assert np.nanmin(picture) < -0.9


def test_bad_input():
    with pytest.raises(InputError, match="oversample"):
        start(Lattice((0, 0), VECTORS), oversample=0)
    with pytest.raises(InputError, match="two dimensions"):
        average_cell(np.zeros((2, 3, 4)), Lattice((0, 0), VECTORS))
