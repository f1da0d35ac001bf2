"""A classifier's mistakes are no reactions: rates from labels and probabilities with known errors."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy.stats import binomtest

from atomreel.core.errors import InputError
from atomreel.kinetics.emission import class_shares, likelihood_of_labels, likelihood_of_scores
from atomreel.kinetics.hidden import fit_hidden
from atomreel.kinetics.markov import count_transitions, fit_rates

NAMES = ("Mo_W", "V_S")
AWAY, BACK = 0.03, 0.06  # 1/s
TIMES = 2.0 * np.arange(80)
SHARE = np.array([[0.93, 0.07], [0.12, 0.88]])


def telegraph(rng: np.random.Generator, tracks: int) -> tuple[pd.DataFrame, np.ndarray]:
    """Two states, jump by jump, seen at TIMES."""
    states = np.zeros((tracks, len(TIMES)), dtype=int)
    for row in states:
        state, clock, seen = int(rng.random() < AWAY / (AWAY + BACK)), 0.0, 0
        while seen < len(TIMES):
            clock += rng.exponential(1 / (BACK if state else AWAY))
            until = int(np.searchsorted(TIMES, clock))
            row[seen:until], seen, state = state, until, 1 - state
    where = np.indices(states.shape).reshape(2, -1)
    return pd.DataFrame({"track": where[0], "frame": where[1]}), states.ravel()


@pytest.mark.slow
def test_rates_from_labels_with_known_mistakes() -> None:
    inside, widths, naive = [], [], []
    for seed in range(30):
        rng = np.random.default_rng([seed, 8])
        rows, truth = telegraph(rng, 12)
        said = np.where(rng.random(len(truth)) < SHARE[truth, 1], NAMES[1], NAMES[0])
        test = np.array([rng.multinomial(2000, row) for row in SHARE])
        log = likelihood_of_labels(said, test, names=NAMES)
        found = fit_hidden(rows, log, states=NAMES, times=TIMES, draws=150, burn=40, rng=seed).rates
        inside += [found.low[0, 1] <= AWAY <= found.high[0, 1], found.low[1, 0] <= BACK <= found.high[1, 0]]
        widths.append((found.high[0, 1] - found.low[0, 1]) / AWAY)
        naive.append(fit_rates(count_transitions(rows.assign(kind=said), times=TIMES)).q[0, 1])
    assert binomtest(sum(inside), len(inside), 0.95).pvalue > 0.01
    assert np.median(widths) < 1.2
    assert np.median(naive) > 1.5 * AWAY


def test_probabilities_say_what_the_measurement_behind_them_says() -> None:
    """Bayes: p(state|level) of a classifier that saw states with a prior, and back to the likelihood."""
    rng = np.random.default_rng(2)
    level = rng.normal(0, 1, 200)
    likelihood = np.stack([np.exp(-0.5 * (level - c) ** 2) for c in (0.0, 1.0, 2.0)], axis=1)
    prior = np.array([0.7, 0.2, 0.1])
    p = likelihood * prior
    p /= p.sum(axis=1, keepdims=True)
    found = likelihood_of_scores(p, prior=prior)
    expected = np.log(likelihood)
    assert np.allclose(found - found[:, :1], expected - expected[:, :1])
    assert np.isfinite(likelihood_of_scores([[1.0, 0.0]])).all()


def test_a_label_is_worth_what_the_test_says() -> None:
    found = likelihood_of_labels(["V_S", "Mo_W"], [[90, 10], [0, 50]], names=NAMES)
    assert np.exp(found[0]) == pytest.approx([10.5 / 101, 50.5 / 51])
    assert np.exp(found[1]) == pytest.approx([90.5 / 101, 0.5 / 51])


@pytest.mark.parametrize(
    ("labels", "confusion", "told"),
    [
        (["W_S"], [[9, 1], [1, 9]], "W_S"),
        (["V_S"], [[9, 1]], "shape"),
        (["V_S"], [[9, -1], [1, 9]], "0 or more"),
        (["V_S"], [[9, 1], [0, 0]], "held no V_S"),
    ],
)
def test_bad_labels(labels: list[str], confusion: list[list[int]], told: str) -> None:
    with pytest.raises(InputError, match=told):
        likelihood_of_labels(labels, confusion, names=NAMES)


def test_bad_probabilities() -> None:
    for p in ([[0.9, 0.9]], [0.5, 0.5], [[-0.1, 0.5]], [[np.nan, 0.5]]):
        with pytest.raises(InputError, match="probabilities"):
            likelihood_of_scores(p)
    with pytest.raises(InputError, match="prior"):
        likelihood_of_scores([[0.5, 0.5]], prior=[1.0, 0.0])


def test_classes_rarer_than_in_training_are_counted_right() -> None:
    """97 in 100 are of one class: its mistakes outnumber the others, and the likeliest shares know it."""
    rng = np.random.default_rng(4)
    truth = rng.choice(3, 4000, p=[0.97, 0.02, 0.01])
    level = truth + rng.normal(0, 0.7, 4000)
    likelihood = np.exp(-0.5 * ((level[:, None] - np.arange(3)) / 0.7) ** 2)
    p = likelihood / likelihood.sum(axis=1, keepdims=True)
    share, each = class_shares(likelihood_of_scores(p))
    assert (p.argmax(axis=1) == 1).mean() > 0.15  # called so, wrongly
    assert share == pytest.approx([0.97, 0.02, 0.01], abs=0.01)
    assert np.allclose(each.sum(axis=1), 1)
    off = (each[:, 0] - (truth == 0)).reshape(40, 100).sum(axis=1)
    scatter = np.sqrt((each[:, 0] * (1 - each[:, 0])).reshape(40, 100).sum(axis=1))
    assert 0.55 < (np.abs(off) < scatter).mean() < 0.85


def test_what_has_no_weight_is_not_counted() -> None:
    log = np.log([[0.9, 0.1]] * 5 + [[0.1, 0.9]] * 50)
    share, _ = class_shares(log, weight=np.array([1.0] * 5 + [0.0] * 50))
    assert share[0] > 0.8
    for wrong in ({"weight": np.zeros(55)}, {"weight": np.ones(3)}, {"weight": -np.ones(55)}):
        with pytest.raises(InputError):
            class_shares(log, **wrong)
