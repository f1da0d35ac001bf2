"""How much of the field is hole: by brightness and by the absence of columns, side by side."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.ndimage import distance_transform_edt, gaussian_filter, label
from scipy.spatial import Delaunay, QhullError, cKDTree

from atomreel.core.errors import InputError
from atomreel.core.image import Image
from atomreel.interpret.openings import Openings

Array = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]
BIMODAL = 0.83  # share of the variance that two levels must explain; one normal level gives 0.64, a ramp 0.75
OUTLYING = 6.0  # robust σ by which a small hole must stand out
WIDE = 1.6  # typical gaps: a place further than that from every column is in a hole


@dataclass(frozen=True, eq=False)
class HoleFraction:
    """intensity, columns: share of the field that is hole, 0 … 1, by brightness and by missing columns (NaN
    without a table of atoms), each with its 1σ. vacancies: share in groups of empty sites too small for a hole
    (NaN without `openings`). mask: (Y, X) holes by brightness. openings: the sites judged, or None.
    gaps: (Y, X) holes by missing columns where there is no lattice, or None."""

    intensity: float
    intensity_err: float
    columns: float
    columns_err: float
    vacancies: float
    mask: Bools
    openings: Openings | None
    gaps: Bools | None

    @property
    def disagreement(self) -> float:
        """By missing columns less by brightness, share of the field."""
        return self.columns - self.intensity

    @property
    def disagreement_err(self) -> float:
        """1σ that the errors of both allow."""
        return float(np.hypot(self.columns_err, self.intensity_err))

    @property
    def column_mask(self) -> Bools | None:
        """(Y, X) holes by missing columns."""
        return self.gaps if self.openings is None else self.openings.mask(self.shape)

    @property
    def shape(self) -> tuple[int, int]:
        return self.mask.shape[0], self.mask.shape[1]


def hole_fraction(
    image: Image | npt.ArrayLike,
    *,
    bright: bool = True,
    atoms: pd.DataFrame | None = None,
    spacing_px: float | None = None,
    openings: Openings | None = None,
) -> HoleFraction:
    """Share of holes in one image (Y, X), twice.

    bright: atoms are brighter than vacuum. atoms: table of the frame (y, x), for the second estimate and, by
    its nearest neighbours, the smoothing. spacing_px: distance between columns; default from atoms, else 1/40
    of the shorter side. openings: `find_openings` of the frame. By brightness: smoothed over a spacing, halfway
    between the level of the crystal and that of the holes. By columns: the sites of `openings` in groups large
    enough to be a hole; without a lattice, places further than 1.6 typical gaps from all columns, grown back to half a
    spacing from the columns around them. Where there are `openings` a dark place smaller than their smallest
    hole is no hole either.
    """
    data = np.asarray(image, dtype=np.float64)
    if data.ndim != 2:
        raise InputError(f"image: two dimensions expected, got shape {data.shape}")
    points = np.zeros((0, 2)) if atoms is None else atoms[["y", "x"]].to_numpy(float)
    points = points[np.isfinite(points).all(axis=1)]
    if spacing_px is None:
        spacing_px = (
            float(np.median(cKDTree(points).query(points, k=2)[0][:, 1]))
            if len(points) > 4
            else min(data.shape) / 40
        )
    least = spacing_px**2 if openings is None else (openings.least - 0.5) * openings.unit * data.size
    mask = dark_regions(data if bright else -data, spacing_px=spacing_px, least=least)
    gaps = None
    columns = columns_err = vacancies = float("nan")
    if openings is not None:
        columns, columns_err, vacancies = openings.holes, openings.holes_err, openings.vacancies
    elif atoms is not None:
        gaps = empty_regions(points, data.shape, spacing_px=spacing_px)
        columns, columns_err = float(gaps.mean()), _rim(gaps, spacing_px) / data.size
    return HoleFraction(
        float(mask.mean()),
        _rim(mask, spacing_px) / data.size,
        columns,
        columns_err,
        vacancies,
        mask,
        openings,
        gaps,
    )


def dark_regions(data: Array, *, spacing_px: float, least: float | None = None) -> Bools:
    """(Y, X) where the image, smoothed over the lattice, lies on a second, darker level, in pieces of at least
    `least` px² (a square of the spacing)."""
    finite = np.isfinite(data)
    if not finite.any():
        return np.zeros(data.shape, dtype=bool)
    weight = gaussian_filter(finite.astype(float), 0.7 * spacing_px)
    smooth = gaussian_filter(np.where(finite, data, 0.0), 0.7 * spacing_px) / np.maximum(weight, 1e-9)
    seen = smooth[finite]
    level, share = _two_levels(seen)
    if share < BIMODAL:
        middle = float(np.median(seen))
        level = middle - OUTLYING * max(1.4826 * float(np.median(np.abs(seen - middle))), 1e-12)
        if (seen < level).sum() < spacing_px**2:
            return np.zeros(data.shape, dtype=bool)
    # The floor of a small hole is blurred with its rim: its darkest tenth is the level. (Otsu's own threshold
    # would lean to the crystal, for the rim raises the mean of the holes.)
    low = seen < level
    level = 0.5 * (float(np.median(seen[~low])) + float(np.percentile(seen[low], 10)))
    return _large(smooth < level, spacing_px**2 if least is None else least)


def empty_regions(points: Array, shape: tuple[int, int], *, spacing_px: float) -> Bools:
    """(Y, X) places without columns, up to half a spacing from those around them."""
    try:
        mesh = Delaunay(points) if len(points) >= 4 else None
    except QhullError:
        mesh = None
    if mesh is None:
        return np.ones(shape, dtype=bool)
    corner = points[mesh.simplices]
    sides = np.linalg.norm(corner - np.roll(corner, 1, axis=1), axis=2)
    u, v = corner[:, 1] - corner[:, 0], corner[:, 2] - corner[:, 0]
    area = np.abs(u[:, 0] * v[:, 1] - u[:, 1] * v[:, 0]) / 2
    typical = float(np.median(sides.prod(1) / np.maximum(4 * area, 1e-9)))
    grid = np.moveaxis(np.indices(shape), 0, -1).reshape(-1, 2)
    distance = cKDTree(points).query(grid)[0].reshape(shape)
    core = distance > WIDE * typical
    if not core.any():
        return np.zeros(shape, dtype=bool)
    near = distance_transform_edt(~core) <= WIDE * typical - 0.5 * spacing_px
    return np.asarray(near | core)


def _two_levels(values: Array) -> tuple[float, float]:
    """Otsu's threshold and the share of the variance that it explains."""
    count, edges = np.histogram(values, bins=256)
    middle = 0.5 * (edges[1:] + edges[:-1])
    below = np.cumsum(count)[:-1].astype(float)
    total = count.sum()
    sums = np.cumsum(count * middle)
    above = total - below
    with np.errstate(invalid="ignore", divide="ignore"):
        between = below * above * (sums[:-1] / below - (sums[-1] - sums[:-1]) / above) ** 2
    between = np.nan_to_num(between)
    best = int(np.argmax(between))
    variance = float((count * (middle - sums[-1] / total) ** 2).sum()) * total
    return float(edges[best + 1]), float(between[best] / variance) if variance > 0 else 0.0


def _large(mask: Bools, least: float) -> Bools:
    number, count = label(mask)
    if count == 0:
        return mask
    size = np.bincount(number.ravel())
    size[0] = 0
    return np.asarray(size[number] >= least)


def _rim(mask: Bools, spacing_px: float) -> float:
    """Pixels by which the area is uncertain: its rim is one part in √(number of columns on it) of half a spacing."""
    edge = float((mask[1:] != mask[:-1]).sum() + (mask[:, 1:] != mask[:, :-1]).sum()) * np.pi / 4
    return float(0.5 * spacing_px * edge / max(np.sqrt(edge / spacing_px), 1.0))
