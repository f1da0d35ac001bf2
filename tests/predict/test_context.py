"""Scores among their neighbours: lattices and scattered points laid out by hand, with scores as a finder gives them."""

from __future__ import annotations

import json

import numpy as np
from scipy.special import expit

from atomreel.predict.context import WEIGHTS, context_terms, in_context, load_weights, surrounded

SPACING = 9.0


def crystal(rng: np.random.Generator, *, radius: float = 75.0) -> np.ndarray:
    """A round piece of a square lattice in the middle of 256 × 256 px."""
    index = np.stack(np.meshgrid(np.arange(-20, 21), np.arange(-20, 21)), -1).reshape(-1, 2)
    turn = rng.uniform(0, np.pi)
    at = SPACING * index @ np.array([[np.cos(turn), np.sin(turn)], [-np.sin(turn), np.cos(turn)]])
    return (
        at[np.hypot(*at.T) < radius] + 128 + rng.normal(0, 0.25, (int((np.hypot(*at.T) < radius).sum()), 2))
    )


def scattered(rng: np.random.Generator, number: int) -> np.ndarray:
    """Points at least 0.7 spacings apart, as maxima of a map are."""
    kept: list[np.ndarray] = []
    while len(kept) < number:
        new = rng.uniform(0, 256, 2)
        if all(np.hypot(*(new - k)) > 0.7 * SPACING for k in kept):
            kept.append(new)
    return np.array(kept)


def mixture(seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Candidates, scores and truth: log odds of normal scatter about 1.5 for columns and −1.5 for noise around the crystal."""
    rng = np.random.default_rng(seed)
    columns, noise = crystal(rng), scattered(rng, 220)
    alone = np.array([np.hypot(*(columns - n).T).min() > 0.7 * SPACING for n in noise])
    at = np.concatenate([columns, noise[alone]])
    right = np.arange(len(at)) < len(columns)
    return at, expit(np.where(right, 1.5, -1.5) + rng.normal(0, np.sqrt(3), len(at))), right


def test_columns_gain_and_noise_loses() -> None:
    """These scores are probabilities by themselves; context halves their log loss and more."""
    for seed in range(4):
        at, score, right = mixture(seed)
        now = in_context(at, score, spacing=SPACING)
        loss = [-np.log(np.where(right, s, 1 - s)).mean() for s in (score, now)]
        assert loss[1] < 0.6 * loss[0]
        wrong = [((s > 0.5) != right).mean() for s in (score, now)]
        assert wrong[1] < 0.5 * wrong[0]


def test_scattered_atoms_keep_their_scores() -> None:
    rng = np.random.default_rng(7)
    at = scattered(rng, 150)
    score = rng.uniform(0.2, 0.99, 150)
    assert np.array_equal(in_context(at, score, spacing=SPACING), score)


def test_the_rim_is_told_from_the_vacuum_beside_it() -> None:
    """Of two equal candidates at the border of a crystal the one that goes on with the lattice counts more."""
    rng = np.random.default_rng(11)
    columns = crystal(rng)
    outer = np.argmax(np.hypot(*(columns - 128).T))
    away = columns[outer] + 1.5 * SPACING * (columns[outer] - 128) / np.hypot(*(columns[outer] - 128))
    at = np.concatenate([columns, [away]])
    score = np.full(len(at), 0.98)
    score[[outer, -1]] = 0.3
    now = in_context(at, score, spacing=SPACING)
    assert now[outer] > 0.4 > 0.3 > now[-1]


def test_an_atom_of_a_boundary_need_not_repeat() -> None:
    """A column pushed off its site by a third of a spacing, among its like, keeps its score; one in the vacuum beside does not."""
    rng = np.random.default_rng(4)
    columns = crystal(rng)
    middle, *near = np.argsort(np.hypot(*(columns - 128).T))[:5]
    side = next(
        k for k in near[1:] if abs((columns[k] - columns[middle]) @ (columns[near[0]] - columns[middle])) < 30
    )
    columns[middle] += 0.21 * (
        columns[[near[0], side]].sum(0) - 2 * columns[middle]
    )  # to the middle of a square
    away = np.array([[128.0, 128 + 75 + 2.3 * SPACING]])
    at = np.concatenate([columns, away])
    score = np.full(len(at), 0.96)
    score[[middle, -1]] = 0.6
    assert surrounded(at, score, np.array([middle, len(at) - 1]), spacing=SPACING).tolist() == [True, False]
    now = in_context(at, score, spacing=SPACING)
    assert now[middle] >= 0.6
    assert now[-1] < 0.45


def test_what_is_settled_stays_and_nothing_is_changed_in_place() -> None:
    columns = crystal(np.random.default_rng(2))
    score = np.full(len(columns), 0.99)
    before = score.copy()
    assert np.array_equal(in_context(columns, score, spacing=SPACING), before)
    assert np.array_equal(score, before)
    which, terms = context_terms(columns, score, score, spacing=SPACING)
    assert len(which) == 0
    assert terms.shape == (0, len(load_weights()))


def test_scale_does_not_matter() -> None:
    at, score, _ = mixture(3)
    assert np.allclose(
        in_context(at, score, spacing=SPACING), in_context(4 * at, score, spacing=4 * SPACING), atol=1e-3
    )


def test_nothing_to_read() -> None:
    assert in_context(np.zeros((0, 2)), np.zeros(0), spacing=8.0).shape == (0,)
    assert in_context(np.ones((1, 2)), np.array([0.4]), spacing=8.0).tolist() == [0.4]


def test_the_weights_that_are_shipped() -> None:
    weights = json.loads(WEIGHTS.read_text())["weights"]
    assert len(weights) == 12
    assert weights[2] > 0  # agreement speaks for a column
