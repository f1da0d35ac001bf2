"""The normal equations of a joint fit and their solution by preconditioned conjugate gradients."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import sparse

from atomreel.interpret.loops import compiled, inverses
from atomreel.interpret.peaks import Floats, Ints

DENSE_KNOTS = 1200


@dataclass(frozen=True)
class Normal:
    """JᵀWJ in three parts: columns (3·N), knots (K) and a few shape parameters (S).

    own: (N, 3, 3), pairs: (P, 2) and blocks: (P, 3, 3) of columns. knots: (K, K). cross: (N, 3, L) columns with the
    knots `touched` (N, L); a knot may stand twice. shape_columns: (3N, S). shape_knots: (K, S). shape: (S, S). S may be 0.
    """

    own: npt.NDArray[np.float64]
    pairs: Ints
    blocks: npt.NDArray[np.float64]
    knots: sparse.csr_array
    cross: npt.NDArray[np.float64]
    touched: npt.NDArray[np.intp]
    shape_columns: Floats
    shape_knots: Floats
    shape: Floats
    factored: npt.NDArray[np.float64] | None = None  # factor_of_knots of equations much like these

    @cached_property
    def own_inverse(self) -> npt.NDArray[np.float64]:
        """(N, 3, 3) inverses of the columns' own blocks."""
        out = np.empty_like(self.own)
        inverses(self.own, out)
        return out

    @cached_property
    def factor_of_knots(self) -> npt.NDArray[np.float64]:
        """(K, K) lower factor of the knots' own matrix, less what the columns already explain of it; (K, 1) inverse of
        its diagonal where it is large. A preconditioner, so one of similar equations will do."""
        if self.factored is not None:
            return self.factored
        k = self.knots.shape[0]
        if k > DENSE_KNOTS:
            return 1 / self.knots.diagonal()[:, None]
        rest = self.knots.toarray()
        _explained(rest, self.own_inverse, (self.cross, self.touched))
        rest[np.diag_indices(k)] += 1e-9 * np.trace(rest) / k
        try:
            return np.linalg.cholesky(rest)
        except np.linalg.LinAlgError:
            whole = self.knots.toarray() + 1e-6 * np.eye(k) * self.knots.diagonal().mean()
            return np.linalg.cholesky(whole)

    def times(self, v: Floats) -> npt.NDArray[np.float64]:
        """The matrix times a vector (3N + K + S,)."""
        return np.asarray(_product(self._arrays, np.asarray(v, float)))

    @property
    def _arrays(self) -> tuple[Any, Any, Any]:
        """As the compiled loops take it."""
        columns = self.own, self.pairs, self.blocks, self.cross, self.touched
        grid = self.knots.data, self.knots.indices, self.knots.indptr
        shape = self.shape_columns, self.shape_knots, self.shape
        return columns, grid, tuple(np.asarray(part, float, order="C") for part in shape)


@compiled
def _times(columns, given, out):
    """Columns' part of the product: with columns and knots, and what it adds to the knots' part."""
    own, pairs, blocks, cross, touched = columns
    by_column, by_knot = given
    to_column, to_knot = out
    for i in range(len(own)):
        for a in range(3):
            total = 0.0
            for b in range(3):
                total += own[i, a, b] * by_column[3 * i + b]
            for m in range(touched.shape[1]):
                total += cross[i, a, m] * by_knot[touched[i, m]]
                to_knot[touched[i, m]] += cross[i, a, m] * by_column[3 * i + a]
            to_column[3 * i + a] = total
    for p in range(len(pairs)):
        i, j = pairs[p, 0], pairs[p, 1]
        for a in range(3):
            for b in range(3):
                to_column[3 * i + a] += blocks[p, a, b] * by_column[3 * j + b]
                to_column[3 * j + b] += blocks[p, a, b] * by_column[3 * i + a]


