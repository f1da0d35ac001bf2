"""Levels of the occupants of a sublattice against brightness drawn from known ones."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import softmax

from atomreel.core.errors import InputError
from atomreel.interpret.levels import fit_levels, relative_brightness

EXPECTED = {"S2": 1.0, "V_S2": 0.0, "V_S": 0.5}
TRUE = np.array([1.0, 0.0, 0.56])


def draw(
    rng: np.random.Generator, *, noise: float = 0.11, shares: tuple[float, ...] = (0.95, 0.01, 0.04)
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Intensity (S, T) with NaN where nothing is found, positions (S, 2), who was there (S, T)."""
    place = 10.0 * np.stack(np.meshgrid(np.arange(12.0), np.arange(12.0), indexing="ij"), -1).reshape(-1, 2)
    who = rng.choice(3, size=(144, 50), p=shares)
    shade = 20 * (1 + 0.004 * place[:, 0])[:, None] * np.exp(0.1 * rng.standard_normal(50))
    value = shade * (TRUE[who] + noise * rng.standard_normal(who.shape))
    value[(who == 1) | (rng.random(who.shape) < 0.01)] = np.nan
    return value, place, who


def test_levels_and_occupants_are_recovered(rng: np.random.Generator) -> None:
    value, place, who = draw(rng)
    ratio, scatter = relative_brightness(value, place)
    seen = np.ones(value.shape, dtype=bool)
    levels = fit_levels(ratio, seen, scatter, expected=EXPECTED)
    assert levels.names == ("S2", "V_S2", "V_S")
    assert levels.ratio[[0, 2]] == pytest.approx(TRUE[[0, 2]], abs=0.03)  # held a little near 0.5
    assert levels.width[0] == pytest.approx(0.11, rel=0.1)
    assert levels.share == pytest.approx([0.95, 0.01, 0.04], abs=0.008)
    assert levels.missing[0] == pytest.approx(0.01, abs=0.005) and levels.missing[1] > 0.9
    found = np.isfinite(value)
    chance = softmax(levels.log[found] + np.log(levels.share), axis=1)
    assert (chance.argmax(1) == who[found]).mean() > 0.985  # two levels 4 σ apart, one rare
    says = chance[:, 2]
    for low, high in ((0.05, 0.5), (0.5, 0.95)):
        inside = (says > low) & (says < high)
        assert abs(says[inside].mean() - (who[found][inside] == 2).mean()) < 0.2


def test_a_brighter_frame_and_a_shaded_field_change_nothing(rng: np.random.Generator) -> None:
    value, place, _ = draw(rng)
    ratio, _ = relative_brightness(value, place)
    usual = np.nanmedian(ratio, axis=1)
    assert np.abs(usual[place[:, 0] < 40].mean() - usual[place[:, 0] > 70].mean()) < 0.04  # of 0.4
    assert np.abs(np.nanmedian(ratio, axis=0) - 1).max() < 0.05


def test_what_was_not_in_the_field_says_nothing(rng: np.random.Generator) -> None:
    value, place, _ = draw(rng)
    value[:5] = np.nan
    seen = np.ones(value.shape, dtype=bool)
    seen[:5] = False
    levels = fit_levels(*_swap(relative_brightness(value, place), seen), expected=EXPECTED)
    assert (levels.log[:5] == 0).all() and (levels.log[5:] != 0).any()
    assert levels.missing[0] < 0.02


def _swap(pair: tuple[np.ndarray, np.ndarray], seen: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    return pair[0], seen, pair[1]


def test_a_noisy_frame_decides_less(rng: np.random.Generator) -> None:
    value, place, _ = draw(rng)
    value[:, 7] = value[:, 7] * (1 + 0.5 * rng.standard_normal(144))
    ratio, scatter = relative_brightness(value, place)
    assert scatter[7] > 2.5 * np.median(scatter)
    levels = fit_levels(ratio, np.ones(value.shape, dtype=bool), scatter, expected=EXPECTED)
    gap = np.abs(levels.log[:, :, 2] - levels.log[:, :, 0])
    assert np.median(gap[:, 7]) < 0.4 * np.median(gap[:, 8])


def test_an_occupant_that_never_comes_takes_nothing(rng: np.random.Generator) -> None:
    value, place, _ = draw(rng, shares=(1.0, 0.0, 0.0))
    ratio, scatter = relative_brightness(value, place)
    levels = fit_levels(ratio, np.ones(value.shape, dtype=bool), scatter, expected=EXPECTED)
    assert levels.share[2] < 0.005
    assert 0.35 < levels.ratio[2] < 0.65


def test_what_noise_looks_like_is_left_out(rng: np.random.Generator) -> None:
    value, place, _ = draw(rng, shares=(1.0, 0.0, 0.0))
    ratio, scatter = relative_brightness(value, place)
    seen = np.ones(value.shape, dtype=bool)
    levels = fit_levels(ratio, seen, scatter, expected={"C": 1.0, "N_C": 1.2, "Si_C": 4.2, "V_C": 0.0})
    assert levels.names == ("C", "Si_C", "V_C")


@pytest.mark.parametrize("expected", [{}, {"A": 0.9}, {"A": 1.0, "B": 0.5, "C": 0.5}, {"A": 1.0, "B": -0.1}])
def test_expectations_that_make_no_sense_are_refused(expected: dict[str, float]) -> None:
    with pytest.raises(InputError, match="usual occupant"):
        fit_levels(np.ones((3, 4)), np.ones((3, 4), bool), np.ones(4), expected=expected)


def test_too_few_or_constant_sites_are_refused() -> None:
    with pytest.raises(InputError, match="three sites"):
        relative_brightness(np.ones((2, 5)), np.zeros((2, 2)))
    with pytest.raises(InputError, match="never varies"):
        relative_brightness(np.ones((4, 5)), np.arange(8.0).reshape(4, 2))
