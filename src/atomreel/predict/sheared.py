"""The most symmetric class that each window may have in the specimen, if imaging sheared it by no more than a bound.

The window by window form of `interpret.distortion`: the hyperbolic distance d of the lattice's shape τ = (b/a)·exp(iγ) from a
class is the least change of shape that leads there, a simple shear of 2·sinh(d/2) along whichever axis.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch

from atomreel.core.errors import InputError
from atomreel.core.field import Field
from atomreel.nets.bravais import symmetry_distances
from atomreel.simulate.bravais import CLASSES

SURE = 2.6  # standard errors granted beside the bound


def within_shear(
    field: Field, *, bound: float, pixel: tuple[float, float] | None = None
) -> npt.NDArray[np.float32]:
    """(Gy, Gx) number in CLASSES of the most symmetric class within `bound`, a shear such as 0.02.

    A square or hexagonal lattice comes before a rectangular or centred one, of two equals the nearer one, oblique where
    none is within the bound and 2.6σ of the lattice; noise where the network says so or no lattice was found.
    field: as `predict.symmetry.map_symmetry` gives it. pixel: (dy, dx) [Å], for pixels that are not square. Raises
    InputError.
    """
    if not (np.isfinite(bound) and 0 <= bound < 1):
        raise InputError(f"a bound on the shear must be 0 or more and below 1, got {bound}; 0.02 is 2 %")
    shears, error = class_shears(field, pixel=pixel)
    inside = {name: shear <= bound + SURE * error for name, shear in shears.items()}
    found = np.full(field.shape, CLASSES.index("oblique"), np.float32)
    for pair in (("rectangular", "centred"), ("square", "hexagonal")):
        first, second = (np.where(inside[name], shears[name], np.inf) for name in pair)
        nearer = np.where(first <= second, CLASSES.index(pair[0]), CLASSES.index(pair[1]))
        found = np.where(inside[pair[0]] | inside[pair[1]], nearer, found).astype(np.float32)
    none = ~(np.asarray(field.maps["p_noise"]) < 0.5) | ~np.isfinite(error)
    return np.where(none, CLASSES.index("noise"), found).astype(np.float32)


def class_shears(
    field: Field, *, pixel: tuple[float, float] | None = None
) -> tuple[dict[str, npt.NDArray[np.float64]], npt.NDArray[np.float64]]:
    """The least simple shear that leads to each window's lattice from each class, (Gy, Gx), and its 1σ error."""
    maps = {name: np.asarray(values, dtype=float) for name, values in field.maps.items()}
    scale = np.ones(2) if pixel is None else np.asarray(pixel, dtype=float)
    first, second = (maps[f"{n}_x_px"] * scale[1] + 1j * maps[f"{n}_y_px"] * scale[0] for n in "ab")
    first, second = _reduced(first, second)
    known = np.isfinite(first)
    tau = torch.from_numpy(np.where(known, second, 1j) / np.where(known, first, 1))
    away = 2 * np.sinh(symmetry_distances(tau).abs().numpy() / 2)
    error = np.sqrt(
        np.square(maps["a_px_err"] / maps["a_px"])
        + np.square(maps["b_px_err"] / maps["b_px"])
        + np.square(np.radians(maps["gamma_deg_err"]))
    )
    square, rectangular, unit, half, hexagonal = np.moveaxis(away, -1, 0)
    centred = np.minimum(unit, half)
    shears = {"square": square, "rectangular": rectangular, "centred": centred, "hexagonal": hexagonal}
    return shears, np.where(known, error, np.nan)


def _reduced(
    first: npt.NDArray[np.complexfloating], second: npt.NDArray[np.complexfloating]
) -> tuple[npt.NDArray[np.complexfloating], npt.NDArray[np.complexfloating]]:
    """Gauss's reduction: |first| ≤ |second|, 60° ≤ angle between them ≤ 90°."""
    with np.errstate(invalid="ignore"):
        for _ in range(4):
            swap = np.abs(first) > np.abs(second)
            first, second = np.where(swap, second, first), np.where(swap, first, second)
            second = second - np.rint((second * first.conj()).real / np.abs(first) ** 2) * first
        swap = np.abs(first) > np.abs(second)
        first, second = np.where(swap, second, first), np.where(swap, first, second)
        return first, np.where((second * first.conj()).real < 0, -second, second)
