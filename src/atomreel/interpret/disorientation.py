"""How far two lattices are apart, whichever of their equivalent vectors are given.

Vectors V₁ and V₂ (rows a and b) of one lattice differ by an integer matrix M of determinant ±1, V₂ = M V₁. Two lattices
differ by the least deformation F that takes the one to the other, F = V₁⁻¹ M V₂, over all M. Of small F the symmetric part
is a strain and the rest a turn; for equal lattices the turn is what crystallography calls the disorientation
(A. P. Sutton and R. W. Balluffi, Interfaces in Crystalline Materials, 1995, chapter 1).
"""

from __future__ import annotations

from itertools import product

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]
ALIKE = 0.02  # strain by which equivalent turns of an imperfect lattice may differ
TIE = 0.02  # relative difference of lengths below which a is the vector nearest to the x axis
# Two reduced bases of nearly the same lattice differ by entries of at most 1.
CHANGES = np.array(
    [[[h, k], [u, v]] for h, k, u, v in product((-1.0, 0.0, 1.0), repeat=4) if h * v - k * u == 1]
)


def right_handed(vectors: FloatArray) -> FloatArray:
    """(…, 2, 2) the same lattices with b turned about if need be, so that all determinants are above 0."""
    sign = np.where(_area(vectors) < 0, -1.0, 1.0)
    return vectors * np.stack([np.ones_like(sign), sign], -1)[..., None]


def deformation(first: FloatArray, second: FloatArray) -> tuple[FloatArray, FloatArray]:
    """The least F (…, 2, 2) with M·second = first·F, and M (…, 2, 2).

    first, second: (…, 2, 2) reduced bases, rows a and b as (y, x), of one handedness (`right_handed`); NaN gives NaN.
    """
    tried, off = _tried(first, second)
    best = np.where(np.isfinite(off), off, np.inf).argmin(-1)
    return _taken(tried, best), CHANGES[best]


def lattice_change(first: FloatArray, second: FloatArray) -> FloatArray:
    """(…) the largest relative displacement ‖F − 1‖ between two lattices [degrees], as `deformation` finds F.

    A pure turn by θ gives θ (2 sin ½θ), so does a stretch by as many radians: 1° is 1.7 %. Beyond some 25° another M, with
    a large strain, may be the least.
    """
    return np.asarray(np.degrees(_tried(first, second)[1].min(-1)))


def disorientation(first: FloatArray, second: FloatArray) -> FloatArray:
    """(…) turn from `first` to `second` [degrees], counter-clockwise as seen on screen.

    Of all F that strain the lattice hardly more than the least strain there is, the one that turns it least.
    """
    tried, off = _tried(first, second)
    whole, area = np.square(tried).sum((-1, -2)), _area(tried)
    root = np.sqrt(np.maximum(whole**2 - 4 * area**2, 0))
    stretches = np.sqrt(np.maximum(np.stack([whole + root, whole - root]) / 2, 0))
    strain = np.where(area > 0, np.abs(stretches - 1).max(0), np.inf)
    turn = np.degrees(np.arctan2(tried[..., 0, 1] - tried[..., 1, 0], tried[..., 0, 0] + tried[..., 1, 1]))
    alike = strain <= strain.min(-1, keepdims=True) + ALIKE
    best = np.where(alike, np.abs(turn), np.inf).argmin(-1)
    found = np.take_along_axis(turn, best[..., None], axis=-1)[..., 0]
    return np.asarray(np.where(np.isfinite(off).all(-1), found, np.nan))


def _tried(first: FloatArray, second: FloatArray) -> tuple[FloatArray, FloatArray]:
    """F (…, K, 2, 2) of every M of CHANGES, and ‖F − 1‖ (…, K)."""
    first, second = np.broadcast_arrays(first, second)
    with np.errstate(invalid="ignore", divide="ignore"):
        tried = np.einsum("...ij,mjk,...kl->...mil", _inverse(first), CHANGES, second, optimize=True)
        gap = tried - np.eye(2)
        whole, area = np.square(gap).sum((-1, -2)), _area(gap)
        largest = 0.5 * (whole + np.sqrt(np.maximum(whole**2 - 4 * area**2, 0)))
    return np.asarray(tried), np.sqrt(largest)


def _taken(tried: FloatArray, best: npt.NDArray[np.intp]) -> FloatArray:
    return np.asarray(np.take_along_axis(tried, best[..., None, None, None], axis=-3)[..., 0, :, :])


def mean_lattice(vectors: FloatArray) -> tuple[FloatArray, FloatArray]:
    """The lattice (2, 2) that (N, 2, 2) equivalent lattices of one handedness have on average, and all in its basis.

    a is the shortest vector, of equally short ones that nearest to the x axis, b the next at 60° to 90°.
    """
    known = vectors[np.isfinite(vectors).all((-1, -2))]
    reference = known[len(known) // 2]
    for _ in range(2):
        turned = reference @ deformation(reference, known)[0]
        reference = turned.mean(0)
    change = _standard(reference)
    return change @ reference, change @ turned


def _standard(vectors: FloatArray) -> FloatArray:
    """(2, 2) integers that turn a basis into the standard one of its lattice."""
    tried = CHANGES @ vectors
    tried = np.concatenate([tried, tried * np.array([[1.0], [-1.0]])])
    changes = np.concatenate([CHANGES, CHANGES * np.array([[1.0], [-1.0]])])
    a, b = np.hypot(tried[:, 0, 0], tried[:, 0, 1]), np.hypot(tried[:, 1, 0], tried[:, 1, 1])
    cosine = (tried[:, 0] * tried[:, 1]).sum(-1) / (a * b)
    direction = np.degrees(np.arctan2(-tried[:, 0, 0], tried[:, 0, 1]))
    good = (a <= a.min() * (1 + TIE)) & (cosine > -1e-9) & (direction > -90) & (direction <= 90)
    shortest = np.where(good, b, np.inf)
    good &= b <= shortest.min() * (1 + TIE)
    return np.asarray(changes[np.where(good, np.abs(direction), np.inf).argmin()])


def _area(v: FloatArray) -> FloatArray:
    """(…) determinants."""
    return np.asarray(v[..., 0, 0] * v[..., 1, 1] - v[..., 0, 1] * v[..., 1, 0])


def _inverse(v: FloatArray) -> FloatArray:
    """Of 2 × 2 matrices, without an error for singular ones."""
    turned = np.stack(
        [np.stack([v[..., 1, 1], -v[..., 0, 1]], -1), np.stack([-v[..., 1, 0], v[..., 0, 0]], -1)], -2
    )
    return np.asarray(turned / _area(v)[..., None, None])
