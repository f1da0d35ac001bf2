"""Windows of none of these: each kind is what its name says."""

from __future__ import annotations

import numpy as np
import pytest

from atomreel.core.errors import UnknownNameError
from atomreel.core.material import load_material
from atomreel.simulate.strangers import KINDS, NO_COLUMNS, SHARES, random_strangers
from atomreel.simulate.windows import CELL_PX, SIDE, random_windows

WS2 = load_material("ws2")


def period(image: np.ndarray) -> float:
    """Spacing [px] of the strongest Fourier spot."""
    side = 512
    flat = (image - image.mean()) * np.hanning(SIDE)[:, None] * np.hanning(SIDE)
    power = np.abs(np.fft.rfft2(flat, s=(side, side)))
    q = np.hypot(np.fft.fftfreq(side)[:, None], np.fft.rfftfreq(side))
    return float(1 / q[np.unravel_index(np.argmax(np.where(q > 2.5 / SIDE, power, 0)), q.shape)])


@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_is_drawn(kind):
    first, names = random_strangers(WS2, 4, 5, kind=kind)
    assert first.shape == (4, SIDE, SIDE) and first.dtype == np.float32 and set(names) == {kind}
    assert np.isfinite(first).all() and (first.std((1, 2)) > 0).all()
    assert first.min() > -0.05 and first.max() < 12
    np.testing.assert_array_equal(first, random_strangers(WS2, 4, 5, kind=kind)[0])


def test_scales_are_wrong_by_a_quarter_at_least():
    planes = CELL_PX * np.sqrt(3) / 2
    images, _ = random_strangers(WS2, 40, 1, kind="wrong scale")
    ratio = np.array([period(image) for image in images]) / planes
    own = random_windows(WS2, 1, labels=[1] * 40, kinds=["V_S"]).images
    usual = np.array([period(image) for image in own]) / planes
    assert np.median(np.abs(np.log(ratio))) > 0.3 > 0.15 > np.median(np.abs(np.log(usual)))


def test_holes_and_edges_leave_a_part_of_the_window_empty():
    own = random_windows(WS2, 1, labels=[1] * 30, kinds=["V_S"]).images
    for kind in ("hole", "edge"):
        images, _ = random_strangers(WS2, 30, 2, kind=kind)
        assert np.median(images.mean((1, 2))) < 0.95 * np.median(own.mean((1, 2)))
        middle = images[:, 16:48, 16:48]
        dark = (middle < middle.min((1, 2), keepdims=True) + 0.05).mean((1, 2))
        assert np.median(dark) > 0.3


def test_kinds_have_their_shares():
    _, names = random_strangers(WS2, 300, 3)
    share = names.count(NO_COLUMNS) / 300
    assert share == pytest.approx(SHARES[NO_COLUMNS], abs=0.09) and set(names) == set(KINDS)


def test_an_unknown_kind_is_refused():
    with pytest.raises(UnknownNameError, match="moon"):
        random_strangers(WS2, 2, 0, kind="moon")
