"""The averaged unit cell: all cells of a crystal folded into one, over one frame or many."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from atomreel.core.errors import InputError
from atomreel.core.image import Image
from atomreel.core.lattice import Lattice

Array = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class AverageCell:
    """mean, error: (A, B) mean brightness and its 1σ at fractions (i + ½)/A of a and (j + ½)/B of b; NaN where no
    pixel fell. count: (A, B) pixels. vectors: (2, 2) of the lattice of the first frame [px]."""

    mean: Array
    error: Array
    count: Array
    vectors: Array


@dataclass(frozen=True, eq=False)
class CellSums:
    """Running sums of a folded cell: count, Σv and Σv² per bin. Adding frames gives new sums."""

    count: Array
    total: Array
    square: Array
    vectors: Array


def average_cell(image: Image | npt.ArrayLike, lattice: Lattice, *, oversample: float = 2.0) -> AverageCell:
    """Fold all pixels of one image (Y, X) into the cell of `lattice`; `oversample` bins per pixel along a and b."""
    return finish(accumulate(start(lattice, oversample=oversample), image, lattice))


def start(lattice: Lattice, *, oversample: float = 2.0) -> CellSums:
    """Empty sums, with the bins that suit `lattice`."""
    if oversample <= 0:
        raise InputError(f"oversample: a positive number of bins per pixel, got {oversample}")
    bins = [max(2, round(oversample * length)) for length in (lattice.a, lattice.b)]
    zero = np.zeros(bins)
    return CellSums(zero, zero, zero, np.array(lattice.vectors))


def accumulate(
    sums: CellSums,
    image: Image | npt.ArrayLike,
    lattice: Lattice,
    *,
    mask: npt.NDArray[np.bool_] | None = None,
) -> CellSums:
    """`sums` with the pixels of one more frame (Y, X), folded by that frame's own lattice. mask: pixels to use."""
    data = np.asarray(image, dtype=np.float64)
    if data.ndim != 2:
        raise InputError(f"image: two dimensions expected, got shape {data.shape}")
    grid = np.moveaxis(np.indices(data.shape, dtype=float), 0, -1)
    fraction = lattice.fractional(grid) % 1.0
    shape = sums.count.shape
    index = np.minimum((fraction * shape).astype(int), np.array(shape) - 1)
    good = np.isfinite(data) if mask is None else np.isfinite(data) & mask
    flat = np.ravel_multi_index((index[..., 0][good], index[..., 1][good]), shape)
    values = data[good]
    n = sums.count.size

    def fold(weights: Array | None) -> Array:
        return np.bincount(flat, weights, minlength=n).reshape(shape).astype(float)

    return CellSums(
        sums.count + fold(None), sums.total + fold(values), sums.square + fold(values**2), sums.vectors
    )


def finish(sums: CellSums) -> AverageCell:
    """Mean and 1σ error of the mean of each bin (pixels of a bin taken as independent)."""
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = np.where(sums.count > 0, sums.total / sums.count, np.nan)
        variance = np.where(sums.count > 1, (sums.square - sums.count * mean**2) / (sums.count - 1), np.nan)
        error = np.sqrt(np.maximum(variance, 0) / sums.count)
    return AverageCell(mean, error, sums.count, sums.vectors)


def render_cell(cell: AverageCell, *, repeat: int = 2, pixels: int = 128) -> Array:
    """(pixels, pixels) picture of `repeat` cells in true shape, a along its own direction on screen."""
    span = repeat * float(np.linalg.norm(cell.vectors, axis=1).max())
    axis = (np.arange(pixels) - (pixels - 1) / 2) / pixels * span
    grid = np.stack(np.meshgrid(axis, axis, indexing="ij"), -1)
    fraction = (grid @ np.linalg.inv(cell.vectors)) % 1.0
    index = np.minimum((fraction * cell.mean.shape).astype(int), np.array(cell.mean.shape) - 1)
    return np.asarray(cell.mean[index[..., 0], index[..., 1]])
