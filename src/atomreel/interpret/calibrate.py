"""Pixel size and shear of an image from a lattice that is known."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from atomreel.core.errors import InputError
from atomreel.core.lattice import Lattice, reduce_vectors
from atomreel.core.material import Material
from atomreel.interpret.naming import seen_cell

Array = npt.NDArray[np.float64]
SKEWED = 0.25  # shear or ratio of pixel sides from which the lattice is taken to be another one


@dataclass(frozen=True)
class Calibration:
    """pixel: (dy, dx) [Å]; pixel_err: 1σ. shear, shear_err: the image is seen as x′ = x + shear·y [px].

    scale: mean pixel size over the one before, None if none was known. before, after: a_A, b_A, gamma_deg of
    the lattice with the pixel size known before (a_px, b_px if none) and with this calibration; known: those of
    the material.
    """

    material: str
    pixel: tuple[float, float]
    pixel_err: tuple[float, float]
    shear: float
    shear_err: float
    scale: float | None
    before: dict[str, float]
    after: dict[str, float]
    known: dict[str, float]

    def to_angstrom(self, positions: npt.ArrayLike) -> Array:
        """(…, 2) undistorted positions [Å] of pixel positions (…, 2)."""
        return np.asarray(positions, dtype=float) @ _matrix(*self.pixel, self.shear)


def calibrate(lattice: Lattice, material: Material, *, square_pixels: bool = False) -> Calibration:
    """Pixel size and shear that give `lattice` [px] the shape and size of the material's projection.

    Three numbers of the lattice (a, b, γ) fix three of the image: both sides of the pixel and the shear
    x′ = x + s·y, which is what linear drift does to a raster scan. square_pixels: one side only, in least
    squares; then `after` need not equal `known`, and its difference is a check. Rotation is free. Errors from
    the lattice's covariance. Raises InputError where no reasonable image shows this material as this lattice.
    """
    truth, _ = seen_cell(material)
    change, cost = _pairing(lattice.vectors, truth)
    if cost > SKEWED:
        raise InputError(
            f"the lattice found (b/a {lattice.b / lattice.a:.3f}, γ {lattice.gamma:.1f}°) is not that of "
            f"{material.name} (b/a {_ratio(truth):.3f}, γ {Lattice(np.zeros(2), truth).gamma:.1f}°) under any "
            "small distortion: choose the material in the image"
        )
    solve = _square if square_pixels else _oblong

    def numbers(vectors: Array) -> Array:
        return np.array(solve(change @ vectors, truth))

    dy, dx, shear = numbers(lattice.vectors)
    step = 1e-6 * lattice.a
    moves = np.eye(4).reshape(4, 2, 2) * step
    jacobian = np.stack(
        [(numbers(lattice.vectors + m) - numbers(lattice.vectors - m)) / (2 * step) for m in moves], axis=1
    )
    errors = np.sqrt(np.maximum(np.diag(jacobian @ lattice.covariance[2:, 2:] @ jacobian.T), 0))
    fixed = _cell(lattice.vectors @ _matrix(dy, dx, shear))
    old = lattice.in_angstrom()
    before = (
        {key: old[key] for key in ("a_A", "b_A", "gamma_deg")}
        if old
        else {"a_px": lattice.a, "b_px": lattice.b, "gamma_deg": lattice.gamma}
    )
    return Calibration(
        material.name,
        (float(dy), float(dx)),
        (float(errors[0]), float(errors[1])),
        float(shear),
        float(errors[2]),
        math.sqrt(dy * dx / (lattice.pixel[0] * lattice.pixel[1])) if lattice.pixel else None,
        before,
        fixed,
        _cell(truth),
    )


def _matrix(dy: float, dx: float, shear: float) -> Array:
    """Rows (y, x) [px] times this are rows (y, x) [Å], the shear undone."""
    return np.array([[dy, -shear * dx], [0.0, dx]])


def _oblong(vectors: Array, truth: Array) -> tuple[float, float, float]:
    """dy, dx, shear from T Tᵀ = V⁻¹ M Mᵀ V⁻ᵀ with T triangular: exact, rotation drops out."""
    inverse = np.linalg.inv(vectors)
    k = inverse @ truth @ truth.T @ inverse.T
    dx = math.sqrt(k[1, 1])
    shear = -k[0, 1] / k[1, 1]
    return math.sqrt(max(k[0, 0] - shear**2 * k[1, 1], 0.0)), dx, shear


def _square(vectors: Array, truth: Array) -> tuple[float, float, float]:
    """The same with dy = dx = p: Gauss–Newton on (log p, shear) for the metric of the cell."""
    dy, dx, shear = _oblong(vectors, truth)
    metric = truth @ truth.T
    weight = 1 / np.sqrt(np.outer(np.diag(metric), np.diag(metric)))
    pick = np.triu_indices(2)

    def residual(q: Array) -> Array:
        moved = vectors @ _matrix(math.exp(q[0]), math.exp(q[0]), q[1])
        return np.asarray(((moved @ moved.T - metric) * weight)[pick])

    q = np.array([0.5 * math.log(dy * dx), shear])
    for _ in range(20):
        slope = np.stack([(residual(q + e) - residual(q - e)) / 2e-6 for e in np.eye(2) * 1e-6], axis=1)
        move = np.linalg.lstsq(slope, -residual(q), rcond=None)[0]
        q = q + move
        if np.abs(move).max() < 1e-12:
            break
    return math.exp(q[0]), math.exp(q[0]), float(q[1])


def _pairing(vectors: Array, truth: Array) -> tuple[Array, float]:
    """The integer change of basis whose distortion is least, and that distortion."""
    best, least = np.eye(2), math.inf
    for entries in itertools.product((-1, 0, 1), repeat=4):
        change = np.array(entries, dtype=float).reshape(2, 2)
        if abs(abs(np.linalg.det(change)) - 1) > 1e-9:
            continue
        dy, dx, shear = _oblong(change @ vectors, truth)
        if dy <= 0:
            continue
        cost = math.hypot(math.log(dy / dx), shear)
        if cost < least - 1e-9:
            best, least = change, cost
    return best, least


def _cell(vectors: Array) -> dict[str, float]:
    reduced = Lattice(np.zeros(2), reduce_vectors(vectors) @ vectors)
    return {"a_A": reduced.a, "b_A": reduced.b, "gamma_deg": reduced.gamma}


def _ratio(vectors: Array) -> float:
    a, b = np.hypot(*vectors.T)
    return float(b / a)
