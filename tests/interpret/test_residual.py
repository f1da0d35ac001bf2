"""The Fourier method against defects that the test itself puts into lattices of Gaussians, and the simulator's movies."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from atomreel.core.errors import InputError
from atomreel.interpret.residual import candidates, lattice_residual
from atomreel.simulate.movie import simulate_ws2_movie

Array = npt.NDArray[np.float64]
SIGMA = 1.6


def layer(
    rng: np.random.Generator,
    *,
    size: int = 150,
    changed: dict[int, float] | None = None,
    hole: float = 0.0,
    shear: float = 0.0,
) -> tuple[Array, Array]:
    """Honeycomb of Gaussian columns (counts) with some columns of another height; the columns' positions.

    Columns are numbered by their distance from the middle. hole: radius [px] around (45, 45) without columns.
    """
    a = 10.5
    angle = rng.uniform(0, np.pi)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    vectors = np.array([[0, a], [a * np.sqrt(0.75), a / 2]]) @ turn @ np.array([[1, shear], [0, 1]])
    n = np.arange(-40, 41)
    cells = np.stack(np.meshgrid(n, n, indexing="ij"), -1).reshape(-1, 2)
    places = np.concatenate([cells @ vectors, (cells + 1 / 3) @ vectors]) + size / 2 + rng.uniform(-2, 2, 2)
    places = places[np.argsort(np.hypot(*(places - size / 2).T), kind="stable")]
    height = np.ones(len(places))
    for number, value in (changed or {}).items():
        height[number] = value
    keep = (np.abs(places - size / 2).max(1) < size / 2 + 7) & (np.hypot(*(places - 45).T) > hole)
    places, height = places[keep], height[keep]
    y, x = np.mgrid[:size, :size].astype(float)
    image = np.zeros((size, size))
    for (py, px), h in zip(places, height, strict=True):
        image += h * np.exp(-((y - py) ** 2 + (x - px) ** 2) / (2 * SIGMA**2))
    return rng.poisson(40 * image + 4).astype(float), places


def test_a_bright_atom_and_a_vacancy_are_found_where_they_are_and_nothing_else() -> None:
    pulls, false = [], 0
    for seed in range(6):
        image, places = layer(np.random.default_rng(seed), changed={3: 2.2, 41: 0.1})
        found = candidates(lattice_residual(image))
        sure = found[found["q"] < 0.05]
        for number, sign in ((3, 1), (41, -1)):
            own = sure[sure["sign"] == sign].iloc[0]
            gap = own[["y", "x"]].to_numpy(float) - places[number]
            assert np.hypot(*gap) < 1.0
            pulls += list(gap / own[["y_err", "x_err"]].to_numpy(float))
        false += len(sure) - 2
    assert false <= 2  # q of 0.05 of about twelve
    assert 0.6 < np.sqrt(np.mean(np.square(pulls))) < 1.5


def test_inverted_contrast_turns_the_signs_and_nothing_else() -> None:
    image, _ = layer(np.random.default_rng(2), changed={5: 2.0, 60: 0.2})
    one, other = candidates(lattice_residual(image)), candidates(lattice_residual(-image))
    assert np.allclose(one[["y", "x"]][:2], other[["y", "x"]][:2], atol=1e-6)
    assert list(one["sign"][:2]) == [-s for s in other["sign"][:2]]


def test_noise_maxima_are_as_many_as_claimed() -> None:
    claimed, counted, sure = 0.0, 0, 0
    for seed in range(6):
        image, _ = layer(np.random.default_rng(100 + seed))
        residual = lattice_residual(image)
        table = candidates(residual)
        claimed += float(residual.false_maxima(2.8))
        counted += int((table["z"].abs() >= 2.8).sum())
        sure += int((table["q"] < 0.05).sum())
    assert sure <= 1
    assert 0.5 < counted / claimed < 2


def test_a_hole_is_left_out_with_its_shore() -> None:
    image, _ = layer(np.random.default_rng(4), hole=22.0)
    residual = lattice_residual(image)
    y, x = np.mgrid[:150, :150]
    far = np.hypot(y - 45, x - 45)
    assert not residual.valid[far < 18].any()
    assert residual.valid[(far > 50) & (np.minimum(y, x) > 5) & (np.maximum(y, x) < 144)].all()
    assert (candidates(residual)["q"] < 0.05).sum() <= 1


def test_a_sheared_scan_is_no_defect() -> None:
    image, _ = layer(np.random.default_rng(5), shear=0.06)
    assert (candidates(lattice_residual(image))["q"] < 0.05).sum() <= 1


def test_dopants_of_a_simulated_layer_are_found_and_the_hole_is_not() -> None:
    movie = simulate_ws2_movie(3, frames=1, size=160, pixel=0.3, dopants=5, vacancies=3)
    true = movie.defects
    found = candidates(lattice_residual(movie.frames[0]))
    sure = found[found["q"] < 0.05]
    for kind, least in (("Mo_W", 1.0),):
        places = true[true["kind"] == kind][["y", "x"]].to_numpy(float)
        gaps = [np.hypot(*(sure[["y", "x"]].to_numpy(float) - place).T).min() for place in places]
        assert np.mean(np.array(gaps) < 2) >= least
    near = [
        np.hypot(*(true[["y", "x"]].to_numpy(float) - p).T).min() for p in sure[["y", "x"]].to_numpy(float)
    ]
    assert np.mean(np.array(near) < 3) >= 0.8


def test_an_image_without_a_lattice_is_refused() -> None:
    with pytest.raises(InputError, match="no lattice"):
        lattice_residual(np.random.default_rng(0).normal(size=(128, 128)))


def test_the_image_is_left_as_it_was() -> None:
    image, _ = layer(np.random.default_rng(6))
    before = image.copy()
    lattice_residual(image)
    assert np.array_equal(image, before)
