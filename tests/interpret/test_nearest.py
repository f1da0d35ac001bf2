"""Means over the nearest points, against a k-d tree."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial import cKDTree

from atomreel.interpret.nearest import mean_of_nearest


def by_tree(place, position, value, count):
    near = cKDTree(position).query(place, k=min(count, len(position)))[1]
    return value[near.reshape(len(place), -1)].mean(1)


@pytest.mark.parametrize("number", [1, 7, 48, 60, 3000])
@pytest.mark.parametrize("count", [1, 7, 48])
def test_the_same_as_by_a_tree(rng, number, count):
    """Points in clumps, and places among them, between them and far outside."""
    clumps = rng.uniform(0, 500, (9, 2))
    position = clumps[rng.integers(0, 9, number)] + rng.normal(0, 20, (number, 2))
    place = np.concatenate([position, rng.uniform(-300, 800, (1200, 2))])
    value = rng.random(number)
    found = mean_of_nearest(place, position, value, count=count)
    assert found == pytest.approx(by_tree(place, position, value, count), abs=1e-12)


def test_points_on_one_line(rng):
    position = np.stack([np.full(200, 3.0), np.sort(rng.uniform(0, 400, 200))], axis=1)
    value = rng.random(200)
    found = mean_of_nearest(position, position, value, count=7)
    assert found == pytest.approx(by_tree(position, position, value, 7), abs=1e-12)


def test_equally_distant_points_share_the_last_place():
    """Of a square's four corners around its middle two count: half of each."""
    corners = np.array([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]])
    found = mean_of_nearest(np.array([[0.5, 0.5]]), corners, np.array([1.0, 2.0, 3.0, 6.0]), count=2)
    assert found == pytest.approx([3.0])
    same = np.zeros((50, 2))
    assert mean_of_nearest(same[:1], same, np.arange(50.0), count=7) == pytest.approx([24.5])
