"""The finer map of grains."""

from __future__ import annotations

import numpy as np
import pytest
from polycrystals import SHAPES, basis, grow, nearest

from atomreel.core.field import Field
from atomreel.interpret.grainarea import grain_area


def windows(labels: np.ndarray, turns: tuple[float, ...], *, a: float = 8.0) -> tuple[Field, np.ndarray]:
    """Lattices as windows of 80 px every 20 px would have them."""
    vectors = np.full((*labels.shape, 2, 2), np.nan)
    for number, turn in enumerate(turns, 1):
        vectors[labels == number] = basis(SHAPES["hexagonal"], a=a, turn=turn)
    return Field({"p_noise": np.zeros(labels.shape)}, origin=(39.5, 39.5), step=(20.0, 20.0)), vectors


def test_a_boundary_is_placed_to_a_part_of_a_lattice_vector() -> None:
    rng = np.random.default_rng(4)
    made = grow(rng, turns=(5.0, 22.0), region=nearest([(112, 60), (112, 140)]))  # at x = 100
    labels = np.zeros((8, 8), np.int32)
    labels[:, :2], labels[:, 5:] = 1, 2
    area = grain_area(made.image, *windows(labels, (5.0, 22.0)), labels=labels, window=80)
    owner = area.maps["grain"]
    assert area.step == (4.0, 4.0) and area.origin == (1.5, 1.5) and set(np.unique(owner)) == {1, 2}
    assert (owner == 1).mean() * 224 == pytest.approx(100, abs=2.5)


def test_holes_are_left_out_and_lost_atoms_are_not() -> None:
    rng = np.random.default_rng(6)
    hole, spot = (112.0, 80.0), (112.0, 170.0)
    gone = lambda at: (np.hypot(*(at - hole).T) < 28) | (np.hypot(*(at - spot).T) < 6)  # noqa: E731
    made = grow(rng, turns=(5.0,), region=lambda at: np.where(gone(at), -1, 0))
    labels = np.ones((8, 8), np.int32)
    owner = grain_area(made.image, *windows(labels, (5.0,)), labels=labels, window=80).maps["grain"]
    assert owner[28, 20] == 0 and owner[28, 42] == 1
    assert (owner == 0).sum() * 16 == pytest.approx(np.pi * 28**2, rel=0.35)


def test_without_grains_there_is_no_area() -> None:
    labels = np.zeros((8, 8), np.int32)
    area = grain_area(np.ones((224, 224)), *windows(labels, ()), labels=labels, window=80)
    assert not area.maps["grain"].any() and area.shape == (56, 56)
