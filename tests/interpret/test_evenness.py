"""Opposite columns of lattices that are drawn here, with errors that are known."""

import numpy as np
import pytest

from atomreel.interpret.evenness import LEAST, opposite_pairs, scatter_over_claim


def lattice(rng, *, basis=((0.0, 0.0),), cells=18, bend=0.0, errors=0.05):
    """A turned and sheared lattice of nearest distance about 1, and what is claimed of its columns."""
    index = np.stack(np.meshgrid(np.arange(cells), np.arange(cells)), -1).reshape(-1, 2)
    vectors = np.array([[0.3, 1.7], [-1.5, 0.7]])
    points = np.concatenate([(index + np.array(b)) @ vectors for b in basis])
    points = points + bend * np.stack([np.sin(points[:, 1] / 9), (points[:, 0] / 20) ** 2], axis=1)
    claims = errors * rng.uniform(0.5, 1.5, points.shape)
    return points + claims * rng.standard_normal(points.shape), claims


HONEYCOMB = ((0.0, 0.0), (1 / 3, 1 / 3))


@pytest.mark.parametrize("basis", [((0.0, 0.0),), HONEYCOMB])
@pytest.mark.parametrize("bend", [0.0, 0.6])
def test_right_claims_are_left_and_wrong_ones_told(basis, bend):
    ratios = []
    for seed in range(12):
        points, claims = lattice(np.random.default_rng(seed), basis=basis, bend=bend)
        ratios.append([scatter_over_claim(points, by * claims) for by in (1.0, 2.0, 0.5)])
    right, wide, narrow = np.mean(ratios, axis=0)
    assert 1.0 < right < 1.12  # stays above, so that right claims are not cut
    assert np.min(np.array(ratios)[:, 0]) > 0.92
    assert wide == pytest.approx(right / 2) and narrow == pytest.approx(2 * right)


@pytest.mark.parametrize("errors", [0.1, 0.15, 0.2])
def test_scatter_as_wide_as_what_counts_as_opposite(errors):
    """Half of a sum of three errors of 0.2 lies outside of what is looked at: the spread of the rest is not the whole."""
    ratios = [
        scatter_over_claim(*lattice(np.random.default_rng(seed), cells=24, errors=errors))
        for seed in range(12)
    ]
    assert 0.97 < np.mean(ratios) < 1.12


def test_true_displacements_do_not_hide_errors():
    """Columns that stand off their sites say nothing against the claims."""
    rng = np.random.default_rng(3)
    points, claims = lattice(rng)
    assert scatter_over_claim(points + 0.1 * rng.standard_normal(points.shape), claims) > 1.8


def test_opposite_pairs_are_opposite():
    points, _ = lattice(np.random.default_rng(0), basis=HONEYCOMB, errors=0.01)
    middle, one, other = opposite_pairs(points)[0].T
    assert len(middle) > 300
    assert np.hypot(*(points[one] + points[other] - 2 * points[middle]).T).max() < 0.2
    assert len({(m, frozenset((a, b))) for m, a, b in zip(middle, one, other, strict=True)}) == len(middle)


def test_no_lattice_no_answer():
    rng = np.random.default_rng(1)
    assert opposite_pairs(np.zeros((2, 2)))[0].shape == (0, 3)
    assert scatter_over_claim(np.zeros((0, 2)), np.zeros((0, 2))) == np.inf
    assert scatter_over_claim(*lattice(rng, cells=2)) == np.inf
    scattered = rng.uniform(0, 30, (400, 2))
    assert len(opposite_pairs(scattered)[0]) > LEAST
    assert (
        scatter_over_claim(scattered, np.full((400, 2), 0.05)) > 2
    )  # far more than what is claimed: nothing is cut
