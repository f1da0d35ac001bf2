"""The iterative solution against a dense one."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import sparse

from atomreel.interpret import normal


@pytest.mark.parametrize("dense", [0, 1200])
def test_solution_is_the_dense_solution(rng, monkeypatch, dense):
    """Preconditioned by the factor of the knots' matrix, and by its diagonal where there are many."""
    n, k, s = 6, 4, 2
    jacobian = rng.standard_normal((200, 3 * n + k + s))
    full = jacobian.T @ jacobian
    blocks = full[: 3 * n, : 3 * n].reshape(n, 3, n, 3).transpose(0, 2, 1, 3)
    pairs = np.array([(i, j) for i in range(n) for j in range(i + 1, n)])
    own = blocks[np.arange(n), np.arange(n)]
    system = normal.Normal(
        own=own,
        pairs=pairs,
        blocks=blocks[pairs[:, 0], pairs[:, 1]],
        knots=sparse.csr_array(full[3 * n : 3 * n + k, 3 * n : 3 * n + k]),
        cross=full[: 3 * n, 3 * n : 3 * n + k].reshape(n, 3, k),
        touched=np.tile(np.arange(k), (n, 1)),
        shape_columns=full[: 3 * n, 3 * n + k :],
        shape_knots=full[3 * n : 3 * n + k, 3 * n + k :],
        shape=full[3 * n + k :, 3 * n + k :],
    )
    right = rng.standard_normal(len(full))
    assert system.times(right) == pytest.approx(full @ right)
    monkeypatch.setattr(normal, "DENSE_KNOTS", dense)
    found = normal.solve(system, right, tolerance=1e-8, steps=200)
    assert found == pytest.approx(np.linalg.solve(full, right), rel=1e-4, abs=1e-8)
    assert system.own_inverse == pytest.approx(np.linalg.inv(own))
