from __future__ import annotations

import numpy as np
import pytest

from atomreel.core.errors import InputError
from atomreel.interpret.reflections import Reflections
from atomreel.interpret.sampling import resampled, residual_at, to_image, work_factor


@pytest.mark.parametrize("factor", [0.6, 1.0, 1.7, 3.1])
def test_what_is_at_a_place_stays_there(factor: float) -> None:
    y, x = np.mgrid[:120, :140].astype(float)
    image = np.exp(-((y - 71.3) ** 2 + (x - 44.6) ** 2) / (2 * 8.0**2))
    small = resampled(image, factor)
    i, j = np.mgrid[: small.shape[0], : small.shape[1]]
    middle = np.array([(small * i).sum(), (small * j).sum()]) / small.sum()
    assert np.allclose(to_image(middle, factor), [71.3, 44.6], atol=0.06)


def test_a_map_comes_back_to_the_shape_of_the_image() -> None:
    small = resampled(np.random.default_rng(0).normal(size=(100, 90)), 2.3)
    assert resampled(small, 1 / 2.3, shape=(100, 90)).shape == (100, 90)


def test_the_sampling_follows_the_lattice() -> None:
    def square(spacing: float) -> Reflections:
        return Reflections(np.eye(2) / spacing, np.array([[0, 1], [1, 0]]), np.full(2, 100.0), 1.0)

    assert work_factor(square(7.5)) == 1
    assert work_factor(square(27.0)) == pytest.approx(3)
    assert work_factor(square(4.5)) == pytest.approx(0.5)


def test_what_cannot_be_sampled_is_refused() -> None:
    with pytest.raises(InputError, match="positive"):
        resampled(np.ones((50, 50)), 0.0)
    with pytest.raises(InputError, match="no lattice"):
        residual_at(np.random.default_rng(0).normal(size=(90, 90)), 1.0)
