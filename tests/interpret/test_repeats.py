"""What stands around a place and stands there again: crystals and noise laid out by hand."""

from __future__ import annotations

import numpy as np
import pytest

from atomreel.interpret.repeats import repeats

TRIANGULAR = np.array([[0.0, 1.0], [np.sqrt(0.75), 0.5]])


def lattice(spacing: float = 9.0, side: float = 200.0, *, turn: float = 0.3) -> np.ndarray:
    turned = TRIANGULAR @ np.array([[np.cos(turn), np.sin(turn)], [-np.sin(turn), np.cos(turn)]])
    index = np.stack(np.meshgrid(np.arange(-60, 60), np.arange(-60, 60)), -1).reshape(-1, 2)
    at = spacing * index @ turned + (101.3, 99.1)
    return at[np.all((at > 0) & (at < side), axis=1)]


def honeycomb(spacing: float = 9.0) -> tuple[np.ndarray, np.ndarray]:
    """Columns, and the hole that is nearest to the middle."""
    every = lattice(spacing)
    index = np.rint(np.linalg.solve((spacing * _turned()).T, (every - every[0]).T).T).astype(int)
    kind = (index[:, 0] - index[:, 1]) % 3
    holes = every[kind == 2]
    return every[kind < 2], holes[np.argmin(np.hypot(*(holes - 100).T))]


def _turned(turn: float = 0.3) -> np.ndarray:
    return TRIANGULAR @ np.array([[np.cos(turn), np.sin(turn)], [-np.sin(turn), np.cos(turn)]])


def test_columns_of_a_lattice_repeat_and_places_between_them_do_not() -> None:
    at = lattice()
    rng = np.random.default_rng(1)
    at = at + rng.normal(0, 0.03 * 9, at.shape)
    middle = at[np.argmin(np.hypot(*(at - 100).T))]
    between = middle + 0.5 * 9.0 * _turned()[0]
    candidates = np.concatenate([at, [between]])
    found = repeats(candidates, np.full(len(candidates), 0.9), spacing=9.0)
    inner = np.all((at > 20) & (at < 180), axis=1)
    assert found[:-1][inner].min() > 0.7
    assert found[-1].max() < 0.4


def test_a_column_at_the_rim_repeats_too() -> None:
    at = lattice()
    rim = at[:, 0] < 60
    cut = at[~rim]
    edge = np.argsort(cut[:, 0])[:6]
    assert repeats(cut, np.full(len(cut), 0.95), spacing=9.0)[edge].min() > 0.7


def test_the_hole_of_a_honeycomb_repeats_half() -> None:
    columns, hole = honeycomb()
    candidates = np.concatenate([columns, [hole]])
    found = repeats(candidates, np.full(len(candidates), 0.95), spacing=9.0)
    inner = np.all((columns > 30) & (columns < 170), axis=1)
    assert found[:-1][inner, 0].min() > found[-1, 0] + 0.2


def test_grains_and_strain_do_not_matter() -> None:
    left, right = lattice(turn=0.1), lattice(turn=0.6)
    both = np.concatenate([left[left[:, 1] < 96], right[right[:, 1] > 104]])
    both = both @ np.array([[1.03, 0.02], [-0.01, 0.97]])
    inner = np.all((both > 25) & (both < 175), axis=1) & (np.abs(both[:, 1] - 100) > 25)
    assert repeats(both, np.full(len(both), 0.95), spacing=9.0)[inner].min() > 0.7


def test_what_is_scattered_does_not_repeat() -> None:
    at = np.random.default_rng(3).uniform(0, 200, (130, 2))
    assert repeats(at, np.full(130, 0.95), spacing=9.0)[:, 0].mean() < 0.25


def test_nothing_speaks_for_itself() -> None:
    """Of three in a row the middle one's neighbours lead into each other only by way of itself."""
    at = np.array([[50.0, 41.0], [50.0, 50.0], [50.0, 59.0], [150.0, 20.0], [160.0, 160.0], [90.0, 180.0]])
    assert repeats(at, np.full(6, 0.95), spacing=9.0)[1].max() == 0


def test_a_large_field_is_read_in_tiles(monkeypatch: pytest.MonkeyPatch) -> None:
    at = lattice()
    score = np.random.default_rng(6).uniform(0, 1, len(at))
    whole = repeats(at, score, spacing=9.0)
    monkeypatch.setattr("atomreel.interpret.repeats.TILE", 3)
    assert np.abs(repeats(at, score, spacing=9.0) - whole).mean() < 0.01  # but for the raster's origin


@pytest.mark.parametrize("count", [0, 1, 3])
def test_few_candidates_say_nothing(count: int) -> None:
    at = np.arange(2.0 * count).reshape(-1, 2)
    assert repeats(at, np.ones(count), spacing=1.0).tolist() == [[0.0, 0.0]] * count


def test_only_some_places_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    at = lattice()
    score = np.random.default_rng(5).uniform(0, 1, len(at))
    whole = repeats(at, score, spacing=9.0)
    monkeypatch.setattr("atomreel.interpret.repeats.CHUNK", 37)
    some = np.arange(3, len(at), 2)
    assert np.allclose(repeats(at, score, spacing=9.0, which=some), whole[some])
