"""Differences of lattices that were made with known turns, strains and changes of basis."""

from __future__ import annotations

import numpy as np
import pytest

from atomreel.interpret.disorientation import (
    CHANGES,
    deformation,
    disorientation,
    lattice_change,
    mean_lattice,
    right_handed,
)

SHAPES = {"square": (1, 90), "rectangular": (1.3, 90), "centred": (1, 76), "hexagonal": (1, 60), "oblique": (1.25, 77)}  # fmt: skip


def basis(ratio: float, gamma: float, *, turn: float) -> np.ndarray:
    """Rows a and b as (y down, x) of a lattice whose a points `turn` degrees counter-clockwise of x."""
    t = np.deg2rad([turn, turn + gamma])
    return 9.0 * np.array([[1.0], [ratio]]) * np.stack([-np.sin(t), np.cos(t)], 1)


@pytest.mark.parametrize("shape", SHAPES)
def test_a_turn_is_found_with_its_sign(shape: str) -> None:
    for turn in (-29.0, -12.0, -0.5, 3.0, 14.0, 27.0):
        first, second = (right_handed(basis(*SHAPES[shape], turn=20 + t)) for t in (0, turn))
        assert disorientation(first, second) == pytest.approx(turn, abs=1e-9)
        assert lattice_change(first, second) == pytest.approx(
            np.degrees(2 * np.sin(np.radians(abs(turn)) / 2))
        )


@pytest.mark.parametrize(("shape", "period"), [("square", 90), ("hexagonal", 60), ("rectangular", 180), ("oblique", 180)])  # fmt: skip
def test_turns_into_itself_change_nothing(shape: str, period: float) -> None:
    first = right_handed(basis(*SHAPES[shape], turn=7))
    for turn in (period, -period, period + 5):
        second = right_handed(basis(*SHAPES[shape], turn=7 + turn))
        left = turn % period
        assert disorientation(first, second) == pytest.approx(left, abs=1e-6)


@pytest.mark.parametrize("shape", SHAPES)
def test_the_choice_of_vectors_does_not_matter(shape: str) -> None:
    first = right_handed(basis(*SHAPES[shape], turn=31))
    for change in ([[0, 1], [-1, 0]], [[1, 0], [0, -1]], [[-1, 0], [0, -1]], [[0, -1], [-1, 0]]):
        same = right_handed(np.array(change) @ first)
        assert lattice_change(first, same) == pytest.approx(0, abs=1e-6)
        found, integers = deformation(first, same)
        np.testing.assert_allclose(integers @ same, first @ found, atol=1e-9)


def test_mirror_twins_of_an_oblique_lattice_differ_and_those_of_a_rectangular_one_do_not() -> None:
    mirror = np.diag([1.0, -1.0])
    for shape, differs in (("oblique", True), ("centred", False), ("rectangular", False)):
        first = basis(*SHAPES[shape], turn=0 if shape != "centred" else -38)
        twin = right_handed(first @ mirror)
        assert (lattice_change(right_handed(first), twin) > 5) == differs


def test_strain_counts_like_a_turn_and_missing_lattices_stay_missing() -> None:
    first = right_handed(basis(1, 60, turn=11))
    stretched = first @ np.diag([1.03, 1.0])
    assert lattice_change(first, stretched) == pytest.approx(np.degrees(0.03))
    assert disorientation(first, stretched) == pytest.approx(0, abs=1e-9)
    pair = np.stack([first, np.full((2, 2), np.nan)])
    change = lattice_change(pair, first)
    assert change[0] == pytest.approx(0, abs=1e-6) and np.isnan(change[1])


def test_the_mean_of_equivalent_bases_is_their_lattice() -> None:
    rng = np.random.default_rng(0)
    for shape, turn, shown in (
        ("hexagonal", 40, -20),
        ("square", 100, 10),
        ("oblique", 40, 40),
        ("oblique", 200, 20),
    ):
        first = right_handed(basis(*SHAPES[shape], turn=turn))
        some = CHANGES[rng.integers(len(CHANGES), size=30)]
        reduced = np.array([m for m in some if np.abs((m @ first) ** 2).sum(1).max() <= 1.6 * 81])
        mean, turned = mean_lattice(reduced @ first + rng.normal(0, 0.01, (len(reduced), 2, 2)))
        assert np.hypot(*mean[0]) == pytest.approx(9, abs=0.02)
        assert np.degrees(np.arctan2(-mean[0, 0], mean[0, 1])) == pytest.approx(shown, abs=0.2)
        assert turned.std(0).max() < 0.03
        assert lattice_change(first, right_handed(mean)) < 0.2
