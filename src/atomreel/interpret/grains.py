"""Grains of a symmetry map: which windows show one lattice, where it changes, and what each grain is.

As in orientation maps of diffraction (EBSD; ISO 13067), a grain is a connected region within which the lattice changes by
less than a few degrees from one window to the next. Windows overlap, so across a boundary the lattice seems to turn
gradually; the change is therefore taken over a whole window, between windows on either side that share no pixels.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import ndimage
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from atomreel.core.errors import InputError
from atomreel.core.field import Field
from atomreel.interpret.disorientation import lattice_change, right_handed
from atomreel.interpret.grainarea import grain_area
from atomreel.interpret.graintable import boundary_table, grain_table

FloatArray = npt.NDArray[np.float64]
Labels = npt.NDArray[np.int32]
BoolArray = npt.NDArray[np.bool_]
TOLERANCE = 3.0  # degrees; a strain of 5 % counts as much
SIGMAS = 3.0  # of the errors of two windows that are granted beside the tolerance
LEAST = 0.15  # of a window's area that the places of a grain's windows cover
VECTORS = ("a_y_px", "a_x_px", "b_y_px", "b_x_px")
ERRORS = ("a_px_err", "b_px_err", "gamma_deg_err", "angle_deg_err")
_AROUND = ((0, 1), (1, 0), (1, 1), (1, -1))


@dataclass(frozen=True)
class Grains:
    """labels: (Gy, Gx) grain of each window, 0 for boundaries and where there is no lattice. change: (Gy, Gx) how far the
    lattice changes across the window [degrees], NaN without a lattice. area: a finer Field with the map `grain`, by which
    areas are measured: every place belongs to the grain whose lattice is strongest there, 0 where none has half of its
    amplitude. table, boundaries: `grains` and `boundaries` of `core.tables`, frame 0."""

    labels: Labels
    change: FloatArray
    area: Field
    table: pd.DataFrame
    boundaries: pd.DataFrame


def find_grains(
    image: npt.NDArray[np.floating],
    field: Field,
    *,
    window: int,
    pixel: tuple[float, float] | None = None,
    tolerance: float = TOLERANCE,
) -> Grains:
    """Grains of one frame (Y, X).

    field: its maps p_<class>, the vectors of each window's lattice a_y_px … b_x_px, and a_px_err, b_px_err, gamma_deg_err,
    angle_deg_err, as `predict.symmetry.map_symmetry` gives them. window: its side [px]. pixel: (dy, dx) [Å].
    tolerance: [degrees] by which the lattice may change across a window inside a grain.
    A grain much narrower than one and a half windows is not seen. Raises InputError.
    """
    needed = ("p_noise", *VECTORS, *ERRORS)
    missing = [name for name in needed if name not in field.maps]
    if missing:
        raise InputError(f"grains need a map with {', '.join(needed)}; it lacks {', '.join(missing)}")
    if window < 1 or not 0 < tolerance < 30:
        raise InputError(f"window ({window}) must be above 0 px and tolerance ({tolerance}) in 0…30 degrees")
    vectors, errors = lattice_vectors(field)
    noise = ~(np.asarray(field.maps["p_noise"], dtype=float) < 0.5)
    sound = ~noise & np.isfinite(vectors).all((-1, -2)) & (errors < tolerance / 2)
    vectors = np.where(sound[..., None, None], vectors, np.nan)
    trusted = sound & _agrees(vectors, errors, tolerance)
    vectors = np.where(trusted[..., None, None], vectors, np.nan)
    height, width = (max(1, round(window / 2 / step)) for step in field.step)
    change = _change(vectors, errors, (height, width))
    labels = _connected(trusted & ~(change > tolerance), vectors, errors, tolerance)
    labels = _large(labels, LEAST * window**2 / (field.step[0] * field.step[1]))
    labels = _merged(labels, vectors, reach=(height, width), tolerance=tolerance)
    labels = _filled(labels, ~noise & ~(change > tolerance))
    labels, area = _settled(labels, grain_area(image, field, vectors, labels=labels, window=window), field)
    table = grain_table(
        field, vectors, labels=labels, area=area, shape=image.shape, window=window, pixel=pixel
    )
    edges = boundary_table(vectors, labels=labels, area=area, table=table, pixel=pixel)
    return Grains(labels, change, area, table, edges)


def lattice_vectors(field: Field) -> tuple[FloatArray, FloatArray]:
    """(Gy, Gx, 2, 2) right-handed vectors a, b as (y, x) [px], and (Gy, Gx) their largest relative error [degrees]."""
    maps = {name: np.asarray(field.maps[name], dtype=float) for name in (*VECTORS, *ERRORS)}
    vectors = np.stack([maps[name] for name in VECTORS], -1).reshape(*field.shape, 2, 2)
    length = np.hypot(vectors[..., 0], vectors[..., 1])
    relative = [np.degrees(maps[f"{n}_px_err"] / length[..., k]) for k, n in enumerate("ab")]
    return right_handed(vectors), np.max([*relative, maps["gamma_deg_err"], maps["angle_deg_err"]], axis=0)


def _moved(values: npt.NDArray[Any], by: tuple[int, int]) -> npt.NDArray[Any]:
    """values[i + by] at i; at the border the outermost ones."""
    rows, columns = (np.clip(np.arange(n) + d, 0, n - 1) for n, d in zip(values.shape[:2], by, strict=True))
    return values[rows][:, columns]


def _agrees(vectors: FloatArray, errors: FloatArray, tolerance: float) -> BoolArray:
    """Windows whose lattice is that of at least half of those around them that have one; a lone window agrees."""
    like, seen = np.zeros(errors.shape), np.zeros(errors.shape)
    for dy, dx in (*_AROUND, *((-dy, -dx) for dy, dx in _AROUND)):
        there = _inside(errors.shape, (dy, dx))
        other, its = _moved(vectors, (dy, dx)), _moved(errors, (dy, dx))
        with np.errstate(invalid="ignore"):
            off = lattice_change(vectors, other) - SIGMAS * np.hypot(errors, its)
            seen += there & np.isfinite(off)
            like += there & (off <= tolerance)
    return (like >= 0.5 * seen) & ((like > 0) | (errors.size == 1))


def _inside(shape: tuple[int, ...], by: tuple[int, int]) -> BoolArray:
    """Where i + by is on the grid."""
    rows, columns = (
        (np.arange(n) + d >= 0) & (np.arange(n) + d < n) for n, d in zip(shape, by, strict=False)
    )
    return rows[:, None] & columns


def _change(vectors: FloatArray, errors: FloatArray, reach: tuple[int, int]) -> FloatArray:
    """Largest change of the lattice between windows `reach` on either side, in four directions, beyond what their errors
    explain [degrees]; NaN where a window has no lattice."""
    found = np.where(np.isfinite(vectors).all((-1, -2)), 0.0, np.nan)
    for dy, dx in _AROUND:
        near = 1.0 if 0 in (dy, dx) else np.sqrt(0.5)
        by = tuple(
            int(np.sign(d)) * max(1, round(near * r)) if d else 0
            for d, r in zip((dy, dx), reach, strict=True)
        )
        ahead, back = (by[0], by[1]), (-by[0], -by[1])
        both = np.hypot(_moved(errors, ahead), _moved(errors, back))
        with np.errstate(invalid="ignore"):
            off = lattice_change(_moved(vectors, ahead), _moved(vectors, back)) - both
        found = np.where(np.isfinite(off), np.maximum(found, off), found)
    return found


def _connected(core: BoolArray, vectors: FloatArray, errors: FloatArray, tolerance: float) -> Labels:
    """Numbers of the connected regions of `core` in which neighbours have one lattice."""
    number = np.arange(core.size).reshape(core.shape)
    rows, columns = [], []
    for by in ((0, 1), (1, 0)):
        both = core & _moved(core, by) & _inside(core.shape, by)
        off = lattice_change(vectors, _moved(vectors, by))
        with np.errstate(invalid="ignore"):
            both &= off <= tolerance + SIGMAS * np.hypot(errors, _moved(errors, by))
        rows.append(number[both])
        columns.append(_moved(number, by)[both])
    pairs = np.concatenate(rows), np.concatenate(columns)
    graph = coo_array((np.ones(len(pairs[0])), pairs), shape=(core.size, core.size))
    _, group = connected_components(graph, directed=False)
    return np.where(core, group.reshape(core.shape) + 1, 0).astype(np.int32)


def _large(labels: Labels, least: float) -> Labels:
    """Without groups of fewer than `least` windows, where there are more than a few windows at all."""
    count = np.bincount(labels.ravel())
    return np.where(count[labels] >= max(1, min(round(least), labels.size // 2)), labels, 0).astype(np.int32)


def _merged(labels: Labels, vectors: FloatArray, *, reach: tuple[int, int], tolerance: float) -> Labels:
    """Groups less than a window apart whose lattices differ by less than the tolerance are one grain that a row of defects or
    bad windows divides."""
    numbers = [int(n) for n in np.unique(labels) if n]
    if len(numbers) < 2:
        return labels
    middle = {n: _typical(vectors[labels == n]) for n in numbers}
    disc = np.ones((4 * reach[0] + 1, 4 * reach[1] + 1), bool)  # a window to every side
    near = {n: ndimage.binary_dilation(labels == n, disc) for n in numbers}
    pairs = [
        (i, j)
        for k, i in enumerate(numbers)
        for j in numbers[k + 1 :]
        if lattice_change(middle[i], middle[j]) < tolerance and (near[i] & (labels == j)).any()
    ]
    graph = coo_array(
        (np.ones(len(pairs)), tuple(np.array(pairs, dtype=int).reshape(-1, 2).T)),
        shape=(max(numbers) + 1,) * 2,
    )
    _, group = connected_components(graph, directed=False)
    return np.where(labels > 0, group[labels] + 1, 0).astype(np.int32)


def _typical(vectors: FloatArray) -> FloatArray:
    """(2, 2) the lattice of (N, 2, 2) with the least median change to others (of some of them)."""
    some = vectors[:: -(-len(vectors) // 25)]
    return np.asarray(some[np.median(lattice_change(some[:, None], some), axis=1).argmin()])


def _filled(labels: Labels, free: BoolArray) -> Labels:
    """Single windows that were fitted badly inside a grain taken into it."""
    ring = np.ones((3, 3), int)
    ring[1, 1] = 0
    for _ in range(2):
        out = labels.copy()
        for number in np.unique(labels[labels > 0]):
            own = ndimage.convolve((labels == number).astype(int), ring, mode="constant")
            other = ndimage.convolve(((labels > 0) & (labels != number)).astype(int), ring, mode="constant")
            out[(labels == 0) & free & (own >= 5) & (other == 0)] = number
        labels = out
    return labels


def _settled(labels: Labels, area: Field, field: Field) -> tuple[Labels, Field]:
    """Windows whose centre lies outside their grain belong to none; grains numbered from 1, the largest area first."""
    owner = area.maps["grain"]
    rows, columns = (
        np.clip(np.rint((at - origin) / step), 0, n - 1).astype(int)
        for at, origin, step, n in zip(field.positions(), area.origin, area.step, owner.shape, strict=True)
    )
    labels = np.where(owner[np.ix_(rows, columns)] == labels, labels, 0)
    most = max(int(labels.max(initial=0)), int(owner.max(initial=0))) + 1
    windows, size = (np.bincount(values.ravel(), minlength=most) for values in (labels, owner))
    there = [n for n in range(1, most) if windows[n]]
    new = np.zeros(most, np.int32)
    new[sorted(there, key=lambda n: (-size[n], n))] = np.arange(1, len(there) + 1)
    return new[labels], Field({"grain": new[owner]}, origin=area.origin, step=area.step)
