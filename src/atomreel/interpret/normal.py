"""The sparse normal equations of a joint fit and their solution by preconditioned conjugate gradients."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import linalg, sparse

from atomreel.interpret.peaks import Floats, Ints

DENSE_KNOTS = 1200


@dataclass(frozen=True)
class Normal:
    """JᵀWJ in three parts: columns (3·N, block-sparse), knots (K) and a few shape parameters (S).

    columns: (3N, 3N). knots: (K, K). cross: (3N, K). shape_columns: (3N, S). shape_knots: (K, S).
    shape: (S, S). S may be 0.
    """

    columns: sparse.bsr_array
    knots: sparse.csr_array
    cross: sparse.csr_array
    shape_columns: Floats
    shape_knots: Floats
    shape: Floats
    column_inverse: Floats  # (N, 3, 3) inverses of the diagonal blocks
    factored: Any = None  # factor_of_knots of equations much like these

    @cached_property
    def factor_of_knots(self) -> Any:
        """Factor of the knots' own matrix, less what the columns already explain of it; its diagonal's inverse where
        it is large. A preconditioner, so one of similar equations will do."""
        if self.factored is not None:
            return self.factored
        k = self.knots.shape[0]
        if k > DENSE_KNOTS:
            return 1 / self.knots.diagonal()
        n = len(self.column_inverse)
        inverse = sparse.bsr_array(
            (self.column_inverse, np.arange(n), np.arange(n + 1)), shape=(3 * n, 3 * n)
        )
        rest = (self.knots - 0.5 * (self.cross.T @ (inverse @ self.cross))).toarray()
        rest[np.diag_indices(k)] += 1e-9 * np.trace(rest) / k
        try:
            return linalg.cho_factor(rest, check_finite=False)
        except linalg.LinAlgError:
            whole = self.knots.toarray() + 1e-6 * np.eye(k) * self.knots.diagonal().mean()
            return linalg.cho_factor(whole)

    @cached_property
    def cross_back(self) -> sparse.csr_array:
        return self.cross.T.tocsr()

    def times(self, v: Floats) -> Floats:
        n, k = self.columns.shape[0], self.knots.shape[0]
        a, b, c = v[:n], v[n : n + k], v[n + k :]
        return np.concatenate(
            [
                self.columns @ a + self.cross @ b + self.shape_columns @ c,
                self.cross_back @ a + self.knots @ b + self.shape_knots @ c,
                self.shape_columns.T @ a + self.shape_knots.T @ b + self.shape @ c,
            ]
        )


def assemble(own: Floats, pairs: Ints, blocks: Floats) -> sparse.bsr_array:
    """(3N, 3N) symmetric block matrix from (N, 3, 3) diagonal and (P, 3, 3) upper blocks."""
    n = len(own)
    i, j = pairs[:, 0], pairs[:, 1]
    row = np.concatenate([np.arange(n), i, j])
    col = np.concatenate([np.arange(n), j, i])
    data = np.concatenate([own, blocks, blocks.transpose(0, 2, 1)])
    order = np.argsort(row * n + col, kind="stable")
    start = np.concatenate([[0], np.cumsum(np.bincount(row, minlength=n))])
    return sparse.bsr_array((data[order], col[order], start), shape=(3 * n, 3 * n))


def solve(normal: Normal, right: Floats, *, tolerance: float, steps: int) -> npt.NDArray[np.float64]:
    """x with ‖normal·x − right‖ ≤ tolerance·‖right‖ in the preconditioned norm, or after `steps`."""
    n3, k = normal.columns.shape[0], normal.knots.shape[0]
    knots = normal.factor_of_knots
    shape = np.linalg.pinv(normal.shape) if len(normal.shape) else normal.shape

    def precondition(v: Floats) -> Floats:
        first = np.matmul(normal.column_inverse, v[:n3].reshape(-1, 3, 1)).ravel()
        b = v[n3 : n3 + k]
        second = linalg.cho_solve(knots, b, check_finite=False) if isinstance(knots, tuple) else knots * b
        return np.concatenate([first, second, shape @ v[n3 + k :]])

    x = np.zeros(len(right))
    r = right.copy()
    z = precondition(r)
    p = z.copy()
    rz = float(r @ z)
    stop = rz * tolerance**2
    for _ in range(steps):
        if rz <= stop or rz <= 0:
            break
        q = normal.times(p)
        curvature = float(p @ q)
        if curvature <= 0:  # rounding on a singular direction: what is solved so far is the answer
            break
        alpha = rz / curvature
        x += alpha * p
        r -= alpha * q
        z = precondition(r)
        rz, before = float(r @ z), rz
        p = z + (rz / before) * p
    return x
