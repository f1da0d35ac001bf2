"""Positions and errors against an independent simulation: pixel-integrated Gaussians, line by line, Poisson counts."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import ndtr

from atomreel.core.errors import InputError
from atomreel.interpret.refine import refine_columns


def grid(size, spacing, rng, *, angle=7.0, scatter=0.2):
    turn = np.deg2rad(angle)
    cell = spacing * np.array([[np.cos(turn), np.sin(turn)], [-np.sin(turn), np.cos(turn)]])
    n = int(2 * max(size) / spacing)
    index = np.stack(np.meshgrid(np.arange(-n, n), np.arange(-n, n)), -1).reshape(-1, 2)
    points = index @ cell + rng.uniform(0, spacing, 2)
    inside = ((points > -4) & (points < np.array(size) + 3)).all(1)
    return points[inside] + rng.normal(0, scatter, (int(inside.sum()), 2))


def expose(points, heights, size, *, sigma=2.1, background=10.0, jitter=None):
    """Expected counts. jitter: (Y, 2) displacement of each line."""
    shift = np.zeros((size[0], 2)) if jitter is None else jitter
    y, x = np.arange(size[0]) - shift[:, 0], np.arange(size[1])

    def within(centre, pixel):
        return ndtr((pixel + 0.5 - centre) / sigma) - ndtr((pixel - 0.5 - centre) / sigma)

    image = np.empty(size)
    column = within(points[:, :1], y)
    for line in range(size[0]):
        near = column[:, line] > 1e-7
        profile = within(points[near, 1:], x - shift[line, 1])
        image[line] = (heights[near] * column[near, line]) @ profile
    return image * 2 * np.pi * sigma**2 + background


def bound(points, heights, size, i, *, sigma=2.1, background=10.0, reach=25):
    """Cramér-Rao bound of column i by finite differences; neighbours' y, x, height and a constant free."""
    near = np.flatnonzero((np.abs(points - points[i]) < reach).all(1))
    near = np.concatenate([[i], near[near != i]])
    start = np.append(np.column_stack([points[near] - points[i] + reach, heights[near]]).ravel(), background)

    def counts(p):
        q = p[:-1].reshape(-1, 3)
        return expose(q[:, :2], q[:, 2], (2 * reach + 1,) * 2, sigma=sigma, background=p[-1]).ravel()

    step = 1e-3
    slopes = np.stack(
        [(counts(start + step * e) - counts(start - step * e)) / (2 * step) for e in np.eye(len(start))]
    )
    fisher = (slopes / counts(start)) @ slopes.T
    return np.sqrt(np.linalg.inv(fisher).diagonal()[:3])


def scores(errors, claimed):
    z = np.abs(errors / claimed)
    return float((z < 1).mean()), float((z < 2).mean())


def replicate(seed, *, size=(128, 128), height=40.0, spacing=13.0, shuffle=0.6, filtered=None, **options):
    """Errors and claimed errors (N, 2) of the columns away from the border in one noisy image."""
    rng = np.random.default_rng(seed)
    points = grid(size, spacing, rng)
    heights = height * rng.choice([1.0, 0.5], len(points))
    counts = rng.poisson(expose(points, heights, size, **options)).astype(float)
    image = filtered(counts) if filtered else counts
    found = refine_columns(image, points + rng.normal(0, shuffle, points.shape))
    inner = ((points > 6) & (points < np.array(size) - 7)).all(1)
    table = found.table[inner]
    return (
        table[["y", "x"]].to_numpy() - points[inner],
        table[["y_err", "x_err"]].to_numpy(),
        found,
        table["intensity"].to_numpy() - heights[inner],
        table["intensity_err"].to_numpy(),
    )


def pooled(seeds, **options):
    parts = [replicate(seed, **options) for seed in seeds]
    return [np.concatenate([p[k] for p in parts]) for k in (0, 1, 3, 4)] + [[p[2] for p in parts]]


def test_errors_cover_and_are_as_small_as_the_bound():
    error, claimed, _, _, found = pooled(range(8))
    one, two = scores(error, claimed)
    assert 0.64 < one < 0.74
    assert 0.93 < two < 0.98
    rng = np.random.default_rng(5)
    size = (128, 128)
    points = grid(size, 13.0, rng)
    heights = np.full(len(points), 40.0)
    table = refine_columns(rng.poisson(expose(points, heights, size)), points).table
    middle = np.argsort(np.hypot(*(points - 64).T))[:3]
    least = np.array([bound(points, heights, size, i)[:2] for i in middle])
    assert table.loc[middle, ["y_err", "x_err"]].to_numpy() == pytest.approx(least, rel=0.2)
    assert np.mean([f.gain for f in found]) == pytest.approx(1.0, abs=0.08)
    assert np.mean([f.width for f in found]) == pytest.approx(np.sqrt(2.1**2 + 1 / 12), rel=0.05)


