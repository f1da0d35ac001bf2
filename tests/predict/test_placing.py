"""The mean of two who read the same noise, on positions drawn here: errors and claims against a truth that both miss."""

import numpy as np
import pytest

from atomreel.predict.placing import place


def two_readers(seed, *, fit=0.4, net=0.4, shared=0.8, count=400, lattice=True):
    """Truth, fit and network; errors `fit` and `net` with correlation `shared` [px]."""
    rng = np.random.default_rng(seed)
    side = int(np.sqrt(count))
    truth = np.stack(np.meshgrid(np.arange(side), np.arange(side)), -1).reshape(-1, 2) * 8.0
    if not lattice:
        truth = truth + rng.uniform(-3, 3, truth.shape)
    common, own, other = rng.standard_normal((3, *truth.shape))
    mine = np.sqrt(1 - shared**2)
    return truth, truth + fit * (shared * common + mine * own), truth + net * (shared * common + mine * other)


def spread(off):
    return float(np.sqrt(np.mean(off**2)))


def test_the_better_of_both_counts_more():
    """Network better: nearly where it is. Fit better: nearly where that is. Never worse than the worse, nor much than the better."""
    for fit, net in ((0.5, 0.35), (0.4, 0.4), (0.1, 0.5), (0.02, 0.1)):
        got = []
        for seed in range(5):
            truth, fitted, found = two_readers(seed, fit=fit, net=net)
            claim = np.full(truth.shape, fit)
            position, _ = place(fitted, claim, found, score=np.ones(len(truth)), zoom=1.0)
            got.append(spread(position - truth))
        assert np.mean(got) < 1.06 * min(fit, net)


def covered(seed, by, **told):
    truth, fitted, found = two_readers(seed, **told)
    claim = np.full(truth.shape, by * told.get("fit", 0.4))
    position, error = place(fitted, claim, found, score=np.ones(len(truth)), zoom=1.0)
    return float(np.mean(np.abs(position - truth) < error))


def test_claims_that_are_too_wide_are_cut_by_the_lattice():
    right, wide, scattered = (
        np.mean([covered(seed, by, lattice=lattice) for seed in range(8)])
        for by, lattice in ((1.0, True), (1.35, True), (1.35, False))
    )
    assert 0.66 < right < 0.76
    assert 0.66 < wide < 0.76
    assert scattered > 0.8  # without a lattice nothing speaks against them


def test_a_column_where_both_disagree_is_claimed_less_well():
    truth, fitted, found = two_readers(0)
    fitted[17] += (1.5, 1.0)
    claim, score = np.full(truth.shape, 0.4), np.ones(len(truth))
    score[40] = 0.5
    _, error = place(fitted, claim, found, score=score, zoom=1.0)
    usual = np.median(error, axis=0)
    assert (error[17] > 1.5 * usual).all()
    assert (error[40] > 1.2 * usual).all()


def test_nothing_is_left_as_it_is():
    none = np.zeros((0, 2))
    position, error = place(none, none, none, score=np.zeros(0), zoom=0.5)
    assert position.shape == error.shape == (0, 2)


def test_one_column_and_units():
    """A single column is judged by what is usual, in px of the network whatever the zoom."""
    for zoom in (0.5, 2.0):
        place_at = np.array([[10.0, 10.0]]) / zoom
        error = np.full((1, 2), 0.4) / zoom
        position, claim = place(place_at, error, place_at + 0.3 / zoom, score=np.array([0.9]), zoom=zoom)
        assert position * zoom == pytest.approx(np.array([[10.228, 10.228]]), abs=0.005)
        assert (claim * zoom > 0.4).all() and (claim * zoom < 0.5).all()
    unknown = place(np.zeros((1, 2)), np.full((1, 2), np.nan), np.ones((1, 2)), score=np.ones(1), zoom=1.0)
    assert unknown[0] == pytest.approx(np.zeros((1, 2))) and np.isnan(unknown[1]).all()


def test_a_column_that_was_found_is_known_to_a_pixel():
    """A fit that says nothing is not taken at its word: the network has found the column, and errs by 0.8 px at most."""
    truth, _, found = two_readers(1, net=0.5)
    fitted = found + np.random.default_rng(2).normal(0, 1.0, found.shape)
    for zoom in (1.0, 0.5):
        claim = np.full(truth.shape, 5.0) / zoom
        position, error = place(fitted / zoom, claim, found / zoom, score=np.ones(len(truth)), zoom=zoom)
        assert spread(position - truth / zoom) < 0.6 / zoom
        assert (error * zoom < 1.6).all() and 0.5 < np.median(error * zoom) < 0.9
