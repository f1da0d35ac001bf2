import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from atomreel.core.errors import InputError
from atomreel.core.lattice import (
    Lattice,
    Site,
    reduce_vectors,
    screen_angle,
    shape_distance,
    shape_of,
)


def rotated(a, b, gamma, angle=0.0):
    """Rows (dy, dx) of a cell whose first vector points `angle` degrees counter-clockwise on screen."""
    turn = np.deg2rad([angle, angle + gamma])
    return np.array(
        [[-a * np.sin(turn[0]), a * np.cos(turn[0])], [-b * np.sin(turn[1]), b * np.cos(turn[1])]]
    )


@settings(max_examples=60, deadline=None)
@given(
    st.floats(3, 40),
    st.floats(1, 3),
    st.floats(20, 160),
    st.floats(-180, 180),
    st.integers(-3, 3),
    st.integers(-3, 3),
)
def test_reduction_keeps_the_lattice_and_obeys_the_contract(a, ratio, gamma, angle, i, j):
    vectors = np.array([[1, i], [0, 1]]) @ np.array([[1, 0], [j, 1]]) @ rotated(a, a * ratio, gamma, angle)
    change = reduce_vectors(vectors)
    new = change @ vectors
    assert abs(round(np.linalg.det(change))) == 1
    la, lb = np.hypot(*new.T)
    cosine = new[0] @ new[1] / (la * lb)
    assert la <= lb * (1 + 1e-9)
    assert -1e-9 <= cosine <= min(0.5, la / (2 * lb)) + 1e-9
    assert -90 < screen_angle(new[0]) <= 90


def test_hexagonal_lattice_keeps_its_direction_from_frame_to_frame(rng):
    angles = []
    for _ in range(50):
        vectors = rotated(10, 10, 60, 25) + rng.normal(0, 0.02, (2, 2))
        angles.append(screen_angle((reduce_vectors(vectors, tie=0.02) @ vectors)[0]))
    assert np.ptp(angles) < 1.5
    assert np.mean(angles) == pytest.approx(25, abs=0.5)


def test_angles_are_counter_clockwise_on_screen():
    assert screen_angle((-1.0, 0.0)) == pytest.approx(90)
    assert screen_angle((1.0, 0.0)) == pytest.approx(-90)
    assert screen_angle((0.0, -1.0)) == 180
    assert Lattice(np.zeros(2), rotated(10, 12, 80, 30)).angle == pytest.approx(30)
    assert Lattice(np.zeros(2), rotated(10, 12, 80, 30)).gamma == pytest.approx(80)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**31 - 1))
def test_positions_and_locate_are_inverse(seed):
    rng = np.random.default_rng(seed)
    lattice = Lattice((5, 7), rotated(10, 13, 75, 20), sites=(Site((0.0, 0.0)), Site((0.4, 0.55))))
    cells, sites = rng.integers(-20, 20, (30, 2)), rng.integers(0, 2, 30)
    off = rng.normal(0, 0.5, (30, 2))
    found_cells, found_sites, gap = lattice.locate(lattice.positions(cells, sites) + off)
    np.testing.assert_array_equal(found_cells, cells)
    np.testing.assert_array_equal(found_sites, sites)
    np.testing.assert_allclose(gap, off, atol=1e-9)


def test_inside_counts_the_sites_of_the_field():
    lattice = Lattice((3.2, 1.7), rotated(10, 10, 60, 11), sites=(Site((0.0, 0.0)), Site((1 / 3, 1 / 3))))
    cells, sites = lattice.inside((400, 300))
    assert len(cells) == pytest.approx(2 * 400 * 300 / lattice.area, rel=0.02)
    where = lattice.positions(cells, sites)
    assert where.min() >= 0 and (where <= [399, 299]).all()


def test_errors_match_scatter(rng):
    """Propagation against a direct draw from the covariance."""
    root = rng.normal(0, 0.02, (6, 6))
    cov = root @ root.T
    truth = rotated(10, 14, 71, -35)
    draws = rng.multivariate_normal(np.zeros(6), cov, size=4000)[:, 2:].reshape(-1, 2, 2) + truth
    errors = Lattice(np.zeros(2), truth, cov).errors
    for name in ("a", "b", "gamma", "angle"):
        values = [getattr(Lattice(np.zeros(2), v), name) for v in draws]
        assert errors[name] == pytest.approx(np.std(values), rel=0.08), name


