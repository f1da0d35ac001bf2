from __future__ import annotations

import numpy as np
import pytest

from atomreel.core.errors import UnknownNameError
from atomreel.simulate.bravais import CLASSES, class_distances
from atomreel.simulate.bravais_2018 import LONGEST, SHORTEST, free_tau, has_spots, paper_window


@pytest.mark.parametrize("name", CLASSES[:5])
def test_lattices_are_of_their_class_and_close_ones_are_kept(name: str, rng: np.random.Generator) -> None:
    shapes = [free_tau(name, rng=rng) for _ in range(400)]
    if name != "oblique":
        assert max(class_distances(tau)[name] for tau in shapes) < 1e-6
    if name in ("rectangular", "centred", "oblique"):
        others = [other for other in CLASSES[:4] if other != name]
        near = [min(class_distances(tau)[other] for other in others) for tau in shapes]
        assert min(near) < 0.02 < 0.15 < max(near)


def test_vectors_stay_inside_their_range(rng: np.random.Generator) -> None:
    for name in CLASSES[:5]:
        for _ in range(20):
            window = paper_window(name, rng=rng)
            assert window.a >= SHORTEST and window.a * abs(window.tau) <= LONGEST * (1 + 1e-9)
            assert CLASSES[window.label] == name and window.image.shape == (128, 128)


def test_every_lattice_has_spots_and_noise_has_none(rng: np.random.Generator) -> None:
    assert all(has_spots(paper_window(name, rng=rng).image) for name in CLASSES[:5] for _ in range(8))
    noise = [paper_window("noise", rng=rng) for _ in range(30)]
    assert np.mean([has_spots(window.image) for window in noise]) < 0.15
    assert min(window.disorder for window in noise) > 0.1 and all(window.label == 5 for window in noise)


def test_points_at_random_seldom_have_spots_and_a_weak_wave_has(rng: np.random.Generator) -> None:
    y, x = np.mgrid[:128, :128]
    plain = [rng.standard_normal((128, 128)).astype(np.float32) for _ in range(60)]
    assert np.mean([has_spots(image) for image in plain]) < 0.6
    wave = 0.12 * np.cos(2 * np.pi * (0.11 * x + 0.07 * y)).astype(np.float32)
    assert np.mean([has_spots(image + wave) for image in plain]) > 0.95


def test_the_truth_of_a_rectangle_is_in_its_image() -> None:
    """Autocorrelation peaks at both sides of the cell."""
    rng = np.random.default_rng(8)
    window = paper_window("rectangular", rng=rng)
    image = window.image - window.image.mean()
    near = np.fft.ifft2(np.abs(np.fft.fft2(image)) ** 2).real
    near /= near[0, 0]
    y, x = np.mgrid[-64:64, -64:64]
    near, r = np.fft.fftshift(near), np.hypot(y, x)
    for length in (window.a, window.a * abs(window.tau)):
        assert near[np.abs(r - length) < 1].max() > 0.4


def test_same_seed_same_bytes_and_unknown_names() -> None:
    first, again = (paper_window("noise", rng=np.random.default_rng(2)).image for _ in range(2))
    assert first.tobytes() == again.tobytes()
    with pytest.raises(UnknownNameError, match="square"):
        paper_window("sqare", rng=np.random.default_rng(0))
