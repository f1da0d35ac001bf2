"""What is said to stand outside the field, against crystals that truly go on there; and what it does to brightness at the rim."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial import cKDTree
from scipy.special import ndtr

from atomreel.core.errors import InputError
from atomreel.interpret.outside import REACH, columns_outside, refine_with_outside
from atomreel.interpret.refine import refine_columns

SHAPE = (150, 170)
HONEYCOMB = np.array([[0.0, 0.0], [1 / 3, 1 / 3]])  # of the vectors of `crystal` with 60° between them
DUMBBELLS = np.array([[0.0, 0.0], [0.17, 0.17]])


def crystal(motif, *, cell, angle, gamma=60.0, shape=SHAPE, margin=40.0):
    """(N, 2) places and (N,) number within the motif, `margin` px beyond the field on all sides."""
    turn = np.deg2rad([angle, angle + gamma])
    vectors = cell * np.stack([np.sin(turn), np.cos(turn)], axis=1)
    n = np.arange(-60, 61)
    index = np.stack(np.meshgrid(n, n, indexing="ij"), -1).reshape(-1, 1, 2) + motif
    place = (index @ vectors + 0.4 * cell).reshape(-1, 2)
    which = np.tile(np.arange(len(motif)), len(n) ** 2)
    near = ((place > -margin) & (place < np.array(shape) - 1 + margin)).all(axis=1)
    return place[near], which[near]


def depth(place, shape=SHAPE):
    return np.minimum(place, np.array(shape) - 1 - place).min(axis=1)


@pytest.mark.parametrize(
    ("motif", "gamma", "angle"),
    [(HONEYCOMB, 60, 3), (HONEYCOMB[:1], 90, 21), (HONEYCOMB[:1], 72, -40), (DUMBBELLS, 60, 11)],
)
def test_a_crystal_with_noise_and_vacancies_is_continued(motif, gamma, angle):
    rng = np.random.default_rng(3)
    every, _ = crystal(motif, cell=16.0, angle=angle, gamma=gamma)
    every = every + rng.normal(0, 0.15, every.shape)
    inside = (depth(every) > 0.5) & (rng.random(len(every)) > 0.03)
    found = columns_outside(every[inside], SHAPE)
    spacing = np.median(cKDTree(every).query(every, k=2)[0][:, 1])
    hidden = every[(depth(every) < -0.1 * spacing) & (depth(every) > -0.9 * REACH * spacing)]
    assert (cKDTree(found).query(hidden)[0] < 0.25 * spacing).mean() > 0.9
    assert (cKDTree(every).query(found)[0] < 0.3 * spacing).mean() > 0.97
    assert cKDTree(every[inside]).query(found)[0].min() > 0.49 * spacing


def test_places_without_order_are_not_continued():
    rng = np.random.default_rng(4)
    place = rng.uniform(0, 149, (400, 2))
    keep = [k for k in range(400) if k == 0 or np.hypot(*(place[:k] - place[k]).T).min() > 6]
    assert len(columns_outside(place[keep], SHAPE)) <= 2
    assert len(columns_outside(place[:6], SHAPE)) == 0
    assert columns_outside(np.zeros((0, 2)), SHAPE).shape == (0, 2)


def expected(place, height, *, sigma, shape=SHAPE):
    y, x = (np.arange(n) for n in shape)
    over, along = (
        ndtr((a + 0.5 - place[:, k, None]) / sigma) - ndtr((a - 0.5 - place[:, k, None]) / sigma)
        for k, a in enumerate((y, x))
    )
    return 2 * np.pi * sigma**2 * (over * height[:, None]).T @ along + 2.0


def test_dim_columns_near_the_border_are_as_bright_as_others():
    """Weak columns beside bright ones, both going on outside: the light of those outside is not taken for background."""
    rng = np.random.default_rng(5)
    every, which = crystal(HONEYCOMB, cell=16.0, angle=8)
    height = np.where(which == 0, 60.0, 9.0)
    image = rng.poisson(expected(every, height, sigma=2.2)).astype(np.float32)
    inside = depth(every) > 0.5
    start, weak = every[inside], which[inside] == 1
    rim, core = weak & (depth(start) < 12), weak & (depth(start) > 30)
    ratio = {}
    for name, fit in (("without", refine_columns), ("with", refine_with_outside)):
        table = fit(image, start).table
        assert len(table) == len(start)
        bright = table["intensity"].to_numpy()
        ratio[name] = np.median(bright[rim]) / np.median(bright[core])
    assert ratio["without"] < 0.9
    assert abs(ratio["with"] - 1) < 0.04


@pytest.mark.parametrize(("rows", "cols"), [(4, 4), (2, 20)])
def test_errors_in_a_small_field_are_those_of_its_own_columns(rows, cols):
    """More columns stand outside than inside; they see nothing and say nothing of what is usual."""
    rng = np.random.default_rng(6)
    place = np.stack(np.meshgrid(np.arange(-3, rows + 3), np.arange(-3, cols + 3), indexing="ij"), -1)
    every = 12.0 * place.reshape(-1, 2) + 5.5
    shape = (12 * rows, 12 * cols)
    off, claim = [], []
    for _ in range(12):
        drawn = expected(every, np.full(len(every), 60.0), sigma=2.5, shape=shape)
        image = rng.poisson(drawn).astype(np.float32)
        inside = every[depth(every, shape) > 0]
        table = refine_with_outside(image, inside + rng.normal(0, 0.3, inside.shape)).table
        off.append(table[["y", "x"]].to_numpy() - inside)
        claim.append(table[["y_err", "x_err"]].to_numpy())
    ratio = np.sqrt(np.mean(np.concatenate(off) ** 2) / np.mean(np.concatenate(claim) ** 2))
    assert 0.75 < ratio < 1.35


def test_bad_positions_are_refused_and_none_are_fine():
    image = np.ones((40, 40), np.float32)
    assert len(refine_with_outside(image, np.zeros((0, 2))).table) == 0
    with pytest.raises(InputError, match="finite"):
        refine_with_outside(image, np.full((30, 2), np.nan))
    with pytest.raises(InputError, match="Y, X"):
        refine_with_outside(np.ones(30), np.ones((3, 2)))


def test_a_column_outside_that_misfits_is_no_jitter_of_lines():
    """Bright dirt on the first lines, where only tails of columns outside are seen, displaces no line."""
    rng = np.random.default_rng(7)
    every, _ = crystal(HONEYCOMB[:1], cell=14.0, gamma=90, angle=0)
    image = rng.poisson(expected(every, np.full(len(every), 400.0), sigma=2.5)).astype(np.float32)
    inside = depth(every) > 2
    outside = (depth(every) < 0) & (depth(every) > -9)
    image[:2, 40:90] += 3000.0
    done = refine_columns(image, np.concatenate([every[inside], every[outside]]))
    assert done.jitter_px[0] < 0.4  # 1.1 if the outer ones had a say
