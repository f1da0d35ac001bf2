import numpy as np
import pytest

from atomreel.simulate.stm import render_stm, scan_artefacts


def test_lobes_have_their_height_and_width():
    image = render_stm(np.array([[30.0, 32.0]]), np.array([2.0]), (64, 64), fwhm=10)
    assert image[30, 32] == pytest.approx(2, rel=1e-3)
    assert image[35, 32] == pytest.approx(1, rel=1e-2) and image[30, 27] == pytest.approx(1, rel=1e-2)


def test_artefacts_are_multiples_of_the_corrugation(rng):
    flat = np.zeros((200, 200))
    assert scan_artefacts(flat, rng, noise=0.3, height=5).std() == pytest.approx(1.5, rel=0.05)
    lines = scan_artefacts(flat, rng, noise=0, lines=0.2, height=5)
    assert np.ptp(lines, axis=1).max() < 1e-5 and lines[:, 0].std() == pytest.approx(1.0, rel=0.2)
    plane = scan_artefacts(flat, rng, noise=0, plane=(0, 2), height=5)
    assert plane[0, -1] - plane[0, 0] == pytest.approx(10)


def test_a_tip_change_is_a_step(rng):
    flat = np.ones((100, 50))
    image = scan_artefacts(flat, rng, noise=0, tip_changes=1)
    rows = np.abs(np.diff(image[:, 0])) > 1e-6
    assert rows.sum() == 1
