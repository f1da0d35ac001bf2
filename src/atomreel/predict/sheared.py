"""The most symmetric class that each window may have in the specimen, if imaging sheared it by no more than a bound.

The window by window form of `interpret.distortion`: the hyperbolic distance d of the lattice's shape τ = (b/a)·exp(iγ) from a
class is the least change of shape that leads there, a simple shear of 2·sinh(d/2) along whichever axis. For a scan whose
slow axis is known it is √(s² + e²) of the drift instead, and drift that was measured is undone first.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from atomreel.core.errors import InputError
from atomreel.core.field import Field
from atomreel.interpret.distortion import Scan, scan_shears, undo
from atomreel.nets.bravais import symmetry_distances
from atomreel.simulate.bravais import CLASSES

SURE = 2.6  # standard errors granted beside the bound


@dataclass(frozen=True)
class Imaging:
    """What is known of how a frame was imaged. pixel: (dy, dx) [Å], for pixels that are not square. scan: "rows" where the slow
    axis is y, "columns" where it is x, "any" where every linear distortion may have acted. drift: s and e (see
    `interpret.distortion`) to be undone first, with their errors drift_err."""

    pixel: tuple[float, float] | None = None
    scan: Scan = "any"
    drift: tuple[float, float] = (0.0, 0.0)
    drift_err: tuple[float, float] = (0.0, 0.0)


AS_SEEN = Imaging()


def within_shear(field: Field, *, bound: float, imaging: Imaging = AS_SEEN) -> npt.NDArray[np.float32]:
    """(Gy, Gx) number in CLASSES of the most symmetric class within `bound`, a shear such as 0.02.

    A square or hexagonal lattice comes before a rectangular or centred one, of two equals the nearer one, oblique where
    none is within the bound and 2.6σ of the lattice; noise where the network says so or no lattice was found.
    field: as `predict.symmetry.map_symmetry` gives it. Raises InputError.
    """
    if not (np.isfinite(bound) and 0 <= bound < 1):
        raise InputError(f"a bound on the shear must be 0 or more and below 1, got {bound}; 0.02 is 2 %")
    shears, error = class_shears(field, imaging=imaging)
    inside = {name: shear <= bound + SURE * error for name, shear in shears.items()}
    found = np.full(field.shape, CLASSES.index("oblique"), np.float32)
    for pair in (("rectangular", "centred"), ("square", "hexagonal")):
        first, second = (np.where(inside[name], shears[name], np.inf) for name in pair)
        nearer = np.where(first <= second, CLASSES.index(pair[0]), CLASSES.index(pair[1]))
        found = np.where(inside[pair[0]] | inside[pair[1]], nearer, found).astype(np.float32)
    none = ~(np.asarray(field.maps["p_noise"]) < 0.5) | ~np.isfinite(error)
    return np.where(none, CLASSES.index("noise"), found).astype(np.float32)


def class_shears(
    field: Field, *, imaging: Imaging = AS_SEEN
) -> tuple[dict[str, npt.NDArray[np.float64]], npt.NDArray[np.float64]]:
    """The least distortion that leads to each window's lattice from each class, (Gy, Gx), and its 1σ error: a simple shear, or
    √(s² + e²) of a scan."""
    maps = {name: np.asarray(values, dtype=float) for name, values in field.maps.items()}
    scale = np.ones(2) if imaging.pixel is None else np.asarray(imaging.pixel, dtype=float)
    slow, fast = (1, 0) if imaging.scan == "columns" else (0, 1)
    seen = np.stack(
        [np.stack([maps[f"{n}_{'yx'[k]}_px"] * scale[k] for k in (slow, fast)], -1) for n in "ab"], -2
    )
    seen = undo(seen, *imaging.drift)
    first, second = _reduced(seen[..., 0, 1] + 1j * seen[..., 0, 0], seen[..., 1, 1] + 1j * seen[..., 1, 0])
    known = np.isfinite(first)
    error = np.sqrt(
        np.square(maps["a_px_err"] / maps["a_px"])
        + np.square(maps["b_px_err"] / maps["b_px"])
        + np.square(np.radians(maps["gamma_deg_err"]))
        + np.square(imaging.drift_err).sum()
    )
    first, second = np.where(known, first, 1), np.where(known, second, 1j)
    if imaging.scan == "any":
        shears = _simple_shears(second / first)
    else:
        pair = np.stack([first, second], -1)
        found = scan_shears(np.stack([pair.imag, pair.real], -1).reshape(-1, 2, 2))
        shears = {name: values.reshape(first.shape) for name, values in found.items()}
    return shears, np.where(known, error, np.nan)


def _simple_shears(tau: npt.NDArray[np.complexfloating]) -> dict[str, npt.NDArray[np.float64]]:
    away = 2 * np.sinh(symmetry_distances(torch.from_numpy(tau)).abs().numpy() / 2)
    square, rectangular, unit, half, hexagonal = np.moveaxis(away, -1, 0)
    centred = np.minimum(unit, half)
    return {"square": square, "rectangular": rectangular, "centred": centred, "hexagonal": hexagonal}


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
