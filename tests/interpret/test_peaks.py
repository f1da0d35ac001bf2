"""Windows, slopes and pair products against sums over the whole image."""

from __future__ import annotations

import numpy as np
import pytest

from atomreel.interpret import peaks
from atomreel.interpret.loops import REACH2
from atomreel.interpret.peaks import Shape

SIZE = (40, 50)
SHAPE = Shape(yy=0.2, xx=0.3, yx=0.05, skirt=0.2)
POINTS = np.array([[12.3, 20.7], [16.1, 23.2], [0.4, 49.2]])


def whole(point, shape=SHAPE):
    y, x = np.mgrid[: SIZE[0], : SIZE[1]]
    dy, dx = y - point[0], x - point[1]
    q = shape.yy * dy**2 + shape.xx * dx**2 + 2 * shape.yx * dy * dx
    return (1 - shape.skirt) * np.exp(-q / 2) + shape.skirt * np.maximum(1 - q / REACH2, 0) ** 3


def drawn(w, coefficients):
    """What the columns give on the image without its border."""
    r = w.radius
    image = peaks.draw(w, np.asarray(coefficients, float), size=(SIZE[0] + 2 * r, SIZE[1] + 2 * r))
    return image[r:-r, r:-r]


def basis(points):
    """(N, 3, Y, X): every column's peak and its slopes by y and x, one image each."""
    each = [peaks.windows(point[None], SHAPE, size=SIZE) for point in points]
    return np.array([[drawn(w, one[None]) for one in np.eye(3)] for w in each], float)


def test_columns_are_drawn_by_the_formula():
    w = peaks.windows(POINTS, SHAPE, size=SIZE)
    heights = np.array([2.0, 0.5, 3.0])
    expected = sum(h * whole(p) for h, p in zip(heights, POINTS, strict=True))
    assert drawn(w, heights) == pytest.approx(expected, abs=1e-2)


@pytest.mark.parametrize("axis", [0, 1])
def test_slopes_are_finite_differences(axis):
    w = peaks.windows(POINTS[:1], SHAPE, size=SIZE)
    step = np.eye(2)[axis] * 1e-4
    expected = (whole(POINTS[0] + step) - whole(POINTS[0] - step)) / 2e-4
    assert drawn(w, np.eye(3)[1 + axis][None]) == pytest.approx(expected, abs=5e-3)


@pytest.mark.parametrize(("index", "name"), list(enumerate(["yy", "xx", "yx", "skirt"])))
def test_shape_slopes_are_finite_differences(index, name):
    from dataclasses import replace

    w = peaks.windows(POINTS[:1], SHAPE, size=SIZE)
    r = w.radius
    slopes = peaks.draw_shape_slopes(w, np.array([1.7]), size=(SIZE[0] + 2 * r, SIZE[1] + 2 * r))
    up, down = (whole(POINTS[0], replace(SHAPE, **{name: getattr(SHAPE, name) + e})) for e in (1e-4, -1e-4))
    assert slopes[index, r:-r, r:-r] == pytest.approx(1.7 * (up - down) / 2e-4, abs=0.1)


def test_pair_products_are_sums_over_all_pixels(rng):
    weight = rng.uniform(0.5, 1.5, SIZE)
    pairs = peaks.neighbours(POINTS, 8.0)
    assert pairs.tolist() == [[0, 1]]
    blocks = peaks.pair_blocks(POINTS, pairs, SHAPE, weight=peaks.pad(weight, SHAPE.radius), size=SIZE)
    first, second = basis(POINTS[:2])
    expected = np.einsum("yx,kyx,lyx->kl", weight, first, second)
    assert blocks[0] == pytest.approx(expected, abs=0.02 * np.abs(expected).max())
    assert blocks[0, 0, 0] == pytest.approx((weight * whole(POINTS[0]) * whole(POINTS[1])).sum(), rel=0.01)


def test_sums_are_those_of_the_basis(rng):
    """Products by moments about the centre pixel, against sums over the image of what is drawn."""
    w = peaks.windows(POINTS, SHAPE, size=SIZE)
    weight = rng.uniform(0.5, 1.5, SIZE)
    padded = peaks.pad(weight, SHAPE.radius)
    own, flat = peaks.own_sums(padded, w)
    every = basis(POINTS)
    assert own == pytest.approx(np.einsum("yx,nkyx,nlyx->nkl", weight, every, every), abs=1e-4)
    assert flat == pytest.approx(np.einsum("yx,nkyx->nk", weight, every), abs=1e-4)
    assert peaks.project(padded, w) == pytest.approx(flat, abs=1e-4)
    under = np.maximum(every[:, 0], 0)
    expected = (weight * under).sum((1, 2)) / under.sum((1, 2))
    assert peaks.means_under(padded, w)[:2] == pytest.approx(
        expected[:2], rel=1e-4
    )  # the third stands on the edge


@pytest.mark.parametrize("axis", [0, 1])
def test_sums_along_lines_are_those_of_the_basis(rng, axis):
    w = peaks.windows(POINTS[:2], SHAPE, size=SIZE)
    r, n = w.radius, 2 * w.radius + 1
    weighted, weight, whole_slope = (peaks.pad(rng.uniform(0.5, 1.5, SIZE), r) for _ in range(3))
    heights = np.array([2.0, 0.5])
    sums = peaks.slopes_along((weighted, weight, whole_slope), w, heights, axis=axis)
    for k, slope in enumerate(basis(POINTS[:2])[:, 1 + axis] * heights[:, None, None]):
        slope = peaks.pad(slope, r)
        cut = np.s_[w.corner[k, 0] : w.corner[k, 0] + n, w.corner[k, 1] : w.corner[k, 1] + n]
        gradient, information = (weighted * slope)[cut], (weight * slope * whole_slope)[cut]
        for found, expected in zip(
            sums[:, k],
            (gradient.sum(1), information.sum(1), gradient.sum(0), information.sum(0)),
            strict=True,
        ):
            assert found == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize("threads", ["1", "2"])
def test_many_columns_are_shared_by_two_threads(rng, monkeypatch, threads):
    monkeypatch.setenv("OMP_NUM_THREADS", threads)
    points = rng.uniform(0, 39, (1203, 2))
    w = peaks.windows(points, SHAPE, size=SIZE)
    few = peaks.windows(points[-7:], SHAPE, size=SIZE)
    weight = peaks.pad(rng.uniform(0.5, 1.5, SIZE), w.radius)
    assert (w.value[-7:] == few.value).all()
    assert peaks.own_sums(weight, w)[0][-7:] == pytest.approx(peaks.own_sums(weight, few)[0])


def test_what_is_no_number_is_no_address():
    w = peaks.windows(np.array([[np.nan, 3.0], [np.inf, -np.inf]]), SHAPE, size=SIZE)
    assert ((w.corner >= 0) & (w.corner < SIZE)).all()


def test_changing_the_covariance_keeps_the_rest():
    wide = peaks.replace_covariance(SHAPE, SHAPE.covariance * 4)
    assert wide.covariance == pytest.approx(SHAPE.covariance * 4)
    assert wide.skirt == SHAPE.skirt
    assert wide.width == pytest.approx(2 * SHAPE.width)
