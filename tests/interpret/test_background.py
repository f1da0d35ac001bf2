"""Hats: what they draw, and their products against dense sums."""

from __future__ import annotations

import numpy as np
import pytest

from atomreel.interpret import background, peaks

SIZE = (60, 50)


def dense(hats, size=SIZE):
    """(K, Y, X) every hat, drawn."""
    images = np.zeros((hats.knots[0] * hats.knots[1], *size), np.float32)
    for image, one in zip(images, np.eye(len(images)), strict=True):
        hats.add(image, one)
    return images


def test_hats_draw_any_plane():
    hats = background.make_hats(SIZE, knots=(4, 3), border=0)
    y, x = np.linspace(0, SIZE[0] - 1, 4), np.linspace(0, SIZE[1] - 1, 3)
    plane = np.ones(SIZE, np.float32)
    hats.add(plane, (2 * y[:, None] - x).ravel())
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
    assert own[0] != pytest.approx(expected[0], abs=1e-6)  # neighbours pull each other a little
    assert hats.collect(weight) == pytest.approx((full * weight).sum((1, 2)), rel=1e-4)


@pytest.mark.parametrize("knots", [(1, 1), (1, 5), (2, 2)])
def test_any_number_of_knots(rng, knots):
    hats = background.make_hats(SIZE, knots=knots, border=0)
    weight = rng.uniform(0.5, 1.5, SIZE).astype(np.float32)
    full = dense(hats)
    assert full.sum(0) == pytest.approx(1, abs=1e-5)
    expected = np.einsum("kyx,yx,lyx->kl", full, weight, full)
    found = background.own_matrix(hats, weight).toarray()
    assert found == pytest.approx(expected, abs=0.01 * float(expected.max()))


def test_cross_products_with_columns(rng):
    shape = peaks.round_shape(2.0)
    r = shape.radius
    points = np.array([[30.2, 24.6], [3.0, 47.0]])
    hats = background.make_hats(SIZE, knots=(4, 3), border=r)
    weight = peaks.pad(rng.uniform(0.5, 1.5, SIZE), r)
    w = peaks.windows(points, shape, size=SIZE)
    factor = np.array([[1.0, 3.0, 3.0], [1.0, 0.5, 0.5]])
    blocks, touched = background.cross_blocks(hats, weight, w, factor=factor)
    full = dense(hats, weight.shape)
    for i in range(2):
        one = peaks.windows(points[i : i + 1], shape, size=SIZE)
        for k in range(3):
            image = peaks.draw(one, np.eye(3)[k][None], size=weight.shape)
            found = np.bincount(touched[i], blocks[i, k], minlength=len(full))
            expected = factor[i, k] * (full * image * weight).sum((1, 2))
            assert found == pytest.approx(expected, abs=3e-3)
