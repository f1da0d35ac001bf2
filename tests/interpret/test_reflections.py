"""Reflections against lattices that the test itself makes, as sums of Gaussians."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from atomreel.core.errors import InputError
from atomreel.interpret.reflections import Reflections, find_reflections

Array = npt.NDArray[np.float64]


def columns(
    vectors: Array, motif: list[tuple[float, float, float]], *, size: int = 160, width: float = 1.7
) -> Array:
    """An image of Gaussian columns; vectors: rows (y, x) [px]; motif: u, v, height."""
    y, x = np.mgrid[:size, :size].astype(float)
    out = np.zeros((size, size))
    n = np.arange(-80, 81)
    cells = np.stack(np.meshgrid(n, n, indexing="ij"), -1).reshape(-1, 2)
    for u, v, height in motif:
        for py, px in (cells + np.array([u, v])) @ vectors + size / 2:
            if -8 < py < size + 8 and -8 < px < size + 8:
                a, b = max(0, int(py) - 8), max(0, int(px) - 8)
                cut = np.s_[a : int(py) + 9, b : int(px) + 9]
                out[cut] += height * np.exp(-((y[cut] - py) ** 2 + (x[cut] - px) ** 2) / (2 * width**2))
    return out


def turned(vectors: list[list[float]], degrees: float) -> Array:
    a = np.radians(degrees)
    return np.array(vectors) @ np.array([[np.cos(a), np.sin(a)], [-np.sin(a), np.cos(a)]])


@pytest.mark.parametrize(
    ("vectors", "degrees"),
    [
        ([[0, 9.3], [8.05, 4.65]], 11.0),
        ([[0, 10.0], [10.0, 0]], 27.0),
        ([[0, 8.0], [12.0, 3.0]], 64.0),
    ],
)
def test_the_lattice_of_an_image_is_found_to_a_thousandth(vectors: list[list[float]], degrees: float) -> None:
    true = turned(vectors, degrees)
    image = np.random.default_rng(0).poisson(20 * columns(true, [(0, 0, 1.0)]) + 2).astype(float)
    found = find_reflections(image)
    change = true @ np.linalg.inv(found.vectors)
    assert np.allclose(change, np.rint(change), atol=0.01)
    assert abs(abs(np.linalg.det(np.rint(change))) - 1) < 1e-9
    assert found.explained > 0.9


def test_reflections_of_a_finer_image_are_the_scaled_ones() -> None:
    found = find_reflections(columns(turned([[0, 9.3], [8.05, 4.65]], 5.0), [(0, 0, 1.0)]))
    twice = found.scaled(2.0)
    assert np.allclose(twice.vectors, 2 * found.vectors)
    assert np.abs(found.scaled(0.5).frequencies).max() < 0.5


@pytest.mark.parametrize("seed", range(4))
def test_noise_and_particles_at_random_are_refused(seed: int) -> None:
    rng = np.random.default_rng(seed)
    with pytest.raises(InputError, match="no lattice"):
        find_reflections(rng.poisson(4.0, (128, 128)))
    y, x = np.mgrid[:128, :128]
    blobs = sum(np.exp(-((y - a) ** 2 + (x - b) ** 2) / 8) for a, b in rng.uniform(0, 128, (70, 2)))
    with pytest.raises(InputError, match="no lattice"):
        find_reflections(rng.poisson(10 * np.asarray(blobs) + 1))


def test_fringes_of_one_direction_are_no_lattice() -> None:
    y, x = np.mgrid[:128, :128]
    image = np.random.default_rng(1).poisson(20 + 10 * np.sin(0.7 * x + 0.3 * y))
    with pytest.raises(InputError, match="no lattice"):
        find_reflections(image)


@pytest.mark.parametrize(
    ("image", "words"),
    [
        (np.zeros((100, 100)), "flat"),
        (np.ones((20, 200)), "at least"),
        (np.zeros(100), "shape"),
        (np.full((64, 64), np.nan), "finite"),
    ],
)
def test_what_is_no_image_is_refused(image: Array, words: str) -> None:
    with pytest.raises(InputError, match=words):
        find_reflections(image)


def test_a_noisy_frame_is_recognised_by_the_lattice_of_another() -> None:
    clean = columns(turned([[0, 9.3], [8.05, 4.65]], 11.0), [(0, 0, 1.0)])
    known = find_reflections(clean)
    rng = np.random.default_rng(0)
    alone = together = 0
    for _ in range(10):
        frame = rng.poisson(0.5 * clean + 1.5)
        alone += _finds(frame, None)
        together += _finds(frame, known)
    assert alone + 3 <= together >= 9
    assert sum(_finds(rng.poisson(2.0, (160, 160)), known) for _ in range(30)) <= 1


def _finds(frame: npt.NDArray[np.int64], known: Reflections | None) -> bool:
    try:
        found = find_reflections(frame, known=known)
    except InputError:
        return False
    return (
        known is None
        or bool(np.allclose(found.basis, known.basis, rtol=0.1, atol=0.01))
        or found.explained > 0
    )