@compiled
def _explained(rest, inverse, cross_at):
    """Take half of what the columns alone explain off the knots' matrix."""
    cross, touched = cross_at
    wide = touched.shape[1]
    solved = np.empty((3, wide))
    for i in range(len(inverse)):
        for a in range(3):
            for m in range(wide):
                solved[a, m] = 0
                for b in range(3):
                    solved[a, m] += 0.5 * inverse[i, a, b] * cross[i, b, m]
        for m in range(wide):
            row = rest[touched[i, m]]
            for q in range(wide):
                row[touched[i, q]] -= (
                    solved[0, m] * cross[i, 0, q]
                    + solved[1, m] * cross[i, 1, q]
                    + solved[2, m] * cross[i, 2, q]
                )


def solve(normal: Normal, right: Floats, *, tolerance: float, steps: int) -> npt.NDArray[np.float64]:
    """x with ‖normal·x − right‖ ≤ tolerance·‖right‖ in the preconditioned norm, or after `steps`."""
    s = len(normal.shape)
    knots = normal.factor_of_knots
    inverse = np.linalg.pinv(normal.shape) if s else np.zeros((0, 0))
    x = np.zeros(len(right))
    _descend(normal._arrays, (normal.own_inverse, knots, inverse), (right, x, tolerance, steps))
    return x


@compiled
def _product(system, v):
    """The normal matrix times a vector."""
    columns, (data, indices, starts), (shape_columns, shape_knots, shape) = system
    n, k = 3 * len(columns[0]), len(starts) - 1
    out = np.zeros(len(v))
    for row in range(k):
        for m in range(starts[row], starts[row + 1]):
            out[n + row] += data[m] * v[n + indices[m]]
    _times(columns, (v[:n], v[n : n + k]), (out[:n], out[n : n + k]))
    for s in range(len(shape)):
        at = n + k + s
        for i in range(n):
            out[i] += shape_columns[i, s] * v[at]
            out[at] += shape_columns[i, s] * v[i]
        for i in range(k):
            out[n + i] += shape_knots[i, s] * v[at]
            out[at] += shape_knots[i, s] * v[n + i]
        for i in range(len(shape)):
            out[at] += shape[s, i] * v[n + k + i]
    return out


@compiled
def _preconditioned(parts, v):
    """The inverses of columns, knots and shape by themselves times a vector. knots: lower factor (K, K), or (K, 1)."""
    columns, knots, shape = parts
    n, k = 3 * len(columns), len(knots)
    out = np.zeros(len(v))
    for i in range(len(columns)):
        for a in range(3):
            for b in range(3):
                out[3 * i + a] += columns[i, a, b] * v[3 * i + b]
    if knots.shape[1] < k:
        for i in range(k):
            out[n + i] = knots[i, 0] * v[n + i]
    else:
        for i in range(k):
            total = v[n + i]
            for j in range(i):
                total -= knots[i, j] * out[n + j]
            out[n + i] = total / knots[i, i]
        for i in range(k - 1, -1, -1):
            out[n + i] /= knots[i, i]
            for j in range(i):
                out[n + j] -= knots[i, j] * out[n + i]
    for i in range(len(shape)):
        for j in range(len(shape)):
            out[n + k + i] += shape[i, j] * v[n + k + j]
    return out


@compiled
def _descend(system, parts, goal):
    """Preconditioned conjugate gradients from zero; the solution is written to the second of `goal`."""
    right, x, tolerance, steps = goal
    r = right.copy()
    z = _preconditioned(parts, r)
    p = z.copy()
    rz = np.dot(r, z)
    stop = rz * tolerance**2
    for _ in range(steps):
        if not rz > max(stop, 0.0):
            break
        q = _product(system, p)
        curvature = np.dot(p, q)
        if not curvature > 0:  # rounding on a singular direction: what is solved so far is the answer
            break
        alpha = rz / curvature
        x += alpha * p
        r -= alpha * q
        z = _preconditioned(parts, r)
        before = rz
        rz = np.dot(r, z)
        p = z + (rz / before) * p
