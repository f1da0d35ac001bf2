"""Grains distorted by the image or by themselves."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from atomreel.interpret.shared import shared_distortion

FloatArray = npt.NDArray[np.float64]
SHAPES = {"hexagonal": 60.0, "square": 90.0}


def grain(
    gamma: float, *, turn: float, rng: np.random.Generator, number: int = 12, scatter: float = 0.003
) -> FloatArray:
    """Bases (number, 2, 2) of rows (y, x), with a any of the equal vectors, as windows have them."""
    bases = []
    for _ in range(number):
        t = np.radians(turn + gamma * rng.integers(6) + np.array([0, gamma]))
        vectors = 14.0 * np.stack([-np.sin(t), np.cos(t)], 1)
        bases.append(vectors + 14.0 * scatter * rng.standard_normal((2, 2)))
    return np.array(bases)


def distorted(vectors: FloatArray, s: float, e: float, *, along: float = 0.0) -> FloatArray:
    """(y, x) → (y (1 + e), x + s y) in axes that are turned by `along` [degrees], written out as a matrix."""
    c, n = np.cos(np.radians(along)), np.sin(np.radians(along))
    turn = np.array([[c, n], [-n, c]])
    return vectors @ turn.T @ np.array([[1 + e, s], [0.0, 1.0]]) @ turn


@pytest.mark.parametrize("name", ["hexagonal", "square"])
def test_a_distorted_image_is_found_and_measured(name: str) -> None:
    """Forty frames of two to four grains: 1σ holds s and e as often as it should, at least."""
    rng, off = np.random.default_rng(4), []
    for _ in range(40):
        true = rng.uniform(-0.05, 0.05, 2)
        true *= max(1.0, 0.03 / np.hypot(*true))
        turns = (
            rng.uniform(0, 90) + np.cumsum(rng.uniform(0.33, 0.67, int(rng.integers(2, 5)))) * SHAPES[name]
        )
        parts = [distorted(grain(SHAPES[name], turn=t, rng=rng), *true) for t in turns]
        labels = np.repeat(np.arange(1, len(parts) + 1), [len(p) for p in parts])
        found = shared_distortion(np.concatenate(parts), labels)
        assert found is not None and found.name == name and found.grains == len(parts)
        off += [(found.s - true[0]) / found.s_err, (found.e - true[1]) / found.e_err]
    assert np.mean(np.abs(off) < 1) > 0.6 and np.abs(off).max() < 4


def test_crystals_that_are_distorted_themselves_are_left_so() -> None:
    """The distortion turns with the crystal, in any of its equal directions."""
    rng = np.random.default_rng(5)
    for k in range(40):
        turn = rng.uniform(12, 48)
        parts = [grain(60, turn=0, rng=rng), grain(60, turn=turn, rng=rng)]
        own = [distorted(p, 0.0, 0.04, along=a) for p, a in zip(parts, (0, turn + 60 * (k % 3)), strict=True)]
        assert shared_distortion(np.concatenate(own), np.repeat([1, 2], 12)) is None


def test_nothing_is_said_without_two_grains_that_can_tell() -> None:
    rng = np.random.default_rng(6)
    first, near, far = (distorted(grain(60, turn=t, rng=rng), 0.0, 0.04) for t in (10, 13, 40))
    assert shared_distortion(first, np.ones(12, int)) is None
    both = np.concatenate([first, near])
    assert shared_distortion(both, np.repeat([1, 2], 12)) is None
    pair = np.concatenate([first, far])
    assert shared_distortion(pair, np.repeat([1, 2], 12)) is not None
    assert shared_distortion(pair, np.repeat([1, 0], 12)) is None
    lost = pair.copy()
    lost[14:] = np.nan
    assert shared_distortion(lost, np.repeat([1, 2], 12)) is None
    straight = np.concatenate([grain(60, turn=t, rng=rng) for t in (10, 40)])
    assert shared_distortion(straight, np.repeat([1, 2], 12)) is None, "no distortion, nothing to undo"
    oblong = np.concatenate([grain(75, turn=t, rng=rng) for t in (10, 40)])
    assert shared_distortion(oblong, np.repeat([1, 2], 12)) is None