def test_angstrom_with_oblong_pixels():
    lattice = Lattice(np.zeros(2), [[0.0, 10.0], [20.0, 0.0]], np.eye(6) * 0.01, pixel=(0.1, 0.3))
    metric = lattice.in_angstrom()
    assert (metric["a_A"], metric["b_A"], metric["gamma_deg"]) == pytest.approx((3.0, 2.0, 90.0))
    assert (metric["a_A_err"], metric["b_A_err"]) == pytest.approx((0.03, 0.01))
    assert Lattice(np.zeros(2), np.eye(2)).in_angstrom() is None


@pytest.mark.parametrize(
    ("cell", "name"),
    [
        ((10, 10, 90), "square"),
        ((10, 10, 60), "hexagonal"),
        ((10, 14, 90), "rectangular"),
        ((10, 10, 75), "centred"),
        ((10, 13, math.degrees(math.acos(10 / 26))), "centred"),
        ((10, 13, 81), "oblique"),
    ],
)
def test_classes(cell, name):
    sure = Lattice(np.zeros(2), rotated(*cell, 17), np.eye(6) * 1e-4)
    assert sure.symmetry() == name


def test_class_is_within_errors_and_within_distortion():
    cell = rotated(10, 10.05, 90.3, 17)
    assert Lattice(np.zeros(2), cell, np.eye(6) * 1e-8).symmetry() == "oblique"
    assert Lattice(np.zeros(2), cell, np.eye(6) * 0.01).symmetry() == "square"
    assert Lattice(np.zeros(2), cell, np.eye(6) * 1e-8).symmetry(distortion=0.005) == "square"


def test_false_rejection_of_the_true_class_is_one_in_a_hundred(rng):
    cov = np.eye(6) * 0.05**2
    names = [
        Lattice(np.zeros(2), rotated(10, 10, 60, 5) + rng.normal(0, 0.05, (2, 2)), cov).symmetry()
        for _ in range(600)
    ]
    assert 0.97 <= np.mean([name == "hexagonal" for name in names]) <= 0.999


def test_hyperbolic_distance_is_twice_the_shear():
    square = rotated(10, 10, 90)
    shear = 0.02
    strained = square @ np.array([[1 + shear / 2, 0], [0, 1 - shear / 2]])
    assert shape_distance(shape_of(square), shape_of(strained)) == pytest.approx(shear, rel=0.01)


@pytest.mark.parametrize("cell", [(10, 10, 75), (10, 13, math.degrees(math.acos(10 / 26)))])
def test_conventional_cell_of_centred_is_upright_and_twice_as_large(cell):
    lattice = Lattice(np.zeros(2), rotated(*cell, 40), np.eye(6) * 1e-8)
    a, b = lattice.conventional()
    assert a @ b == pytest.approx(0, abs=1e-6)
    assert abs(np.linalg.det([a, b])) == pytest.approx(2 * lattice.area)


def test_conventional_cell_of_others_is_the_reduced_one():
    lattice = Lattice(np.zeros(2), rotated(10, 10, 60), np.eye(6) * 1e-8)
    np.testing.assert_array_equal(lattice.conventional(), lattice.vectors)


def test_spacing_of_honeycomb():
    lattice = Lattice(np.zeros(2), rotated(10, 10, 60), sites=(Site((0.0, 0.0)), Site((1 / 3, 1 / 3))))
    assert lattice.spacing() == pytest.approx(10 / math.sqrt(3))


def test_bad_input_says_what_is_wrong():
    with pytest.raises(InputError, match="parallel"):
        Lattice(np.zeros(2), [[1, 2], [2, 4]])
    with pytest.raises(InputError, match="shape"):
        Lattice(np.zeros(3), np.eye(2))
    with pytest.raises(InputError, match="site"):
        Lattice(np.zeros(2), np.eye(2), sites=())
