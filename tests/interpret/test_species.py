"""Intensity classes: how many, which, and the same from frame to frame."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from atomreel.core.errors import InputError
from atomreel.interpret.species import SpeciesModel, fit_species, label_species


def assign_species(value, error, **kw):
    return label_species(value, error, model=fit_species(value, error, **kw))


def mixture(rng, means, shares, error, n=900, spread=0.02):
    kind = rng.choice(len(means), n, p=shares)
    true = np.array(means)[kind] * (1 + spread * rng.standard_normal(n))
    return true + error * rng.standard_normal(n), np.full(n, error), kind


def test_one_broad_population_stays_one(rng):
    for _ in range(10):
        value = 50 * np.exp(0.1 * rng.standard_normal(600))
        found = assign_species(value, np.full(600, 2.0))
        assert found.probability.shape == (600, 1)
        assert set(found.labels) == {"I1"}


def test_four_classes_of_doped_ws2(rng):
    """S, S2, Mo, W as a HAADF detector sees them: told apart where they differ by more than their noise."""
    means, shares = [5.0, 10.0, 30.0, 65.0], [0.05, 0.6, 0.05, 0.3]
    value, error, kind = mixture(rng, means, shares, error=0.8)
    found = assign_species(value, error)
    assert found.model.means == pytest.approx(means, rel=0.06)
    assert (found.labels == np.array([f"I{k + 1}" for k in kind])).mean() > 0.98


def test_rare_bright_ones_are_a_class_of_their_own(rng):
    """Half a per cent of silicon in graphene: a broad class for it and every stray column would fit better still."""
    for _ in range(5):
        value = np.concatenate([140 + 12 * rng.standard_normal(1240), 585 + 12 * rng.standard_normal(7)])
        value = np.append(value, rng.uniform(40, 300, 9))
        labels = assign_species(value, np.full(len(value), 7.0)).labels
        assert len(set(labels[:1240])) == len(set(labels[1240:1247])) == 1
        assert labels[1240] != labels[0]


def test_few_dopants_beside_a_broad_class_are_found(rng):
    """Three per cent of molybdenum, next to sulphur that scatters: no start by shares or steps leads there."""
    for _ in range(5):
        parts = [rng.normal(14.5, 3.4, 240), rng.normal(31, 2.4, 15), rng.normal(86, 4.6, 230)]
        found = assign_species(np.concatenate(parts), np.concatenate([np.full(len(p), 2.3) for p in parts]))
        assert found.model.means == pytest.approx([14.5, 31, 86], rel=0.08)


def test_like_values_are_one_cell_and_change_nothing(rng):
    """Grouped values give the classes that a fit of every value gives: those of the truth, to their own errors."""
    value, error, kind = mixture(rng, [20.0, 30.0], [0.3, 0.7], error=1.5, n=3000)
    error = error * rng.choice([0.8, 1.25], 3000)
    model = fit_species(value, error)
    for k in range(2):
        weight = 1 / ((0.02 * [20.0, 30.0][k]) ** 2 + error[kind == k] ** 2)
        mean = np.average(value[kind == k], weights=weight)
        assert model.means[k] == pytest.approx(mean, abs=3 / np.sqrt(weight.sum()))
        assert model.shares[k] == pytest.approx((kind == k).mean(), abs=0.01)


def test_errors_decide_whether_classes_exist(rng):
    value, error, _ = mixture(rng, [20.0, 24.0], [0.5, 0.5], error=6.0)
    assert len(fit_species(value, error).means) == 1
    value, error, _ = mixture(rng, [20.0, 24.0], [0.5, 0.5], error=0.4)
    assert len(fit_species(value, error).means) == 2


def test_probabilities_are_calibrated(rng):
    value, error, kind = mixture(rng, [20.0, 30.0], [0.5, 0.5], error=2.2, n=6000, spread=0.0)
    found = assign_species(value, error)
    top = found.probability.max(1)
    right = found.labels == np.array(["I1", "I2"])[kind]
    unsure = (top > 0.6) & (top < 0.9)
    assert right[unsure].mean() == pytest.approx(top[unsure].mean(), abs=0.06)


def test_one_model_labels_every_frame_alike(rng):
    value, error, _ = mixture(rng, [10.0, 40.0], [0.5, 0.5], error=1.0)
    model = SpeciesModel.from_dict(json.loads(json.dumps(fit_species(value, error).to_dict())))
    only_bright = label_species([39.0, 41.0], [1.0, 1.0], model=model)
    assert list(only_bright.labels) == ["I2", "I2"]
    assert label_species([np.nan, 12.0], [1.0, np.inf], model=model).labels.shape == (2,)


def test_bad_input(rng):
    with pytest.raises(InputError, match="N"):
        assign_species([1.0, 2.0], [1.0])
    with pytest.raises(InputError, match="max_classes"):
        fit_species([1.0], [1.0], max_classes=0)
    assert len(assign_species([], []).labels) == 0


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 60), st.floats(1e-3, 1e4), st.integers(0, 99))
def test_rows_sum_to_one_and_labels_follow_brightness(n, scale, seed):
    rng = np.random.default_rng(seed)
    value = scale * rng.lognormal(0, 1, n)
    found = assign_species(value, 0.05 * value)
    assert found.probability.sum(1) == pytest.approx(np.ones(n))
    assert list(found.model.means) == sorted(found.model.means)
