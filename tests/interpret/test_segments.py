"""Segments of synthetic probability maps whose columns and classes are known; the watershed against flooding by a queue."""

from __future__ import annotations

import heapq
import itertools

import numpy as np
import pytest

from atomreel.core.errors import InputError
from atomreel.interpret.segments import find_segments


def maps_of(centres, classes, *, sigma=1.5, shape=(60, 64), heights=None, mix=0.0):
    """Unit Gaussians, the nearest one at each pixel; the class that is meant gets 1 − mix, the others share the rest."""
    y, x = np.indices(shape)
    heights = np.ones(len(centres)) if heights is None else heights
    peaks = np.array(
        [
            h * np.exp(-((y - cy) ** 2 + (x - cx) ** 2) / (2 * sigma**2))
            for (cy, cx), h in zip(centres, heights, strict=True)
        ]
    )
    front, owner = peaks.max(0), np.asarray(classes)[peaks.argmax(0)]
    count = max(max(classes), 2) + 1
    share = np.where(np.arange(count)[:, None, None] == owner, 1 - mix, mix / (count - 1))
    return np.concatenate([1 - front[None], front * share])


def lattice(rng, gap=7.0, n=7):
    grid = 8 + gap * np.stack(np.meshgrid(np.arange(n), np.arange(n), indexing="ij"), -1).reshape(-1, 2)
    return grid + rng.uniform(-0.5, 0.5, grid.shape)


def test_positions_and_classes_of_a_crystal(rng):
    centres = lattice(rng)
    classes = rng.integers(0, 3, len(centres))
    found = find_segments(maps_of(centres, classes, mix=0.3), t=0.2)
    order = np.argmin(np.linalg.norm(found.position[:, None] - centres, axis=2), axis=1)
    assert sorted(order) == list(range(len(centres)))
    assert np.abs(found.position - centres[order]).max() < 0.15
    np.testing.assert_array_equal(found.probability.argmax(1), classes[order])
    np.testing.assert_allclose(found.probability.max(1), 0.7, atol=0.01)
    np.testing.assert_allclose(found.probability.sum(1), 1)
    assert np.abs(found.pixel - found.position).max() <= 1.0


def test_a_column_between_two_classes_says_so(rng):
    one = maps_of([(20, 20)], [0], shape=(40, 40))
    half = np.stack([one[0], 0.6 * one[1], 0.4 * one[1], one[3]])
    found = find_segments(half, t=0.2)
    np.testing.assert_allclose(found.probability, [[0.6, 0.4, 0.0]], atol=1e-9)


def test_the_rule_that_drops_segments():
    """A lone Gaussian of height A cut at 1 − ε: Σp/Σp₀ = (A − δ)/(ln(A/δ) − A + δ), δ = 1 − ε."""
    for height in (1.0, 0.5):
        ratio = (height - 0.005) / (np.log(height / 0.005) - height + 0.005)
        map_ = maps_of([(30, 30)], [0], sigma=4.0, heights=[height])
        assert len(find_segments(map_, t=0.98 * ratio).position) == 1
        gone = find_segments(map_, t=1.02 * ratio)
        assert len(gone.position) == 0 and (gone.labels == -1).all()
        kept = find_segments(map_, t=0.0)
        assert kept.likely[0] == pytest.approx(ratio / (1 + ratio), rel=0.01)
    crowded = np.stack(np.meshgrid(np.arange(0, 60, 4), np.arange(0, 60, 4), indexing="ij"), -1).reshape(
        -1, 2
    )
    assert len(find_segments(maps_of(crowded, [0] * len(crowded))).position) > 0.9 * len(crowded)


def test_minima_above_epsilon_and_tails_are_no_part(rng):
    map_ = maps_of([(20, 20), (20, 44)], [0, 1], heights=[0.9, 0.004])
    found = find_segments(map_, t=0.0)
    assert len(found.position) == 1
    assert (map_[0][found.labels >= 0] < 0.995).all()
    assert (find_segments(map_, t=0.0, epsilon=0.999).position[:, 1] > 40).any()
    y, x = np.nonzero(find_segments(map_, t=0.0, reach=2.0).labels >= 0)
    assert np.hypot(y - 20, x - 20).max() == 2.0


def flooded(height, seeds):
    """Basins by a queue of pixels in order of height, first come first served, as in Meyer's algorithm."""
    clock = itertools.count()
    labels, queue = np.full(height.shape, -1), []
    for number, (y, x) in enumerate(seeds):
        heapq.heappush(queue, (height[y, x], next(clock), y, x, number))
    while queue:
        level, _, y, x, number = heapq.heappop(queue)
        if labels[y, x] >= 0:
            continue
        labels[y, x] = number
        for v in range(max(0, y - 1), min(height.shape[0], y + 2)):
            for u in range(max(0, x - 1), min(height.shape[1], x + 2)):
                if labels[v, u] < 0:
                    heapq.heappush(queue, (max(level, height[v, u]), next(clock), v, u, number))
    return labels


def test_basins_are_those_of_flooding(rng):
    centres = lattice(rng, gap=6.0)
    map_ = maps_of(centres, [0] * len(centres), shape=(56, 56), sigma=2.0)
    found = find_segments(map_, t=0.0)
    inside = found.labels >= 0
    assert (flooded(map_[0], found.pixel)[inside] == found.labels[inside]).mean() > 0.97


def test_plateaus_are_one_minimum_or_none():
    background = np.ones((20, 20))
    background[5:8, 5:8] = 0.3
    background[6, 8:12] = 0.3  # an arm of the same height
    background[12:15, 12:15] = 0.4
    background[15, 15] = 0.1  # a way down from that plateau
    found = find_segments(np.stack([background, 1 - background]), t=0.0)
    assert len(found.position) == 2
    np.testing.assert_allclose(found.position[0], [6.0, (9 * 6 + 4 * 9.5) / 13])
    assert (found.labels[12:15, 12:15] == found.labels[15, 15]).all()
    assert found.pixel[1].tolist() == [15, 15]


def test_empty_and_flat_maps_have_none():
    nothing = np.stack([np.ones((9, 9)), np.zeros((9, 9))])
    found = find_segments(nothing)
    assert found.position.shape == (0, 2) and found.probability.shape == (0, 1)
    assert (found.labels == -1).all()


@pytest.mark.parametrize(
    ("maps", "given", "words"),
    [
        (np.ones((4, 4)), {}, "background first"),
        (np.ones((1, 4, 4)), {}, "background first"),
        (np.ones((2, 4, 4)), {}, "sum to 1"),
        (np.full((2, 4, 4), np.nan), {}, "finite"),
        (np.full((2, 4, 4), 0.5), {"epsilon": 0.0}, "epsilon"),
        (np.full((2, 4, 4), 0.5), {"t": -1.0}, "epsilon"),
    ],
)
def test_bad_input(maps, given, words):
    with pytest.raises(InputError, match=words):
        find_segments(maps, **given)
