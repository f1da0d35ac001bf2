import numpy as np
import pytest

from atomreel.interpret.mixture import odd_ones


def test_a_clean_population_has_hardly_any():
    found = [
        np.sum(odd_ones(np.random.default_rng(s).standard_normal(1500), prior=0.01)[0] > 0.5)
        for s in range(20)
    ]
    assert np.mean(found) < 0.6


def test_one_far_member_is_odd():
    z = np.r_[np.random.default_rng(0).standard_normal(200), 12.0]
    score, odd = odd_ones(z, prior=0.01)
    assert score[-1] > 0.99 and odd[-1] and score[:-1].max() < 0.5


@pytest.mark.parametrize("shift", [3.0, 4.5])
def test_probabilities_are_honest(shift):
    """Bin by bin; and their sum is the number of odd members where the two can be told apart."""
    scores, truth = [], []
    for seed in range(25):
        rng = np.random.default_rng(seed)
        odd = rng.random(1200) < 0.02
        z = rng.standard_normal(1200) + shift * odd
        scores.append(odd_ones(z, prior=0.01)[0])
        truth.append(odd)
    scores, truth = np.concatenate(scores), np.concatenate(truth)
    assert scores.sum() == pytest.approx(truth.sum(), rel=0.15 if shift > 4 else 0.4)
    for low, high in ((0.2, 0.6), (0.6, 0.95), (0.95, 1.01)):
        here = (scores >= low) & (scores < high)
        assert truth[here].mean() == pytest.approx(scores[here].mean(), abs=0.15)


def test_two_bright_populations_and_a_dim_one():
    rng = np.random.default_rng(3)
    z = np.r_[rng.standard_normal(2000), rng.normal(6, 1, 30), rng.normal(40, 2, 15), rng.normal(-8, 1, 12)]
    score, odd = odd_ones(z, prior=0.01)
    assert ((score > 0.5) & odd)[2000:].mean() > 0.95
    assert ((score > 0.5) & odd)[:2000].sum() <= 4


def test_empty():
    assert len(odd_ones(np.zeros(0), prior=0.01)[0]) == 0
