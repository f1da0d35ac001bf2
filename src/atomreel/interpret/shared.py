"""A distortion that all grains of a frame share: is it the image's or the crystals' own?

A camera or a badly calibrated scan distorts every grain in the same direction of the image. A crystal that is itself less
symmetric carries its distortion with it when it turns. To first order a distortion (y, x) → (y·(1 + e), x + s·y) is the number
q = −e + i·s but for turn and size, and a crystal turned by φ has q·exp(2iφ). So of two or more grains in different
directions either the q agree, or the q·exp(−2iφ) do, up to the symmetry of the undistorted lattice. Grains whose directions differ by
little, or nearly by that symmetry, cannot tell.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.stats import chi2

from atomreel.interpret.distortion import POINTS, strain_vector, undo

FOLD = {"hexagonal": 6, "square": 4}
LARGEST = 0.1  # shear beyond which a lattice is not taken for a distorted hexagonal or square one
LEAST = 5  # windows of a grain
FLOOR = 0.001  # no grain's distortion is known better
ODDS = 100.0  # by which the image must explain the grains better than their crystals do
BAD_FIT = 0.01  # probability of a misfit as large as is still put up with
ROUNDS = 4
FloatArray = npt.NDArray[np.float64]
ComplexArray = npt.NDArray[np.complex128]


@dataclass(frozen=True)
class Shared:
    """name: class of the grains without the distortion. s, e: the distortion (`interpret.distortion`), with 1σ s_err and
    e_err. grains: how many say so. image, crystals: χ² of their distortions if it is the image's or the crystals' own."""

    name: str
    s: float
    e: float
    s_err: float
    e_err: float
    grains: int
    image: float
    crystals: float


def shared_distortion(vectors: FloatArray, labels: npt.NDArray[np.integer]) -> Shared | None:
    """The distortion of a frame, where two or more grains say that it is the image's; else None.

    vectors: (N, 2, 2) lattices of windows, rows a and b as (y, x) in the specimen's unit, NaN without one. labels: (N,)
    grain of each window, 0 for none. Windows of a grain overlap and share what bends it, so its distortion is taken to be
    known no better than one window's scatter.
    """
    known = np.isfinite(vectors).all((1, 2)) & (labels > 0)
    numbers = [k for k in np.unique(labels[known]) if (known & (labels == k)).sum() >= LEAST]
    if len(numbers) < 2:
        return None
    grains = [vectors[known & (labels == k)] for k in numbers]
    tried = [_of_class(grains, name) for name in POINTS]
    found = min(
        (one for one in tried if one is not None), key=lambda one: np.hypot(one.s, one.e), default=None
    )
    if found is None or found.image > chi2.isf(BAD_FIT, 2 * found.grains - 2):
        return None
    return found if found.crystals - found.image > 2 * np.log(ODDS) else None


def _of_class(grains: list[FloatArray], name: str) -> Shared | None:
    """As if all grains were of the class `name`; None where one of them is too far from it."""
    strains = [_strains(grain, name) for grain in grains]
    q = np.array([complex(np.median(some.real), np.median(some.imag)) for some in strains])
    if np.abs(q).max() > LARGEST:
        return None
    error = np.array([_scatter(some - middle) for some, middle in zip(strains, q, strict=True)])
    image, value = _misfit(q, error)
    own = q * np.exp(-2j * np.array([_direction(grain, name) for grain in grains]))
    crystals = min(_misfit(_alike(own, k, FOLD[name]), error)[0] for k in range(len(own)))
    spread = float(1 / np.sqrt((1 / error**2).sum()))
    s, e = value.imag, -value.real
    for _ in range(ROUNDS):  # to the first order so far
        left = [_strains(undo(grain, s, e), name) for grain in grains]
        middle = np.array([complex(np.median(some.real), np.median(some.imag)) for some in left])
        _, rest = _misfit(middle, error)
        s, e = s + rest.imag, e - rest.real
    return Shared(name, float(s), float(e), spread, spread, len(grains), image, crystals)


def _strains(grain: FloatArray, name: str) -> ComplexArray:
    """(N,) q of lattices (N, 2, 2)."""
    values = np.array([strain_vector(one, target=name)[0] for one in grain])
    return np.asarray(-values[:, 1] + 1j * values[:, 0])


def _scatter(off: ComplexArray) -> float:
    """Per component, from the median of the absolute values."""
    parts = np.concatenate([off.real, off.imag])
    return max(FLOOR, 1.4826 * float(np.median(np.abs(parts))))


def _misfit(q: ComplexArray, error: FloatArray) -> tuple[float, complex]:
    """χ² of equal q, and their weighted mean."""
    weight = 1 / error**2
    mean = complex((weight * q).sum() / weight.sum())
    return float((weight * np.abs(q - mean) ** 2).sum()), mean


def _direction(grain: FloatArray, name: str) -> float:
    """Mean direction of a [radians], modulo the turns that leave the undistorted lattice as it is."""
    turns = FOLD[name]
    phase = np.exp(1j * turns * np.arctan2(grain[:, 0, 0], grain[:, 0, 1])).mean()
    return float(np.angle(phase)) / turns


def _alike(own: ComplexArray, reference: int, turns: int) -> ComplexArray:
    """Each q in the one of its equal directions that is nearest to that of the grain `reference`."""
    variants = own[:, None] * np.exp(4j * np.pi * np.arange(turns // 2) / turns)
    best = np.abs(variants - own[reference]).argmin(1)
    return np.asarray(variants[np.arange(len(own)), best])
