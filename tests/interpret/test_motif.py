import crystals
import numpy as np
import pytest

from atomreel.interpret.motif import Columns, find_cell, find_motif, primitive

SHAPE = (200, 200)


def test_mean_spacing_is_the_root_of_the_area_per_column(rng):
    atoms = crystals.crystal(crystals.HONEYCOMB, SHAPE, rng, noise=0.1)
    columns = Columns(atoms[["y", "x"]].to_numpy())
    assert columns.spacing == pytest.approx(np.sqrt(100 * np.sqrt(0.75) / 2), rel=0.02)
    assert columns.nearest == pytest.approx(10 / np.sqrt(3), rel=0.05)


def test_vacuum_is_not_covered_and_a_vacancy_is(rng):
    atoms = crystals.crystal(crystals.SQUARE, SHAPE, rng, origin=(100, 100), inside=lambda y, x: x < 120)
    points = atoms[["y", "x"]].to_numpy()
    middle = np.argmin(np.hypot(*(points - [100, 60]).T))
    columns = Columns(np.delete(points, middle, axis=0))
    assert columns.covers(points[middle]) and not columns.covers(np.array([100.0, 160.0]))


def test_random_points_score_low_and_lattices_high(rng):
    points = rng.random((90, 2)) * 200
    cell = find_cell(Columns(points), np.arange(90))
    assert cell is None or cell.score < 0.35
    atoms = crystals.crystal(crystals.OBLIQUE, SHAPE, rng, noise=0.3)
    cell = find_cell(Columns(atoms[["y", "x"]].to_numpy()), np.arange(90))
    assert cell.score > 0.9


def test_a_cell_three_times_too_large_is_made_primitive(rng):
    points = crystals.crystal(crystals.SQUARE, SHAPE, rng)[["y", "x"]].to_numpy()
    large = np.array([[3, 0], [1, 1]]) @ crystals.vectors_of(12, 12, 90, 13)
    sites = find_motif(points, large, tolerance=2.0)
    assert len(sites) == 3
    small = primitive(large, sites, np.zeros(3), tolerance=2.0)
    assert abs(np.linalg.det(small)) == pytest.approx(144, rel=0.01)
    kept = primitive(large, sites, np.array([0.0, 0.0, 3.0]), tolerance=2.0)
    assert abs(np.linalg.det(kept)) == pytest.approx(432, rel=0.01)
