from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from atomreel.core.errors import InputError, UnknownNameError
from atomreel.simulate.bravais import (
    CLASSES,
    HEXAGONAL,
    Look,
    class_distances,
    class_margin,
    draw_atoms,
    lattice_image,
    random_tau,
    random_window,
    reduce_tau,
)

integers = st.integers(-4, 4)
PLAIN = Look(width=0.15, disorder=0, counts=1000)


@given(st.floats(0, 0.5), st.floats(0.87, 3), integers, integers, integers)
def test_reduction_does_not_depend_on_the_basis(x: float, y: float, m: int, n: int, k: int) -> None:
    tau = reduce_tau(complex(x, y))
    other = tau + m
    other = -1 / other + n
    other = -1 / other + k
    found = reduce_tau(other)
    assert abs(found - tau) < 1e-6
    assert -1e-9 <= found.real <= 0.5 + 1e-9 and abs(found) >= 1 - 1e-9


def test_parallel_vectors_are_refused() -> None:
    with pytest.raises(InputError, match="parallel"):
        reduce_tau(2 + 0j)


@pytest.mark.parametrize("shear", [0.01, 0.03, 0.06])
def test_distance_of_a_sheared_square_is_twice_the_shear_strain(shear: float) -> None:
    sheared = reduce_tau(1j + shear)  # b = (shear, 1): x' = x + s·y, a shear strain of s/2 and a rotation
    assert class_distances(sheared)["square"] == pytest.approx(shear, rel=0.02)


def test_each_class_is_at_distance_nought_from_itself(rng: np.random.Generator) -> None:
    for name in CLASSES[:4]:
        assert class_distances(random_tau(name, rng=rng))[name] < 1e-6
    assert class_distances(HEXAGONAL)["centred"] < 1e-9  # the more symmetric lattice belongs to both


@pytest.mark.parametrize("name", ["rectangular", "centred", "oblique"])
def test_margins_are_kept(name: str, rng: np.random.Generator) -> None:
    for low, high in ((0.01, 0.08), (0.08, np.inf)):
        margins = [class_margin(name, random_tau(name, rng=rng, margin=(low, high))) for _ in range(20)]
        assert low <= min(margins) and max(margins) <= high


def test_impossible_requests_say_so(rng: np.random.Generator) -> None:
    with pytest.raises(InputError, match="margin"):
        random_tau("oblique", rng=rng, margin=(2.0, 3.0))
    with pytest.raises(UnknownNameError, match="did you mean 'square'"):
        random_tau("sqare", rng=rng)


def test_a_drawn_atom_has_its_place_height_and_width() -> None:
    image = draw_atoms(np.array([[20.3, 41.6]]), np.array([2.0]), width=3.0, size=64)
    total = image.sum()
    y, x = np.mgrid[:64, :64]
    assert total == pytest.approx(2.0 * 2 * np.pi * 9, rel=1e-4)
    assert (image * y).sum() / total == pytest.approx(20.3, abs=1e-3)
    assert (image * x).sum() / total == pytest.approx(41.6, abs=1e-3)
    assert (image * (x - 41.6) ** 2).sum() / total == pytest.approx(9.0, rel=1e-3)


def test_the_lattice_drawn_has_the_vectors_asked_for(rng: np.random.Generator) -> None:
    tau, a = 0.3 + 1.2j, 11.0
    image = lattice_image(tau, a=a, look=PLAIN, size=128, rng=rng, angle=20).astype(float)
    power = np.abs(np.fft.fft2(image - image.mean())) ** 2
    correlation = np.fft.ifft2(power).real
    correlation /= correlation[0, 0]
    first = a * np.exp(1j * np.deg2rad(20))
    candidates = [first * tau, first * np.conj(tau)]
    at = [correlation[round(z.imag) % 128, round(z.real) % 128] for z in (first, *candidates)]
    assert at[0] > 0.7 and max(at[1:]) > 0.7 and min(at[1:]) < 0.4


def test_same_seed_same_bytes() -> None:
    first, again, other = (random_window(seed) for seed in (5, 5, 6))
    assert first.image.tobytes() == again.image.tobytes() != other.image.tobytes()


def test_windows_hold_what_they_claim(rng: np.random.Generator) -> None:
    for _ in range(40):
        window = random_window(rng)
        assert window.image.shape == (128, 128) and np.isfinite(window.image).all()
        if CLASSES[window.label] == "noise":
            assert window.kind and np.isnan(window.tau.real)
        else:
            assert window.a * abs(window.tau) * 4 <= 128 * 1.01 or window.a < 10
            assert min(abs(reduce_tau(window.tau) - window.tau), 1) < 1e-6
