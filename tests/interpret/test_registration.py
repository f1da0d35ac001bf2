import crystals
import numpy as np
import pytest

from atomreel.interpret.motif import Columns, find_cell
from atomreel.interpret.registration import fit_linear, grow


def grid(rng, noise, n=12):
    cells = np.stack(np.meshgrid(np.arange(n), np.arange(n), indexing="ij"), -1).reshape(-1, 2) - n // 2
    vectors = crystals.vectors_of(10, 13, 75, 20)
    return cells, np.array([100.0, 90.0]) + cells @ vectors + rng.normal(0, noise, (n * n, 2)), vectors


def test_linear_fit_and_its_covariance():
    truth = np.array([100.0, 90.0])
    pulls = []
    for seed in range(80):
        cells, points, vectors = grid(np.random.default_rng(seed), 0.5)
        fit = fit_linear(points, cells, np.zeros(len(cells), dtype=int))
        found = np.concatenate([fit.origin - truth, (fit.vectors - vectors).ravel()])
        pulls.append(found / np.sqrt(np.diag(fit.covariance)))
    assert 0.62 < (np.abs(pulls) < 1).mean() < 0.78


def test_outliers_do_not_pull(rng):
    cells, points, vectors = grid(rng, 0.2)
    points[::9] += rng.normal(0, 4, points[::9].shape)
    fit = fit_linear(points, cells, np.zeros(len(cells), dtype=int))
    np.testing.assert_allclose(fit.vectors, vectors, atol=4 * np.sqrt(fit.covariance[2, 2]))
    assert np.sqrt(fit.covariance[2, 2]) < 0.01


def test_precise_columns_count_more(rng):
    cells, points, vectors = grid(rng, 0.0)
    errors = np.full(points.shape, 0.05)
    errors[cells[:, 0] > 0] = 1.0
    points = points + rng.normal(0, 1, points.shape) * errors
    site = np.zeros(len(cells), dtype=int)
    plain, weighted = fit_linear(points, cells, site), fit_linear(points, cells, site, errors=errors)
    assert np.abs(weighted.vectors[1] - vectors[1]).max() < np.abs(plain.vectors[1] - vectors[1]).max()


def test_growth_covers_the_crystal_from_a_patch(rng):
    atoms = crystals.crystal(crystals.HONEYCOMB, (260, 260), rng, noise=0.2)
    columns = Columns(atoms[["y", "x"]].to_numpy())
    corner = np.argsort(np.hypot(atoms["y"], atoms["x"]).to_numpy())[:80]
    found = grow(columns, find_cell(columns, corner), allowed=np.ones(len(atoms), dtype=bool))
    assert found.member.mean() > 0.99
    key = np.column_stack([found.cell, found.site])[found.member]
    assert len(np.unique(key, axis=0)) == found.member.sum()
    gap = columns.points - found.lattice.positions(found.cell, found.site)
    assert np.hypot(*gap[found.member].T).mean() == pytest.approx(0.2 * np.sqrt(np.pi / 2), rel=0.1)
