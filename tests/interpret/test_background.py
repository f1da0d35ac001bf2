"""Hats: what they draw, and their products against dense sums."""

from __future__ import annotations

import numpy as np
import pytest

from atomreel.interpret import background, peaks

SIZE = (60, 50)


def dense(hats):
    return np.einsum("yk,xl->klyx", hats.rows, hats.cols).reshape(-1, *SIZE)


def test_hats_draw_any_plane():
    hats = background.make_hats(SIZE, knots=(4, 3), border=0)
    y, x = np.linspace(0, SIZE[0] - 1, 4), np.linspace(0, SIZE[1] - 1, 3)
    plane = hats.draw((2 * y[:, None] - x + 1).ravel())
    rows, cols = np.mgrid[: SIZE[0], : SIZE[1]]
    assert plane == pytest.approx(2 * rows - cols + 1, abs=1e-3)
    assert background.count_knots((10, 100), 30.0) == (1, 4)


def test_products_are_dense_sums(rng):
    hats = background.make_hats(SIZE, knots=(4, 3), border=0)
    weight = rng.uniform(0.5, 1.5, SIZE).astype(np.float32)
    full = dense(hats)
    own = background.own_matrix(hats, weight).toarray()
    expected = np.einsum("kyx,yx,lyx->kl", full, weight, full)
    assert own == pytest.approx(expected, abs=0.01 * float(expected.max()))
    assert hats.collect(weight) == pytest.approx((full * weight).sum((1, 2)), rel=1e-4)


def test_cross_products_with_columns(rng):
    shape = peaks.round_shape(2.0)
    r = shape.radius
    points = np.array([[30.2, 24.6], [3.0, 47.0]])
    hats = background.make_hats(SIZE, knots=(4, 3), border=r)
    weight = peaks.pad(rng.uniform(0.5, 1.5, SIZE), r)
    w = peaks.windows(points, shape, size=SIZE)
    factor = np.array([[1.0, 3.0, 3.0], [1.0, 0.5, 0.5]])
    cross = background.cross_matrix(hats, peaks.gather(weight, w), w, factor=factor).toarray()
    for i in range(2):
        for k in range(3):
            image = peaks.stamp(w.basis[i : i + 1, k], w.index[i : i + 1], size=weight.shape)
            assert cross[3 * i + k] == pytest.approx(factor[i, k] * hats.collect(image * weight), abs=3e-3)