@pytest.mark.slow
def test_overlapping_columns_are_unbiased_and_covered():
    """A lattice 1.2 FWHM apart: each fitted alone would be pulled to its neighbours."""
    parts = [replicate(seed, spacing=10.0, sigma=3.5, height=80.0) for seed in range(100, 110)]
    one, two = scores(*(np.concatenate([part[k] for part in parts]) for k in (0, 1)))
    assert 0.59 < one < 0.76
    assert 0.92 < two < 0.985
    # overlapping columns err together: only images are independent
    means = np.array([part[0].mean(0) for part in parts])
    assert (abs(means.mean(0)) < 4 * means.std(0, ddof=1) / np.sqrt(len(means))).all()
    assert (means.std(0) < 0.25 * np.median(parts[0][1])).all()


def test_pair_keeps_its_separation():
    rng = np.random.default_rng(1)
    size, distance = (96, 96), 6.5  # 1.1 FWHM of σ = 2.5
    found = []
    for _ in range(8):
        corners = grid(size, 24.0, rng, angle=20.0, scatter=0.3)
        points = np.concatenate([corners, corners + np.array([0.0, distance])])
        heights = np.repeat([60.0, 30.0], len(corners))
        counts = rng.poisson(expose(points, heights, size, sigma=2.5))
        table = refine_columns(counts, points + rng.normal(0, 0.4, points.shape)).table
        n = len(corners)
        inner = ((corners > 6) & (corners < 80)).all(1)
        gap = table[["y", "x"]].to_numpy()[n:] - table[["y", "x"]].to_numpy()[:n]
        found.append(gap[inner])
    gap = np.concatenate(found)
    error = gap.std(0) / np.sqrt(len(gap))
    assert (abs(gap.mean(0) - [0, distance]) < 4 * error + 0.02).all()


@pytest.mark.slow
def test_jitter_is_measured_and_paid_for():
    """With line jitter of 0.4 px the x errors are twice the bound; the claim must follow, in x only."""
    size, sd = (200, 200), 0.4
    errors, claims, measured = [], [], []
    for seed in range(6):
        rng = np.random.default_rng(seed)
        points = grid(size, 13.0, rng)
        lines = np.column_stack([np.zeros(size[0]), rng.normal(0, sd, size[0])])
        image = rng.poisson(expose(points, np.full(len(points), 40.0), size, jitter=lines))
        found = refine_columns(image, points + rng.normal(0, 0.5, points.shape))
        inner = ((points > 6) & (points < 193)).all(1)
        errors.append((found.table[["y", "x"]].to_numpy() - points)[inner])
        claims.append(found.table[["y_err", "x_err"]].to_numpy()[inner])
        measured.append(found.jitter_px)
    assert np.mean(measured, axis=0) == pytest.approx([0, sd], abs=0.06)
    one, two = scores(np.concatenate(errors)[:, 1], np.concatenate(claims)[:, 1])
    assert 0.62 < one < 0.76
    assert 0.92 < two < 0.99


@pytest.mark.slow
def test_correlated_noise_widens_the_claim():
    """A detector that smears counts correlates the noise; treating pixels as independent would claim too little."""

    def smear(counts):
        padded = np.pad(counts, 1, mode="reflect")
        rows = (padded[:-2] + 2 * padded[1:-1] + padded[2:]) / 4
        return (rows[:, :-2] + 2 * rows[:, 1:-1] + rows[:, 2:]) / 4

    error, claimed, _, _, found = pooled(range(20, 30), filtered=smear)
    one, two = scores(error, claimed)
    assert np.mean([f.correlation for f in found]) > 2
    assert 0.58 < one < 0.76
    assert 0.9 < two < 0.985


def test_few_counts_do_not_drive_columns_from_their_start():
    """One count at the peak: the start, off by a tenth of the spacing, is kept in mind, and the claim covers."""
    rng = np.random.default_rng(11)
    errors, claims, starts = [], [], []
    for _ in range(6):
        size = (128, 128)
        points = grid(size, 12.0, rng)
        image = rng.poisson(expose(points, np.ones(len(points)), size, background=0.3))
        start = points + rng.normal(0, 1.2, points.shape)
        table = refine_columns(image, start).table
        inner = ((points > 6) & (points < 121)).all(1)
        errors.append((table[["y", "x"]].to_numpy() - points)[inner])
        claims.append(table[["y_err", "x_err"]].to_numpy()[inner])
        starts.append((start - points)[inner])
    error, claimed, before = (np.concatenate(part) for part in (errors, claims, starts))
    assert (np.hypot(*error.T) < 3).mean() > (np.hypot(*before.T) < 3).mean()
    assert (error**2).mean() < 0.8 * (before**2).mean()
    one, two = scores(error, claimed)
    assert 0.62 < one < 0.78
    assert 0.92 < two < 0.985


def test_weak_column_beside_strong_ones():
    rng = np.random.default_rng(3)
    size = (120, 120)
    points = grid(size, 12.0, rng, angle=12.0)
    heights = np.where(np.arange(len(points)) % 4 == 0, 12.0, 120.0)
    found = refine_columns(
        rng.poisson(expose(points, heights, size)), points + rng.normal(0, 0.5, points.shape)
    )
    inner = ((points > 8) & (points < 111)).all(1)
    weak = inner & (heights < 20)
    error = (found.table[["y", "x"]].to_numpy() - points)[weak]
    assert scores(error, found.table[["y_err", "x_err"]].to_numpy()[weak])[1] > 0.85
    assert found.table["intensity"].to_numpy()[weak] == pytest.approx(12.0, abs=8)


