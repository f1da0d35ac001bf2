"""Windows, slopes and pair products against sums over the whole image."""

from __future__ import annotations

import numpy as np
import pytest

from atomreel.interpret import peaks
from atomreel.interpret.peaks import Shape

SIZE = (40, 50)
SHAPE = Shape(yy=0.2, xx=0.3, yx=0.05, skirt=0.2)
POINTS = np.array([[12.3, 20.7], [16.1, 23.2], [0.4, 49.2]])


def whole(point, shape=SHAPE):
    y, x = np.mgrid[: SIZE[0], : SIZE[1]]
    dy, dx = y - point[0], x - point[1]
    q = shape.yy * dy**2 + shape.xx * dx**2 + 2 * shape.yx * dy * dx
    return (1 - shape.skirt) * np.exp(-q / 2) + shape.skirt * np.maximum(1 - q / peaks.REACH2, 0) ** 3


def placed(values, w):
    r = w.radius
    image = peaks.stamp(values, w.index, size=(SIZE[0] + 2 * r, SIZE[1] + 2 * r))
    return image[r:-r, r:-r]


def test_stamped_columns_are_the_formula():
    w = peaks.windows(POINTS, SHAPE, size=SIZE)
    assert placed(w.basis[:, 0], w) == pytest.approx(sum(whole(p) for p in POINTS), abs=5e-3)


@pytest.mark.parametrize("axis", [0, 1])
def test_slopes_are_finite_differences(axis):
    w = peaks.windows(POINTS[:1], SHAPE, size=SIZE, slopes=True)
    step = np.eye(2)[axis] * 1e-4
    expected = (whole(POINTS[0] + step) - whole(POINTS[0] - step)) / 2e-4
    assert placed(w.basis[:, 1 + axis], w) == pytest.approx(expected, abs=5e-3)


@pytest.mark.parametrize(("index", "name"), list(enumerate(["yy", "xx", "yx", "skirt"])))
def test_shape_slopes_are_finite_differences(index, name):
    from dataclasses import replace

    w = peaks.windows(POINTS[:1], SHAPE, size=SIZE, slopes=True)
    up, down = (whole(POINTS[0], replace(SHAPE, **{name: getattr(SHAPE, name) + e})) for e in (1e-4, -1e-4))
    assert placed(w.shape_slopes[:, index], w) == pytest.approx((up - down) / 2e-4, abs=0.06)


def test_pair_products_are_sums_over_all_pixels(rng):
    weight = rng.uniform(0.5, 1.5, SIZE)
    pairs = peaks.neighbours(POINTS, 8.0)
    assert pairs.tolist() == [[0, 1]]
    blocks = peaks.pair_blocks(POINTS, pairs, SHAPE, weight=peaks.pad(weight, SHAPE.radius), size=SIZE)
    expected = (weight * whole(POINTS[0]) * whole(POINTS[1])).sum()
    assert blocks[0, 0, 0] == pytest.approx(expected, rel=0.01)


def test_sums_are_those_of_the_basis(rng):
    """Products with the basis by moments about the centre pixel, against the basis itself."""
    w = peaks.windows(POINTS, SHAPE, size=SIZE)
    weight = peaks.gather(peaks.pad(rng.uniform(0.5, 1.5, SIZE), SHAPE.radius), w)
    own, flat = peaks.own_sums(weight, w)
    assert own == pytest.approx(np.einsum("np,nkp,nlp->nkl", weight, w.basis, w.basis), abs=1e-4)
    assert flat == pytest.approx(np.einsum("np,nkp->nk", weight, w.basis), abs=1e-4)
    assert peaks.project(weight, w) == pytest.approx(flat, abs=1e-4)


def test_stamp_takes_heights():
    w = peaks.windows(POINTS, SHAPE, size=SIZE)
    heights = np.array([2.0, 0.5, 3.0])
    padded = tuple(n + 2 * w.radius for n in SIZE)
    once = peaks.stamp(w.value, w.index, size=padded, heights=heights)
    assert once == pytest.approx(peaks.stamp(w.value * heights[:, None], w.index, size=padded), abs=1e-5)


def test_changing_the_covariance_keeps_the_rest():
    wide = peaks.replace_covariance(SHAPE, SHAPE.covariance * 4)
    assert wide.covariance == pytest.approx(SHAPE.covariance * 4)
    assert wide.skirt == SHAPE.skirt
    assert wide.width == pytest.approx(2 * SHAPE.width)
