"""Local covariance against the inverse of the whole information matrix."""

from __future__ import annotations

import numpy as np
import pytest

from atomreel.interpret.errors import marginal_covariance


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