def test_false_and_missing_positions_leave_the_rest_alone():
    rng = np.random.default_rng(4)
    size = (140, 140)
    points = grid(size, 13.0, rng)
    image = rng.poisson(expose(points, np.full(len(points), 40.0), size))
    keep = rng.random(len(points)) > 0.1
    false = rng.uniform(10, 130, (6, 2))
    found = refine_columns(image, np.concatenate([points[keep], false])).table
    error = np.hypot(*(found[["y", "x"]].to_numpy()[: keep.sum()] - points[keep]).T)
    assert np.median(error) < 0.25
    assert np.quantile(error, 0.9) < 1.0
    assert np.isfinite(found.drop(columns="kept").to_numpy()).all()


def test_dark_columns_scale_and_offset_change_nothing_but_units():
    rng = np.random.default_rng(6)
    size = (100, 100)
    points = grid(size, 13.0, rng)
    image = rng.poisson(expose(points, np.full(len(points), 40.0), size)).astype(float)
    plain = refine_columns(image, points)
    dark = refine_columns(500 - 3 * image, points, bright=False)
    place = ["y", "x", "y_err", "x_err"]
    assert dark.table[place].to_numpy() == pytest.approx(plain.table[place].to_numpy(), abs=2e-3)
    assert dark.table["intensity"].to_numpy() == pytest.approx(
        3 * plain.table["intensity"].to_numpy(), rel=1e-2
    )
    assert dark.gain == pytest.approx(-3 * plain.gain, rel=0.02)


def test_line_offsets_and_masked_pixels():
    rng = np.random.default_rng(7)
    size = (128, 128)
    points = grid(size, 13.0, rng)
    clean = expose(points, np.full(len(points), 1.0), size, background=0.0)
    image = clean + rng.normal(0, 0.15, size) + rng.normal(0, 0.6, (size[0], 1))
    image[40:44, 60:70] = np.nan
    found = refine_columns(image, points + rng.normal(0, 0.5, points.shape))
    inner = ((points > 6) & (points < 121)).all(1)
    error = (found.table[["y", "x"]].to_numpy() - points)[inner]
    assert np.sqrt(np.median(error**2)) < 0.2
    assert abs(found.gain) < 0.05
    assert found.model.shape == size and np.isfinite(found.model).all()


def test_held_shape_and_wide_peaks_on_binned_pixels():
    rng = np.random.default_rng(8)
    size = (200, 200)
    points = grid(size, 28.0, rng)
    heights = np.full(len(points), 20.0)
    image = rng.poisson(expose(points, heights, size, sigma=5.5))
    learned = refine_columns(image, points + rng.normal(0, 1.0, points.shape))
    held = refine_columns(image, points + rng.normal(0, 1.0, points.shape), shape=learned.shape)
    assert np.mean(learned.width) == pytest.approx(5.5, rel=0.1)
    gap = held.table[["y", "x"]].to_numpy() - learned.table[["y", "x"]].to_numpy()
    inner = ((points > 6) & (points < 193)).all(1)
    assert abs(gap[inner]).max() < 0.35 * learned.table["y_err"].median()
    residual = (image - learned.model)[20:-20, 20:-20]
    assert abs(residual.mean()) < 0.3


def test_refuses_what_it_cannot_use():
    with pytest.raises(InputError, match="image"):
        refine_columns(np.zeros((3, 20, 20)), [[5, 5]])
    with pytest.raises(InputError, match="positions"):
        refine_columns(np.zeros((20, 20)), [[np.nan, 5]])
    with pytest.raises(InputError, match="outside"):
        refine_columns(np.zeros((20, 20)), [[9.0, -5000.0]])
    empty = refine_columns(np.zeros((20, 20)), np.zeros((0, 2)))
    assert len(empty.table) == 0 and empty.warnings
    single = refine_columns(np.random.default_rng(0).poisson(5.0, (20, 20)), [[9.0, 9.0]])
    assert np.isfinite(single.table.drop(columns="kept").to_numpy()).all()
    flat = refine_columns(np.ones((32, 32)), [[9.0, 9.0], [20.0, 20.0]])
    assert np.isfinite(flat.table[["y", "x"]].to_numpy()).all()


@pytest.mark.parametrize(
    ("size", "width"), [((4, 60), 20.0), ((5, 300), 30.0), ((4, 4), 12.0), ((7, 9), 3.0)]
)
def test_images_smaller_than_a_peak(size, width):
    image = np.random.default_rng(0).poisson(5.0, size)
    found = refine_columns(image, [[1.0, 1.5], [2.5, size[1] - 2.0]], width=width)
    assert np.isfinite(found.table[["y", "x"]].to_numpy()).all() and found.model.shape == size
