"""Local covariance against the inverse of the whole information matrix."""

from __future__ import annotations

import numpy as np
import pytest

from atomreel.interpret.errors import START_ERROR, marginal_covariance, widened


def test_three_columns_and_a_constant(rng):
    jacobian = rng.standard_normal((60, 10))
    full = jacobian.T @ jacobian
    blocks = full[:9, :9].reshape(3, 3, 3, 3).transpose(0, 2, 1, 3)
    pairs = np.array([[0, 1], [0, 2], [1, 2]])
    found = marginal_covariance(
        blocks[np.arange(3), np.arange(3)],
        pairs,
        blocks[pairs[:, 0], pairs[:, 1]],
        flat=full[:9, 9].reshape(3, 3),
        area=np.full(3, full[9, 9]),
        distance=np.ones(3),
    )
    inverse = np.linalg.inv(full)
    for i in range(3):
        assert found[i] == pytest.approx(inverse[3 * i : 3 * i + 3, 3 * i : 3 * i + 3], rel=1e-3, abs=1e-6)


def test_a_lone_column_needs_no_neighbours():
    found = marginal_covariance(
        np.eye(3)[None] * 4,
        np.zeros((0, 2), np.intp),
        np.zeros((0, 3, 3)),
        flat=np.zeros((1, 3)),
        area=np.ones(1),
        distance=np.zeros(0),
    )
    assert found[0] == pytest.approx(np.eye(3) / 4, rel=1e-4)


@pytest.mark.parametrize("shared", [0.0, 1.2, 4.0])
def test_what_is_left_out_between_far_columns_ends_in_no_variance_below_that_of_a_column_alone(shared):
    """Nine columns on so small a field that a constant is nearly their sum; and neighbours that claim more than there is."""
    own = np.broadcast_to(np.diag([48.0, 7.0, 6.0]), (9, 3, 3))
    pairs = np.array([[0, k] for k in range(1, 9)])
    found = marginal_covariance(
        own,
        pairs,
        np.broadcast_to(shared * np.diag([16.0, 2.0, 2.0]), (8, 3, 3)),
        flat=np.broadcast_to([121.0, 3.0, -1.0], (9, 3)),
        area=np.full(9, 1900.0),
        distance=np.full(8, 6.0),
    )
    alone = np.linalg.inv(own[0]).diagonal()
    assert (found[:, [0, 1, 2], [0, 1, 2]] >= alone * 0.999).all()
    assert (found[:, [0, 1, 2], [0, 1, 2]] < 60 * alone).all()
    assert (np.linalg.eigvalsh(found) > 0).all()


def test_a_column_whose_own_information_is_indefinite_claims_no_negative_variance():
    own = np.array([[[4.0, 9.0, 0.0], [9.0, 4.0, 0.0], [0.0, 0.0, 4.0]], 4 * np.eye(3)])
    found = marginal_covariance(
        own,
        np.zeros((0, 2), np.intp),
        np.zeros((0, 3, 3)),
        flat=np.zeros((2, 3)),
        area=np.ones(2),
        distance=np.zeros(0),
    )
    assert found == pytest.approx(np.tile(np.eye(3) / 4, (2, 1, 1)), rel=1e-4)


@pytest.mark.parametrize("ratio", [1.0, 2.0])
@pytest.mark.parametrize("sharper", [0.5, 1.0, 3.0, 30.0])
def test_a_start_off_the_same_pixels_is_no_measurement(rng, sharper, ratio):
    """Against replicates: the fit weighs image and start as independent, but the start's error is the image's."""
    information, prior = sharper, 1.0
    image = rng.standard_normal(200_000) * np.sqrt(ratio / information)
    start = image * min(1.0, START_ERROR * np.sqrt(information / (ratio * prior)))
    fitted = (information * image + prior * start) / (information + prior)
    claim = np.diag([1.0, 1 / (information + prior), 1 / (information + prior)])[None]
    found = widened(claim, np.array([prior]), np.full(3, ratio))[0]
    assert found[0, 0] == pytest.approx(ratio)
    assert (
        found[1, 1] == pytest.approx(fitted.var(), rel=0.02) or found[1, 1] == claim[0, 1, 1] > fitted.var()
    )
    assert found[1, 2] == 0
