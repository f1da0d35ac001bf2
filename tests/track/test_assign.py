import numpy as np
import pytest
from scipy.optimize import linear_sum_assignment

from atomreel.track import assign as module
from atomreel.track.assign import assign

ALONE = 3.8


def reference(i, j, cost):
    """The whole problem as one dense matrix: the plain way, against which the short cuts are held."""
    gain = np.zeros((i.max() + 1, j.max() + 1))
    gain[i, j] = np.maximum(ALONE - cost, 0)
    chosen = set(zip(*linear_sum_assignment(gain, maximize=True), strict=True))
    return [k for k in range(len(i)) if (i[k], j[k]) in chosen and cost[k] <= ALONE]


def candidates(rng, *, side, step, reach, points=400, lost=0.1):
    """Pairs of two clouds, the second being the first after a step, with some points gone and others new."""
    old = rng.uniform(0, side, (points, 2))
    new = np.concatenate([old[rng.random(points) > lost], rng.uniform(0, side, (int(lost * points), 2))])
    new = rng.permutation(new + rng.normal(0, step, new.shape))
    away = np.linalg.norm(old[:, None] - new[None], axis=2)
    i, j = np.nonzero(away < reach)
    order = rng.permutation(len(i))
    i, j = i[order], j[order]
    return i, j, (away[i, j] / reach) ** 2 + rng.uniform(0, 2.5, len(i))


@pytest.mark.parametrize(
    "side", [60, 100, 200, 800]
)  # from one tangle of all points to pairs that stand alone
def test_as_cheap_as_the_whole_problem_at_once(rng, side):
    for _ in range(5):
        i, j, cost = candidates(rng, side=side, step=1.0, reach=6.0)
        pairs, odds = assign(i, j, cost, alone=ALONE)
        assert pairs.tolist() == reference(i, j, cost)
        assert len(np.unique(i[pairs])) == len(np.unique(j[pairs])) == len(pairs)
        assert ((odds > 0) & (odds <= 1)).all()


def test_the_solver_for_large_tangles_agrees(rng, monkeypatch):
    i, j, cost = candidates(rng, side=80, step=1.0, reach=6.0)
    pairs, odds = assign(i, j, cost, alone=ALONE)
    monkeypatch.setattr(module, "_DENSE", 4)
    again, odds_again = assign(i, j, cost, alone=ALONE)
    assert again.tolist() == pairs.tolist()
    assert np.array_equal(odds, odds_again)


def test_pairs_dearer_than_staying_alone_are_left():
    i, j = np.array([0, 1]), np.array([0, 1])
    pairs, odds = assign(i, j, np.array([1.0, ALONE + 0.1]), alone=ALONE)
    assert pairs.tolist() == [0] and odds.shape == (1,)
    for cost in (np.zeros(0), np.array([9.0, 9.0])):
        none, no_odds = assign(i[: len(cost)], j[: len(cost)], cost, alone=ALONE)
        assert len(none) == len(no_odds) == 0


def test_odds_fall_with_rivals():
    lone = assign(np.array([0]), np.array([0]), np.array([0.1]), alone=ALONE)[1]
    rival = assign(np.array([0, 0]), np.array([0, 1]), np.array([0.1, 0.12]), alone=ALONE)[1]
    assert lone[0] > 0.95 and rival[0] < 0.6
