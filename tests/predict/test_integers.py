"""Whole numbers against all of them tried, and probabilities against sums over all of them."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest

from atomreel.predict.integers import choose, shares


def problem(rng, groups: int = 4, common: float = 0.3):
    """A mean and a correlated covariance, groups of one and of two unknowns in turn."""
    sizes = [1 + g % 2 for g in range(groups)]
    p = sum(sizes)
    root = rng.normal(size=(p, p)) * 0.35 + common
    options = [np.array(list(product((-1.0, 0.0, 1.0), repeat=s))) for s in sizes]
    return rng.normal(0, 0.6, p), root @ root.T + 0.02 * np.eye(p), options


def everything(mean, covariance, options):
    """All combinations and their costs."""
    inverse = np.linalg.inv(covariance)
    index = list(product(*[range(len(o)) for o in options]))
    x = np.array([np.concatenate([o[k] for o, k in zip(options, i, strict=True)]) for i in index]) - mean
    return np.array(index), np.einsum("ki,ij,kj->k", x, inverse, x)


def test_nearly_always_the_best(rng):
    hits, excess = 0, []
    for _ in range(60):
        mean, covariance, options = problem(rng)
        index, cost = everything(mean, covariance, options)
        found = choose(mean, covariance, options)
        mine = cost[(index == found).all(1)][0]
        hits += mine < cost.min() + 1e-6
        excess.append(mine - cost.min())
    assert hits >= 58 and np.max(excess) < 1


def test_shares_are_the_marginals(rng):
    mean, covariance, options = problem(rng, common=0.0)
    covariance += 0.1 * np.eye(len(mean))
    index, cost = everything(mean, covariance, options)
    weight = np.exp(-0.5 * (cost - cost.min()))
    weight /= weight.sum()
    found = shares(mean, covariance, options, first=choose(mean, covariance, options), rng=rng, sweeps=6000)
    for g, p in enumerate(found):
        true = np.bincount(index[:, g], weight, len(options[g]))
        assert p == pytest.approx(true, abs=0.05)
