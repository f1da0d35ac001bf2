"""Images at the sampling in which defects are looked for: so many pixels per lattice spacing, whatever the microscope's."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from atomreel.core.errors import InputError
from atomreel.interpret.reflections import Reflections, find_reflections
from atomreel.interpret.residual import Residual, lattice_residual

Array = npt.NDArray[np.float64]
SPACING = 9.0  # px per widest lattice spacing at which one works
COARSE = 6.0  # below so many, the image is made finer


def work_factor(lattice: Reflections) -> float:
    """Image pixels per pixel to work with; 1 where the image has 6 to 9 px per lattice spacing."""
    spacing = lattice.spacing
    return 1.0 if COARSE <= spacing <= SPACING else spacing / SPACING


def resampled(image: npt.ArrayLike, factor: float, *, shape: tuple[int, ...] | None = None) -> Array:
    """The image (Y, X) with pixels `factor` times as wide, low-passed before; its field is the same but for less than a pixel.

    shape: of the result; by default as many whole pixels as fit. Pixel (i, j) lies at `to_image` of it in the given image. Raises InputError for a factor that is no positive number.
    """
    data = np.asarray(image, dtype=float)
    if not (np.isfinite(factor) and factor > 0):
        raise InputError(f"sampling: expected a positive factor, got {factor}")
    if factor == 1 and shape in (None, data.shape):
        return data
    if factor > 1:
        data = ndimage.gaussian_filter(data, 0.4 * np.sqrt(factor**2 - 1), mode="reflect")
    size = [int(n / factor) for n in data.shape] if shape is None else shape
    grid = np.meshgrid(*(to_image(np.arange(n), factor) for n in size), indexing="ij")
    return np.asarray(ndimage.map_coordinates(data, grid, order=3, mode="reflect"))


def to_image(position: npt.ArrayLike, factor: float) -> Array:
    """Positions [px of the resampled image] → [px of the image]: pixels are squares, their centres whole numbers."""
    return np.asarray((np.asarray(position, float) + 0.5) * factor - 0.5)


def residual_at(image: npt.ArrayLike, factor: float, *, known: Reflections | None = None) -> Residual:
    """The residual of an image at the sampling to work with; known: the lattice of another frame, for noisy ones.

    Raises InputError where it has no lattice.
    """
    data = np.asarray(image, dtype=float)
    lattice = find_reflections(data, known=known)
    return lattice_residual(resampled(data, factor), reflections=lattice.scaled(1 / factor))
